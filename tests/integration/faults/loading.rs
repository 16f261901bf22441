//! Calls that fail while a model is loaded: one line, exit code 1, and nothing left on the GPU.

use libtest_mimic::{Failed, Trial};

use super::*;
use crate::common::paper::left;
use crate::common::{data, expect_error_line, output, stderr};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for Case { function, error, nths } in CASES {
        trials.extend(injected(&format!("faults::loading::{}_fails", spoken(function)), move |place| {
            nths.iter().try_for_each(|&nth| fails(place, function, error, nth))
        }));
    }
    trials.extend(injected("faults::loading::an_allocation_without_memory_tells_the_numbers", |place| {
        [1, 2, 13, 35].into_iter().try_for_each(|nth| out_of_memory(place, nth))
    }));
    trials
}

/// A function of the driver, how it fails, and which of its calls.
struct Case {
    function: &'static str,
    error: &'static DriverError,
    nths: &'static [u32],
}

const CASES: &[Case] = &[
    Case { function: "cuInit", error: &UNKNOWN, nths: &[1] },
    Case { function: "cuDeviceGetCount", error: &UNKNOWN, nths: &[1] },
    Case { function: "cuDevicePrimaryCtxRetain", error: &OUT_OF_MEMORY, nths: &[1] },
    Case { function: "cuStreamCreateWithPriority", error: &OUT_OF_MEMORY, nths: &[1] },
    Case { function: "cuMemAlloc_v2", error: &INVALID_VALUE, nths: &[1, 13, 35] },
    Case { function: "cuMemAllocHost_v2", error: &OUT_OF_MEMORY, nths: &[1, 2] },
    Case { function: "cuEventCreate", error: &OUT_OF_MEMORY, nths: &[1, 2, 4] },
    Case { function: "cuMemcpyHtoDAsync_v2", error: &LAUNCH_FAILED, nths: &[1, 9, 20] },
    Case { function: "cuMemsetD8Async", error: &INVALID_VALUE, nths: &[1, 10, 20] },
    Case { function: "cuMemGetInfo_v2", error: &UNKNOWN, nths: &[1] },
    Case { function: "cuPointerGetAttributes", error: &INVALID_VALUE, nths: &[1, 13, 35] },
    // Every kernel is compiled, loaded and used once.
    Case { function: "cuLinkCreate_v2", error: &OUT_OF_MEMORY, nths: &[1, 5] },
    Case { function: "cuLinkAddData_v2", error: &INVALID_PTX, nths: &[1, 5] },
    Case { function: "cuLinkComplete", error: &UNKNOWN, nths: &[1, 5] },
    Case { function: "cuModuleLoadDataEx", error: &INVALID_IMAGE, nths: &[1, 5] },
    Case { function: "cuModuleGetFunction", error: &NOT_FOUND, nths: &[1, 9] },
    Case { function: "cuLaunchKernel", error: &LAUNCH_FAILED, nths: &[1, 50, 300] },
    Case { function: "cuMemcpyDtoHAsync_v2", error: &LAUNCH_FAILED, nths: &[1, 9] },
    Case { function: "cuStreamSynchronize", error: &UNKNOWN, nths: &[5, 9] },
];

/// Loads the model with one call failing; the only line on stderr that is no log.
fn load(room: &Room, rule: Rule<'_>, parts: &[&str]) -> Result<String, Failed> {
    let mut command = room.serve(&data("llama-f16.gguf"))?;
    command.env("WORKER_ORCD_CACHE", room.path("no kernels yet"));
    without_cublas(&mut command, room);
    let faults = Faults::of(&mut command, room.path("faults"));
    faults.plan(&[rule])?;
    let done = output(&mut command)?;
    assert_eq!(faults.fired().len(), 1, "no call failed: {done:?}");
    assert!(done.stdout.is_empty(), "{done:?}");
    expect_error_line(&done, parts);
    if room.place == Place::Paper && room.log().exists() {
        for (name, count) in left(&room.log())? {
            let done = ["kernels", "replays", "allocations", "frees"].contains(&name.as_str());
            assert!(done || count == 0, "{name} left: {count}");
        }
    }
    let line = stderr(&done).lines().find(|line| line.starts_with("error: "));
    Ok(line.unwrap_or_default().to_owned())
}

fn fails(place: Place, function: &str, error: &DriverError, nth: u32) -> Result<(), Failed> {
    let rule = Rule { function, nth, action: error.number };
    load(&Room::new(place)?, rule, &[spoken(function), error.told])?;
    Ok(())
}

fn out_of_memory(place: Place, nth: u32) -> Result<(), Failed> {
    let room = Room::new(place)?;
    let rule = Rule { function: "cuMemAlloc_v2", nth, action: "2" };
    let line = load(&room, rule, &["error: out of memory on cuda:0: "])?;
    let told = crate::memory::Shortage::read(&line)?;
    assert!(told.needed > 0, "{line}");
    // The driver is asked how much is free, and the ledger what for the rest was taken: none of it before the first.
    assert_eq!(told.in_use() == 0, nth == 1, "{line}");
    if place == Place::Paper {
        told.expect_free(2048 << 20, u64::from(nth) - 1);
    }
    Ok(())
}
