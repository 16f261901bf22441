//! An executable that uses `cust`, on machines with no driver, with a broken one and with a made-up one.
//!
//! A process opens its driver once, so each case runs in a child: this executable again, with another first library
//! called `libcuda.so.1`. A real driver on the machine is hidden by it.

use std::ffi::c_void;
use std::path::Path;
use std::process::Command;
use std::ptr;

use cuda_loader as _;
use cust::CudaFlags;
use cust_raw::{self as raw, CUresult};
use libtest_mimic::{Arguments, Failed, Trial};
use tempfile::TempDir;

/// Set in a child: it reports and ends.
const CHILD: &str = "CUDA_LOADER_TEST_CHILD";

/// A driver of a few functions that answer what the cases expect.
const MADE_UP: &str = r#"
#![allow(non_snake_case)]
use std::ffi::c_void;
#[unsafe(no_mangle)] extern "C" fn cuDriverGetVersion(version: &mut i32) -> i32 { *version = 13020; 0 }
#[unsafe(no_mangle)] extern "C" fn cuInit(flags: u32) -> i32 { if flags == 0 { 0 } else { 1 } }
#[unsafe(no_mangle)] extern "C" fn cuDeviceGetCount(count: &mut i32) -> i32 { *count = 2; 0 }
#[unsafe(no_mangle)] extern "C" fn cuMemAlloc_v2(out: &mut u64, bytes: usize) -> i32 { *out = bytes as u64 + 1; 0 }
#[unsafe(no_mangle)] extern "C" fn cuMemAllocManaged(_: *mut u64, _: usize, _: u32) -> i32 { 0 }
#[unsafe(no_mangle)] extern "C" fn cuMemHostAlloc(out: &mut *mut c_void, _: usize, flags: u32) -> i32 {
    *out = flags as usize as *mut c_void; 0
}
#[unsafe(no_mangle)] extern "C" fn cuMemHostRegister_v2(_: *mut c_void, _: usize, _: u32) -> i32 { 0 }
#[unsafe(no_mangle)] extern "C" fn cuMemHostGetDevicePointer_v2(_: *mut u64, _: *mut c_void, _: u32) -> i32 { 0 }
#[unsafe(no_mangle)] extern "C" fn cuCtxSynchronize() -> i32 { 912 }
"#;

fn main() {
    if std::env::var_os(CHILD).is_some() {
        return report();
    }
    let rustc = Command::new("rustc").arg("--version").output().is_ok();
    // Without a compiler there is no library to make; such a run counts these as ignored.
    let needs_rustc =
        |trial: Trial| if rustc { trial } else { trial.with_kind("no rustc").with_ignored_flag(true) };
    let trials = vec![
        Trial::test("the_executable_does_not_need_libcuda_to_start", does_not_need_libcuda),
        Trial::test("without_a_driver_every_call_is_an_ordinary_error", without_a_driver),
        needs_rustc(Trial::test("a_library_that_is_no_driver_is_named", library_without_functions)),
        needs_rustc(Trial::test("calls_reach_the_driver_with_their_arguments", reaches_the_driver)),
        needs_rustc(Trial::test("managed_and_mapped_memory_is_refused", refuses_host_memory)),
        needs_rustc(Trial::test("a_function_the_driver_lacks_is_not_supported", lacks_a_function)),
        needs_rustc(Trial::test("a_code_that_the_enum_lacks_is_unknown", unknown_code)),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn does_not_need_libcuda() -> Result<(), Failed> {
    let output = Command::new("ldd").arg(std::env::current_exe()?).output()?;
    let needed = String::from_utf8(output.stdout)?;
    assert!(needed.contains("libc.so"), "ldd answered: {needed}");
    assert!(!needed.contains("libcuda"), "{needed}");
    Ok(())
}

fn without_a_driver() -> Result<(), Failed> {
    let dir = TempDir::new()?;
    // What the loader finds first is not a library, and it looks no further.
    std::fs::write(dir.path().join("libcuda.so.1"), "not a library")?;
    let report = run_child(dir.path())?;
    expect(&report, "driver: no NVIDIA driver found (");
    expect(&report, "libcuda.so.1");
    expect(&report, "install the driver");
    expect(&report, "init: Err(NotInitialized) \"no NVIDIA driver is loaded\"");
    expect(&report, "alloc: CUDA_ERROR_NOT_INITIALIZED");
    expect(&report, "launch: CUDA_ERROR_NOT_INITIALIZED");
    Ok(())
}

fn library_without_functions() -> Result<(), Failed> {
    let report = with_driver("")?;
    expect(&report, "libcuda.so.1 is not a usable NVIDIA driver: it has no function cuDriverGetVersion");
    expect(&report, "init: Err(NotInitialized)");
    Ok(())
}

fn reaches_the_driver() -> Result<(), Failed> {
    let report = with_driver(MADE_UP)?;
    expect(&report, "libcuda.so.1 13.2");
    expect(&report, "init: Ok(())");
    expect(&report, "devices: Ok(2)");
    expect(&report, "alloc: CUDA_SUCCESS 4097");
    expect(&report, "pinned: CUDA_SUCCESS 0x1");
    Ok(())
}

fn refuses_host_memory() -> Result<(), Failed> {
    let report = with_driver(MADE_UP)?;
    for call in ["managed", "mapped", "mapped too", "registered", "device pointer"] {
        expect(&report, &format!("{call}: CUDA_ERROR_NOT_SUPPORTED"));
    }
    Ok(())
}

fn lacks_a_function() -> Result<(), Failed> {
    expect(&with_driver(MADE_UP)?, "launch: CUDA_ERROR_NOT_SUPPORTED");
    Ok(())
}

fn unknown_code() -> Result<(), Failed> {
    expect(&with_driver(MADE_UP)?, "synchronize: CUDA_ERROR_UNKNOWN");
    Ok(())
}

/// The child: what the driver's functions answer, a line each.
fn report() {
    match cuda_loader::driver() {
        Ok(driver) => println!("driver: {} {}", driver.path().display(), driver.version()),
        Err(error) => println!("driver: {error}"),
    }
    let init = cust::init(CudaFlags::empty());
    println!("init: {init:?} {}", init.err().map(|error| error.to_string()).unwrap_or_default());
    println!("devices: {:?}", cust::device::Device::num_devices());

    let (mut device, mut host) = (0, ptr::null_mut());
    // SAFETY: places for one value each; no other function of a driver is called.
    unsafe {
        let code = raw::cuMemAlloc_v2(&raw mut device, 4096);
        println!("alloc: {code:?} {device}");
        println!("managed: {:?}", raw::cuMemAllocManaged(&raw mut device, 4096, 1));
        let code = raw::cuMemHostAlloc(&raw mut host, 4096, raw::CU_MEMHOSTALLOC_PORTABLE);
        println!("pinned: {code:?} {host:?}");
        println!("mapped: {:?}", raw::cuMemHostAlloc(&raw mut host, 4096, raw::CU_MEMHOSTALLOC_DEVICEMAP));
        println!("mapped too: {:?}", raw::cuMemHostAlloc(&raw mut host, 4096, 7));
        let mut page = [0_u8; 64];
        let address: *mut c_void = page.as_mut_ptr().cast();
        println!(
            "registered: {:?}",
            raw::cuMemHostRegister_v2(address, 64, raw::CU_MEMHOSTREGISTER_DEVICEMAP)
        );
        println!("device pointer: {:?}", raw::cuMemHostGetDevicePointer_v2(&raw mut device, address, 0));
        println!("synchronize: {:?}", raw::cuCtxSynchronize());
        println!("launch: {:?}", launch());
    }
}

fn launch() -> CUresult {
    let config = cuda_loader::LaunchConfig {
        grid: [1; 3],
        block: [1; 3],
        shared_bytes: 0,
        stream: ptr::null_mut(),
        attributes: ptr::null_mut(),
        attribute_count: 0,
    };
    // SAFETY: neither driver of these tests has the function, so nothing is launched.
    unsafe { cuda_loader::launch_kernel_ex(&config, ptr::null_mut(), ptr::null_mut()) }
}

/// The report of a child whose driver is `source`, compiled.
fn with_driver(source: &str) -> Result<String, Failed> {
    let dir = TempDir::new()?;
    let file = dir.path().join("driver.rs");
    std::fs::write(&file, source)?;
    let output = Command::new("rustc")
        .args(["--edition", "2024", "--crate-type", "cdylib", "-o"])
        .arg(dir.path().join("libcuda.so.1"))
        .arg(&file)
        .output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    run_child(dir.path())
}

fn run_child(libraries: &Path) -> Result<String, Failed> {
    let output =
        Command::new(std::env::current_exe()?).env(CHILD, "1").env("LD_LIBRARY_PATH", libraries).output()?;
    assert!(output.status.success(), "the child ended with {}: {output:?}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

#[track_caller]
fn expect(report: &str, part: &str) {
    assert!(report.contains(part), "no {part:?} in:\n{report}");
}
