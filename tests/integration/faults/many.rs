//! Memory after many failures is what it was before.

use std::fs;

use libtest_mimic::{Failed, Trial};
use runtime::device::Device;
use worker_orcd::images::IMAGES;

use super::serving::{Faulty, request, text, undisturbed};
use super::*;
use crate::place::alone_at;

pub(crate) fn trials() -> Vec<Trial> {
    let test = |place| COMPILED.map_err(Failed::from).and_then(|()| fifty(place));
    gated(alone_at("faults::fifty_failures_leave_nothing", &Place::GPUS, test))
}

/// Bytes of the host that a process may gain: its allocator keeps some of what was freed.
const SLACK: u64 = 8 << 20;

/// Functions that every request calls, with calls of each.
const CALLS: [(&str, [u32; 2]); 5] = [
    ("cuLaunchKernel", [5, 130]),
    ("cuGraphLaunch", [3, 70]),
    ("cuMemcpyHtoDAsync_v2", [2, 210]),
    ("cuMemcpyDtoHAsync_v2", [4, 80]),
    ("cuStreamSynchronize", [6, 90]),
];

fn fifty(place: Place) -> Result<(), Failed> {
    let want = undisturbed(place)?;
    let faulty = Faulty::start(place, &[])?;
    let gpu = (place == Place::Cuda).then(|| Device::cuda(0, IMAGES)).transpose()?;
    let free = || gpu.as_ref().map(|gpu| gpu.memory().map(|(_, free)| free)).transpose();
    let round = || -> Result<(), Failed> {
        for (function, nths) in CALLS {
            for nth in nths {
                faulty.faults.plan(&[Rule { function, nth, action: "719" }])?;
                assert_eq!(faulty.until_it_fails(&want)?.last.0, "error");
            }
        }
        Ok(())
    };
    // All that is made once is there after the first of each.
    round()?;
    let (before, resident) = (free()?, resident(faulty.server.id())?);
    for _ in 0..5 {
        round()?;
    }
    assert_eq!(free()?, before, "free bytes of the GPU");
    let gained = self::resident(faulty.server.id())?.saturating_sub(resident);
    eprintln!("note: failures: on {place} {gained} bytes more of the host after 50 of them");
    assert!(gained < SLACK, "{gained} bytes of the host are gone");
    faulty.expect_well(&want)?;
    let disturbed = faulty.end()?;

    let quiet = Faulty::start(place, &[])?;
    text(&quiet.server.complete(&request("a", 7))?)?;
    let quiet = quiet.end()?;
    assert_eq!(disturbed.get("allocations"), quiet.get("allocations"), "a failure allocates nothing");
    Ok(())
}

/// Bytes of a process that are in memory.
fn resident(process: u32) -> Result<u64, Failed> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes << 10)
}
