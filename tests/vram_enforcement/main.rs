//! That what a model is made of lives in the memory of its GPU, is verified there, and is given back.
//!
//! Each case runs on a GPU and on the paper GPU, in a child process, this executable again, one at a time: a process opens
//! its driver once, and the free memory of a GPU is everybody's. Without a GPU its cases are ignored, unless
//! `WORKER_ORCD_REQUIRE` has `cuda`.

#[path = "../common/mod.rs"]
mod common;
mod cut;
mod driver;
mod kv_cache;
mod leaks;
mod memory;
mod pointers;

use std::process::{Command, Stdio};
use std::sync::Mutex;

use libtest_mimic::{Arguments, Failed, Trial};
use runtime::device::{Device, Purpose};
use tempfile::TempDir;
use worker_orcd::images::IMAGES;

use common::paper;

/// Set in a child to the case's name.
const CHILD: &str = "VRAM_ENFORCEMENT_CASE";

/// A case: its name, and what the child does.
type Case = (&'static str, fn() -> Result<(), Failed>);

const CASES: [Case; 19] = [
    ("device_memory_passes", pointers::device_memory_passes),
    ("memory_of_the_host_fails", pointers::memory_of_the_host_fails),
    ("managed_memory_fails", pointers::managed_memory_fails),
    ("pinned_memory_fails", pointers::pinned_memory_fails),
    ("null_fails", pointers::null_fails),
    ("bytes_past_an_allocation_fail", pointers::bytes_past_an_allocation_fail),
    ("the_loader_refuses_managed_and_mapped_memory", pointers::the_loader_refuses),
    ("a_kernel_gets_no_address_of_the_host", pointers::a_kernel_gets_no_address_of_the_host),
    ("staging_is_bounded_and_freed", memory::staging_is_bounded_and_freed),
    ("an_allocation_is_aligned_zeroed_and_checked", memory::an_allocation_is_aligned_zeroed_and_checked),
    ("every_allocation_is_in_the_ledger_until_it_is_freed", memory::every_allocation_is_in_the_ledger),
    ("a_loaded_worker_is_verified", memory::a_loaded_worker_is_verified),
    ("an_estimate_is_what_a_load_takes", memory::an_estimate_is_what_a_load_takes),
    ("the_kv_cache_is_what_the_formula_says", kv_cache::is_what_the_formula_says),
    ("an_overflow_is_an_error_before_it_happens", kv_cache::an_overflow_is_an_error),
    ("an_upload_of_many_parts_is_whole_or_tells_what_failed", cut::an_upload_of_many_parts),
    ("a_file_cut_short_while_it_is_loaded_is_an_error", cut::a_file_cut_short),
    ("a_thousand_loads_leave_nothing", leaks::loads),
    ("ten_thousand_requests_leave_nothing", leaks::requests),
];

/// One case at a time.
static TURN: Mutex<()> = Mutex::new(());

fn main() {
    if let Ok(name) = std::env::var(CHILD) {
        let (_, run) = CASES.iter().find(|case| case.0 == name).expect("a case of this name");
        // Keeps the driver's context, so that the paper GPU sums up once, at the end.
        let context = Device::cuda(0, IMAGES).expect("a device");
        let _word = context.alloc::<u32>(Purpose::Inputs, 1).expect("a word");
        if let Err(error) = run() {
            panic!("{}", error.message().unwrap_or("it failed"));
        }
        return;
    }
    let no_gpu = Device::cuda(0, IMAGES).is_err();
    let mut trials = Vec::new();
    for (name, _) in CASES {
        let on_paper = move || in_child(name, true);
        trials.push(Trial::test(format!("vram_enforcement::{name}/paper"), on_paper));
        if name == "a_kernel_gets_no_address_of_the_host" {
            // A GPU would not say; the paper GPU looks at the arguments of every launch, in every test that runs on it.
            continue;
        }
        let on_gpu = Trial::test(format!("vram_enforcement::{name}/cuda:0"), move || in_child(name, false));
        let kind = if no_gpu { "no CUDA device" } else { "" };
        trials.push(on_gpu.with_kind(kind).with_ignored_flag(no_gpu && !common::required("cuda")));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn in_child(name: &str, on_paper: bool) -> Result<(), Failed> {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let dir = TempDir::new()?;
    let log = dir.path().join("left");
    let mut child = Command::new(std::env::current_exe()?);
    child.env(CHILD, name).stdin(Stdio::null());
    if on_paper {
        paper::on_paper(&mut child, &paper::paper_driver()?, &log);
    }
    let output = child.output()?;
    if !output.status.success() {
        return Err(format!("{}: {}", output.status, common::stderr(&output)).into());
    }
    // What was measured, for whoever reads the errors as well.
    eprint!("{}", common::stdout(&output));
    if on_paper {
        paper::expect_nothing_left(&log)?;
    }
    Ok(())
}
