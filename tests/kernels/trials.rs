//! Runs cases on teams and devices.

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use libtest_mimic::{Failed, Trial};
use runtime::device::Device;
use worker_orcd::images::IMAGES;

use crate::cases::expect::same_bits;
use crate::cases::{Case, Entry, Scale, Stage};

/// The first GPU, for one trial at a time; or why there is none.
static GPU: LazyLock<Result<Mutex<Device>, String>> =
    LazyLock::new(|| Device::cuda(0, IMAGES).map(Mutex::new).map_err(|error| error.to_string()));

/// Some cases of one kernel or family, as three trials: on the host, on the checking team, on the GPU.
pub(crate) fn suite(
    name: &str,
    cases: impl Fn(Scale) -> Vec<Box<dyn Case>> + Clone + Send + 'static,
) -> Vec<Trial> {
    suite_where(name, cases, |_| true)
}

/// A [`suite`] of kernels that not every GPU can run.
pub(crate) fn suite_where(
    name: &str,
    cases: impl Fn(Scale) -> Vec<Box<dyn Case>> + Clone + Send + 'static,
    runs: fn(&Device) -> bool,
) -> Vec<Trial> {
    let lacking = gpu().is_ok_and(|gpu| !runs(&gpu));
    let [on_host, on_check, on_gpu] = [(); 3].map(|()| cases.clone());
    vec![
        Trial::test(format!("{name}/host"), move || each(on_host(Scale::Full), host)),
        Trial::test(format!("{name}/check"), move || each(on_check(Scale::Small), check)),
        Trial::test(format!("{name}/cuda"), move || {
            let gpu = gpu()?;
            each(on_gpu(Scale::Full), |case| cuda(case, &gpu))
        })
        .with_kind(if GPU.is_err() {
            "no CUDA device"
        } else if lacking {
            "no GPU that can"
        } else {
            ""
        })
        .with_ignored_flag((GPU.is_err() && !required()) || lacking),
    ]
}

/// A relation that holds on every device, as a trial for each.
pub(crate) fn relation(
    name: &str,
    test: impl Fn(&Device) -> Result<(), Failed> + Clone + Send + 'static,
) -> Vec<Trial> {
    let on_gpu = test.clone();
    vec![
        Trial::test(format!("{name}/host"), move || test(&Device::cpu(0))),
        Trial::test(format!("{name}/cuda"), move || on_gpu(&*gpu()?))
            .with_kind(if GPU.is_ok() { "" } else { "no CUDA device" })
            .with_ignored_flag(GPU.is_err() && !required()),
    ]
}

/// Names the GPU, where there is one.
pub(crate) fn introduce_gpu() {
    if let (Ok(gpu), Ok(driver)) = (gpu(), cuda_loader::driver()) {
        println!("{}: {}, driver for CUDA {}", gpu.name(), gpu.description(), driver.version());
    }
}

/// Every output's bytes after one launch.
pub(crate) fn run(case: &dyn Case, device: &Device, entry: Entry) -> Result<Vec<Vec<u8>>, String> {
    let mut stage = Stage::new(device);
    case.stage(&mut stage).run(entry).map_err(|error| error.to_string())?;
    device.synchronize().map_err(|error| error.to_string())?;
    stage.results()
}

/// Whether a missing GPU is a failure.
fn required() -> bool {
    std::env::var("WORKER_ORCD_REQUIRE").is_ok_and(|list| list.split(',').any(|word| word == "cuda"))
}

fn gpu() -> Result<MutexGuard<'static, Device>, String> {
    let gpu = GPU.as_ref().map_err(Clone::clone)?;
    // A trial that failed leaves the device as good as it was, or every later call says why not.
    Ok(gpu.lock().unwrap_or_else(PoisonError::into_inner))
}

fn each(cases: Vec<Box<dyn Case>>, test: impl Fn(&dyn Case) -> Result<(), String>) -> Result<(), Failed> {
    for case in cases {
        test(&*case).map_err(|error| format!("{}: {error}", case.label()))?;
    }
    Ok(())
}

/// The baseline meets the oracle; AVX2, and the CPU device with several threads, agree with it bit by bit.
fn host(case: &dyn Case) -> Result<(), String> {
    let cpu = Device::cpu(3);
    let baseline = run(case, &cpu, Entry::Baseline)?;
    let expected = case.oracle();
    assert_eq!(baseline.len(), expected.len(), "an oracle for each output");
    for (got, expect) in baseline.iter().zip(&expected) {
        expect.check(got)?;
    }
    agree("the CPU device", &run(case, &cpu, Entry::Device(&cpu))?, &baseline)?;
    #[cfg(target_arch = "x86_64")]
    if runtime::device::Simd::detect() == runtime::device::Simd::Avx2 {
        agree("AVX2", &run(case, &cpu, Entry::Avx2)?, &baseline)?;
    }
    Ok(())
}

/// The checking team finds nothing, and agrees with the baseline.
fn check(case: &dyn Case) -> Result<(), String> {
    let cpu = Device::cpu(1);
    agree("the checking team", &run(case, &cpu, Entry::Check)?, &run(case, &cpu, Entry::Baseline)?)
}

/// The GPU agrees with the host.
fn cuda(case: &dyn Case, gpu: &Device) -> Result<(), String> {
    let cpu = Device::cpu(0);
    agree("CUDA", &run(case, gpu, Entry::Device(gpu))?, &run(case, &cpu, Entry::Device(&cpu))?)
}

fn agree(who: &str, got: &[Vec<u8>], want: &[Vec<u8>]) -> Result<(), String> {
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        same_bits(got, want).map_err(|error| format!("{who}, output {i}: {error}"))?;
    }
    Ok(())
}
