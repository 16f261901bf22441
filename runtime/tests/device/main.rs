//! A GPU's side of the device, on a made-up driver: what is asked of the driver, in which order, and that no byte of a
//! transfer is lost. A process opens its driver once, so each case runs in a child, this executable again.

mod gemm;

use std::path::Path;
use std::process::Command;

use cuda_std::{Block, Geometry, kernel};
use libtest_mimic::{Arguments, Failed, Trial};
use runtime::device::{Device, DeviceError, Image, Purpose};
use tempfile::TempDir;

/// Set in a child to the case's name.
const CHILD: &str = "DEVICE_TEST_CASE";

/// A number, so that the driver can tell launches apart.
#[derive(Clone, Copy)]
#[repr(C)]
struct Number(u64);

fn small(_: &Number) -> Geometry {
    Geometry { grid: [3, 2], scratch: 1000 }
}

fn large(number: &Number) -> Geometry {
    Geometry { grid: [1, 1], scratch: number.0 as usize }
}

#[inline(always)]
fn nothing<B: Block>(_: &B, _: &Number) {}

kernel! {
    /// With little scratch memory.
    SMALL = test__small(Number), lanes: 64, geometry: small, body: nothing
}
kernel! {
    /// With as much scratch memory as its number says.
    LARGE = test__large(Number), lanes: 32, geometry: large, body: nothing
}
kernel! {
    /// Of a family whose PTX does not compile.
    BROKEN = broken__small(Number), lanes: 32, geometry: small, body: nothing
}

static IMAGES: &[Image] = &[
    Image {
        family: "test",
        chip: "sm_80",
        ptx: ".visible .entry test__small(\n)\n{\n}\n.visible .entry test__large(\n)\n{\n}\n",
    },
    Image { family: "broken", chip: "sm_80", ptx: "broken\n.visible .entry broken__small(\n)\n{\n}\n" },
];

/// A case: what the child does, and what the driver must have been asked.
type Case = (&'static str, fn(&Path) -> Result<(), Failed>, fn(&[&str]) -> Result<(), Failed>);

const CASES: &[Case] = &[
    ("no_byte_of_a_transfer_is_lost", transfers, transfers_asked),
    ("a_capture_records_and_a_replay_is_one_call", graphs, graphs_asked),
    ("a_capture_that_fails_is_ended", failing_captures, failing_captures_asked),
    ("kernels_are_compiled_once", cache, cache_asked),
    ("large_scratch_memory_is_allowed_once", scratch, scratch_asked),
    ("the_compilers_complaint_is_in_the_error", broken, |_| Ok(())),
    ("an_old_driver_is_refused_by_version", old_driver, |_| Ok(())),
    ("a_thread_makes_the_context_current_once", threads, threads_asked),
    ("only_algorithms_that_keep_the_order_are_admitted", |_| gemm::products(), gemm::products_asked),
    ("without_cublas_there_is_no_gemm", |_| gemm::without_cublas(), |_| Ok(())),
];

fn main() {
    if let Ok(name) = std::env::var(CHILD) {
        let (_, run, _) = CASES.iter().find(|case| case.0 == name).expect("a case of this name");
        let folder = std::env::current_dir().expect("the case's folder");
        if let Err(error) = run(&folder) {
            panic!("{}", error.message().unwrap_or("it failed"));
        }
        return;
    }
    let rustc = Command::new("rustc").arg("--version").output().is_ok();
    // Without a compiler there is no driver to make; such a run counts these as ignored.
    let trials = CASES.iter().map(|&(name, _, asked)| {
        let trial = Trial::test(name, move || in_child(name, asked));
        if rustc { trial } else { trial.with_kind("no rustc").with_ignored_flag(true) }
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}

fn in_child(name: &str, asked: fn(&[&str]) -> Result<(), Failed>) -> Result<(), Failed> {
    let dir = TempDir::new()?;
    let log = dir.path().join("log");
    library(dir.path(), "libcuda.so.1", include_str!("driver.rs"))?;
    if name.contains("algorithms") {
        library(dir.path(), "libcublas.so.13", include_str!("cublas.rs"))?;
        std::fs::copy(dir.path().join("libcublas.so.13"), dir.path().join("libcublasLt.so.13"))?;
    }
    let mut child = Command::new(std::env::current_exe()?);
    child.env(CHILD, name).env("LD_LIBRARY_PATH", dir.path()).env("DRIVER_LOG", &log);
    child.env("WORKER_ORCD_CUBLAS", dir.path());
    if name.contains("old_driver") {
        child.env("DRIVER_VERSION", "10020");
    }
    let output = child.current_dir(dir.path()).output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(format!("{}: {text}", output.status).into());
    }
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    asked(&lines).map_err(|error| format!("{}\n{log}", error.message().unwrap_or_default()).into())
}

/// Compiles a library for the child.
fn library(folder: &Path, name: &str, source: &str) -> Result<(), Failed> {
    let file = folder.join(name).with_extension("rs");
    std::fs::write(&file, source)?;
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "-O", "--crate-type", "cdylib", "--crate-name", "made_up", "-o"]);
    let output = rustc.arg(folder.join(name)).arg(file).output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// `len` bytes that differ from one seed to the next.
fn bytes(len: usize, seed: u64) -> Vec<u8> {
    (0..len as u64).map(|i| ((i + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

fn transfers(_: &Path) -> Result<(), Failed> {
    let device = Device::cuda(0, IMAGES)?;
    let len = 40 * 1024 * 1024 + 13;
    let mut buffer = device.alloc::<u8>(Purpose::Weights, len)?;
    let mut want = bytes(len, 1);
    // Large, small, and what is just above and below each limit; each source is overwritten at once.
    let mut upload = |at: usize, len: usize, seed: u64| -> Result<(), Failed> {
        let mut source = bytes(len, seed);
        device.upload(&mut buffer, at, &source)?;
        want[at..at + len].copy_from_slice(&source);
        source.fill(0);
        Ok(())
    };
    upload(0, len, 1)?;
    for i in 0..3000 {
        upload(i * 1777 + 5, 1 + i * 7 % 1500, i as u64)?;
    }
    for (i, len) in [65535, 65536, 65537, 262_144, 262_145, 1 << 20, (1 << 20) + 1, (16 << 20) + 1]
        .into_iter()
        .enumerate()
    {
        upload(i * 3_000_001, len, i as u64 + 5000)?;
    }
    assert!(device.staging_bytes() <= Device::STAGING_LIMIT);
    assert!(device.download(&buffer, 0, len)? == want, "a large download");
    for (at, len) in [(0, 1), (12345, 65536), (777, 65537), (len - 9, 9), (5, 0)] {
        assert!(device.download(&buffer, at, len)? == want[at..at + len], "{len} bytes at {at}");
    }
    device.fill(&mut buffer, 100, 50, 7)?;
    want[100..150].fill(7);
    assert!(device.download(&buffer, 0, 200)? == want[..200], "a fill");

    let before = device.staging_bytes();
    device.upload(&mut buffer, 0, &bytes(len, 9))?;
    device.release_staging()?;
    assert_eq!(before - device.staging_bytes(), 32 << 20, "both large buffers");
    assert!(device.download(&buffer, 0, len)? == bytes(len, 9), "an upload before the release");
    Ok(())
}

fn transfers_asked(log: &[&str]) -> Result<(), Failed> {
    let (mut now, mut most) = (0i64, 0);
    for line in log {
        match line.split_once(' ') {
            Some(("pinned", bytes)) => now += bytes.parse::<i64>()?,
            Some(("unpinned", bytes)) => now -= bytes.parse::<i64>()?,
            _ => {}
        }
        most = most.max(now);
    }
    assert_eq!((now, most), (0, Device::STAGING_LIMIT as i64), "pinned at the end, and at most");
    Ok(())
}

fn launch(device: &Device, number: u64) -> Result<(), DeviceError> {
    // SAFETY: the made-up driver only notes it.
    unsafe { device.launch(&SMALL, &Number(number)) }
}

fn graphs(_: &Path) -> Result<(), Failed> {
    let device = Device::cuda(0, IMAGES)?;
    launch(&device, 1)?;
    let graph = device.capture(|| {
        launch(&device, 2)?;
        launch(&device, 3)
    })?;
    let graph = graph.ok_or("no graph")?;
    for _ in 0..2 {
        // SAFETY: the made-up driver only notes it.
        unsafe { device.replay(&graph)? };
    }
    launch(&device, 4)?;
    // The graph keeps what it needs.
    drop(device);
    drop(graph);

    let on_cpu = Device::cpu(1).capture(|| Err(DeviceError::Capturing { call: "never called" }))?;
    assert!(on_cpu.is_none());
    Ok(())
}

/// The log from the first launch on, without what the case leaves open.
fn after_start<'l>(log: &[&'l str]) -> Vec<&'l str> {
    log.iter().copied().filter(|line| !line.starts_with("current") && !line.starts_with("compiled")).collect()
}

const GRID: &str = "3x2 of 64, 1256 bytes";

fn graphs_asked(log: &[&str]) -> Result<(), Failed> {
    let launches = ["launched", "recorded", "recorded", "launched"];
    let [a, b, c, d]: [String; 4] =
        std::array::from_fn(|i| format!("{} test__small({}) {GRID}", launches[i], i + 1));
    let want = [
        &a,
        "capture",
        &b,
        &c,
        "captured",
        "instantiated",
        "graph destroyed",
        "replayed",
        "replayed",
        &d,
        "executable destroyed",
        "context released",
    ];
    assert_eq!(after_start(log), want);
    Ok(())
}

fn failing_captures(_: &Path) -> Result<(), Failed> {
    let device = Device::cuda(0, IMAGES)?;
    let mut buffer = device.alloc::<u32>(Purpose::Inputs, 4)?;
    let error = device.capture(|| Err(DeviceError::NoDriver("on purpose".to_owned()))).err();
    assert_eq!(error, Some(DeviceError::NoDriver("on purpose".to_owned())));
    for call in ["an upload", "a download", "waiting", "an allocation", "another capture"] {
        let refused = device.capture(|| match call {
            "an upload" => device.upload(&mut buffer, 0, &[1]),
            "a download" => device.download(&buffer, 0, 1).map(drop),
            "waiting" => device.synchronize(),
            "an allocation" => device.alloc::<u8>(Purpose::Inputs, 1).map(drop),
            _ => device.capture(|| Ok::<_, DeviceError>(())).map(drop),
        });
        assert_eq!(refused.err(), Some(DeviceError::Capturing { call }));
    }
    let panic = std::panic::AssertUnwindSafe(|| device.capture(|| -> Result<(), DeviceError> { panic!() }));
    assert!(std::panic::catch_unwind(panic).is_err());
    // And everything works as before.
    device.upload(&mut buffer, 0, &[1, 2, 3, 4])?;
    assert_eq!(device.download(&buffer, 1, 3)?, [2, 3, 4]);
    Ok(())
}

fn failing_captures_asked(log: &[&str]) -> Result<(), Failed> {
    let count = |line| log.iter().filter(|&&l| l == line).count();
    assert_eq!((count("capture"), count("captured"), count("graph destroyed")), (7, 7, 7));
    assert_eq!(count("instantiated"), 0);
    Ok(())
}

fn cache(folder: &Path) -> Result<(), Failed> {
    for number in 1..=2 {
        let device = Device::cuda_with_cache(0, IMAGES, Some(folder.join("images")))?;
        launch(&device, number)?;
        launch(&device, number)?;
    }
    for file in std::fs::read_dir(folder.join("images"))? {
        std::fs::write(file?.path(), "nonsense")?;
    }
    let device = Device::cuda_with_cache(0, IMAGES, Some(folder.join("images")))?;
    Ok(launch(&device, 3)?)
}

fn cache_asked(log: &[&str]) -> Result<(), Failed> {
    let steps: Vec<&str> = log.iter().filter_map(|line| line.split_once(' ')).map(|(what, _)| what).collect();
    let steps: Vec<&str> = steps.into_iter().filter(|what| ["compiled", "launched"].contains(what)).collect();
    let [compiled, launched] = ["compiled", "launched"];
    assert_eq!(steps, [compiled, launched, launched, launched, launched, compiled, launched]);
    Ok(())
}

fn scratch(_: &Path) -> Result<(), Failed> {
    let device = Device::cuda(0, IMAGES)?;
    for bytes in [1000, 48 * 1024 - 256, 48 * 1024 - 255, 100_000, 60_000, 100_000] {
        // SAFETY: the made-up driver only notes it.
        unsafe { device.launch(&LARGE, &Number(bytes))? };
    }
    Ok(())
}

fn scratch_asked(log: &[&str]) -> Result<(), Failed> {
    let allowed: Vec<&str> = log.iter().copied().filter(|line| line.starts_with("allowed")).collect();
    assert_eq!(allowed, ["allowed test__large 49153", "allowed test__large 100256"]);
    Ok(())
}

fn broken(_: &Path) -> Result<(), Failed> {
    let device = Device::cuda(0, IMAGES)?;
    // SAFETY: the made-up driver only notes it.
    let error = unsafe { device.launch(&BROKEN, &Number(0)) }.err().ok_or("it compiled")?.to_string();
    for part in ["cannot compile broken__small", "INVALID_PTX", "line 1: broken as it says"] {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
    Ok(())
}

fn old_driver(_: &Path) -> Result<(), Failed> {
    let error = Device::cuda(0, IMAGES).err().ok_or("it opened")?.to_string();
    for part in ["libcuda.so.1", "CUDA 10.2", "CUDA 11.0 or newer"] {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
    Ok(())
}

fn threads(_: &Path) -> Result<(), Failed> {
    let device = Device::cuda(0, IMAGES)?;
    for number in 0..100 {
        launch(&device, number)?;
    }
    let device =
        std::thread::spawn(move || (0..100).try_for_each(|number| launch(&device, number)).map(|()| device));
    let device = device.join().expect("no panic")?;
    // Another context in between.
    drop(Device::cuda(0, IMAGES)?);
    Ok(launch(&device, 7)?)
}

fn threads_asked(log: &[&str]) -> Result<(), Failed> {
    // cust's own when it takes a context, ours after that; and one for each change after.
    let current = log.iter().filter(|line| line.starts_with("current")).count();
    assert_eq!(current, 2 + 1 + 2 + 1);
    Ok(())
}
