//! A made-up `libcuda` that the device's test runs on: memory of the host, and copies done as late as CUDA allows, so that
//! whoever reuses memory too early loses data. What matters is written to the file `DRIVER_LOG`.

#![allow(non_snake_case)]

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::io::Write;
use std::sync::Mutex;

const INVALID: c_int = 1;
const NOT_FOUND: c_int = 500;
const INVALID_PTX: c_int = 218;

// A device's memory comes from the host's allocator, so that a sanitizer knows what nobody freed.
unsafe extern "C" {
    fn aligned_alloc(alignment: usize, bytes: usize) -> *mut u8;
    fn free(memory: *mut u8);
}

/// What waits on the stream.
enum Work {
    Copy { to: usize, from: usize, len: usize },
    Fill { to: usize, byte: u8, len: usize },
    Event(usize),
}

struct State {
    queue: Vec<Work>,
    pinned: Vec<(usize, usize)>,
    /// What was pinned and is free: kept, so that a copy that comes too late finds no data.
    unpinned: Vec<usize>,
    /// Names of kernels, which functions point to.
    names: Vec<Box<String>>,
    capturing: bool,
    next: usize,
    log: Option<(usize, usize)>,
    image: Vec<u8>,
    /// Made-up microseconds that have passed.
    clock: usize,
    /// When events were recorded.
    times: Vec<(usize, usize)>,
}

static STATE: Mutex<State> = Mutex::new(State {
    queue: vec![],
    pinned: vec![],
    unpinned: vec![],
    names: vec![],
    capturing: false,
    next: 0,
    log: None,
    image: vec![],
    clock: 0,
    times: vec![],
});

fn note(line: String) {
    let path = std::env::var("DRIVER_LOG").unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    writeln!(file, "{line}").unwrap();
}

impl State {
    /// A handle that was never there.
    fn handle(&mut self) -> usize {
        self.next += 1;
        self.next * 0x1000
    }

    /// Does the work up to the last mark of this event; all without one.
    fn work(&mut self, event: Option<usize>) {
        let is_mark = |work: &Work| matches!(work, Work::Event(e) if Some(*e) == event);
        let end = match event {
            Some(_) => self.queue.iter().rposition(is_mark).map_or(0, |at| at + 1),
            None => self.queue.len(),
        };
        for work in self.queue.drain(..end) {
            match work {
                Work::Copy { to, from, len } => unsafe {
                    std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, len)
                },
                Work::Fill { to, byte, len } => unsafe { std::ptr::write_bytes(to as *mut u8, byte, len) },
                Work::Event(_) => {}
            }
        }
    }
}

/// The kernels that admission launches, on arguments laid out in words of 8 bytes. The draw is another than the kernel's.
unsafe fn compute(name: &str, args: *const u64) -> Result<(), c_int> {
    let word = |i: usize| unsafe { *args.add(i) as usize };
    let half = |i: usize| unsafe { *args.cast::<u32>().add(i) as usize };
    let bf16 = |at: usize, i: usize| unsafe { f32::from_bits(u32::from(*(at as *const u16).add(i)) << 16) };
    match name {
        "compare__draw" => {
            for i in 0..half(4) * half(5) {
                let random = (i as u32 + half(11) as u32 * 77777).wrapping_mul(0x9e37_79b9).rotate_left(13);
                let bits = 0x3c00 + (random >> 16) as u16 % 0x0600 + (random as u16 & 0x8000);
                unsafe { *(word(0) as *mut u16).add(i) = bits };
            }
        }
        "matmul__bf16" => {
            let (w, x, y, [k, n, m]) = (word(0), word(2), word(4), [half(12), half(13), half(14)]);
            for t in 0..m {
                for row in 0..n {
                    let sum = (0..k).fold(0.0, |sum, l| sum + bf16(w, row * k + l) * bf16(x, t * k + l));
                    unsafe { *(y as *mut f32).add(t * n + row) = sum };
                }
            }
        }
        "compare__count" => {
            let bits = |at: usize, i: usize| unsafe { *(at as *const u32).add(i) };
            for first in (0..word(6)).step_by(8192) {
                let places = first..word(6).min(first + 8192);
                let differ = places.filter(|&i| bits(word(0), i) != bits(word(2), i)).count();
                unsafe { *(word(4) as *mut u64).add(first / 8192) = differ as u64 };
            }
        }
        _ => return Err(NOT_FOUND),
    }
    Ok(())
}

/// `CUlaunchConfig`.
#[repr(C)]
struct LaunchConfig {
    grid: [c_uint; 3],
    block: [c_uint; 3],
    shared: c_uint,
    stream: usize,
    attributes: usize,
    attribute_count: c_uint,
}

/// Computes, or notes the launch of a kernel that takes one number.
fn launch(
    s: &mut State,
    function: usize,
    [x, y]: [c_uint; 2],
    (lanes, shared): (c_uint, c_uint),
    parameters: *mut *mut c_void,
) -> Result<(), c_int> {
    let name = unsafe { &*(function as *const String) };
    if !name.starts_with("test__") {
        s.work(None);
        return unsafe { compute(name, (*parameters).cast()) };
    }
    let argument = unsafe { *(*parameters).cast::<u64>() };
    let what = if s.capturing { "recorded" } else { "launched" };
    note(format!("{what} {name}({argument}) {x}x{y} of {lanes}, {shared} bytes"));
    Ok(())
}

/// Functions that lock the state and answer success unless they say otherwise.
macro_rules! driver {
    ($($(#[$about:meta])* $name:ident($state:ident $(, $argument:ident: $type:ty)*) $body:block)*) => {$(
        $(#[$about])*
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $type),*) -> c_int {
            #[allow(unused_mut, unused_variables)]
            let mut $state = STATE.lock().unwrap();
            #[allow(clippy::redundant_closure_call)]
            (move || -> Result<(), c_int> { $body; #[allow(unreachable_code)] Ok(()) })().err().unwrap_or(0)
        }
    )*};
}

driver! {
    cuDriverGetVersion(s, version: &mut c_int) {
        *version = std::env::var("DRIVER_VERSION").map_or(13000, |text| text.parse().unwrap())
    }
    cuInit(s, _flags: c_uint) {}
    cuDeviceGetCount(s, count: &mut c_int) { *count = 1 }
    cuDeviceGet(s, device: &mut c_int, ordinal: c_int) { *device = ordinal }
    cuDeviceGetName(s, name: *mut u8, _len: c_int, _device: c_int) {
        unsafe { name.copy_from_nonoverlapping(b"Paper\0".as_ptr(), 6) }
    }
    cuDeviceGetAttribute(s, value: &mut c_int, which: c_int, _device: c_int) {
        *value = match which { 16 => 132, 75 => 9, 76 => 0, 81 => 228 << 10, _ => return Err(INVALID) }
    }
    cuDevicePrimaryCtxRetain(s, context: &mut usize, _device: c_int) { *context = 0xc0 }
    cuDevicePrimaryCtxRelease_v2(s, _device: c_int) { note("context released".into()) }
    cuCtxSetCurrent(s, context: usize) { note(format!("current {context:#x}")) }
    cuMemGetInfo_v2(s, free: &mut usize, total: &mut usize) { (*free, *total) = (1 << 30, 2 << 30) }
    cuStreamCreateWithPriority(s, stream: &mut usize, _flags: c_uint, _priority: c_int) { *stream = s.handle() }
    cuStreamDestroy_v2(s, _stream: usize) {}
    cuStreamSynchronize(s, _stream: usize) { s.work(None) }
    cuEventCreate(s, event: &mut usize, _flags: c_uint) { *event = s.handle() }
    cuEventDestroy_v2(s, _event: usize) {}
    cuEventRecord(s, event: usize, _stream: usize) {
        let now = s.clock;
        s.times.push((event, now));
        s.queue.push(Work::Event(event))
    }
    cuEventElapsedTime(s, milliseconds: &mut f32, start: usize, end: usize) {
        let last = |event| s.times.iter().rfind(|(e, _)| *e == event).map(|(_, time)| *time).ok_or(INVALID);
        *milliseconds = (last(end)? - last(start)?) as f32 * 1e-3
    }
    /// No function of a driver's: what the made-up cuBLAS says that it takes.
    madeUpTimePasses(s, microseconds: usize) { s.clock += microseconds }
    cuEventSynchronize(s, event: usize) { s.work(Some(event)) }

    cuMemAlloc_v2(s, address: &mut usize, bytes: usize) {
        let memory = unsafe { aligned_alloc(256, bytes.next_multiple_of(256)) };
        unsafe { memory.write_bytes(0xee, bytes) };
        *address = memory as usize
    }
    cuMemFree_v2(s, address: usize) {
        s.work(None);
        unsafe { free(address as *mut u8) };
        note("freed".into())
    }
    cuMemAllocHost_v2(s, address: &mut usize, bytes: usize) {
        *address = Box::leak(vec![0xddu8; bytes].into_boxed_slice()).as_mut_ptr() as usize;
        s.pinned.push((*address, bytes));
        note(format!("pinned {bytes}"))
    }
    cuMemFreeHost(s, address: usize) {
        let at = s.pinned.iter().position(|(base, _)| *base == address).ok_or(INVALID)?;
        let (base, len) = s.pinned.remove(at);
        // What was still on its way would now be lost.
        unsafe { std::ptr::write_bytes(base as *mut u8, 0xdd, len) };
        s.unpinned.push(base);
        note(format!("unpinned {len}"))
    }
    cuMemsetD8Async(s, to: usize, byte: u8, len: usize, _stream: usize) {
        s.queue.push(Work::Fill { to, byte, len })
    }
    cuMemcpyHtoDAsync_v2(s, to: usize, from: usize, len: usize, _stream: usize) {
        let pinned = s.pinned.iter().any(|(base, bytes)| *base <= from && from + len <= base + bytes);
        if !pinned || s.capturing { return Err(INVALID) }
        s.queue.push(Work::Copy { to, from, len })
    }
    cuMemcpyDtoHAsync_v2(s, to: usize, from: usize, len: usize, _stream: usize) {
        s.queue.push(Work::Copy { to, from, len })
    }

    cuLinkCreate_v2(s, count: c_uint, options: *const c_int, values: *const usize, state: &mut usize) {
        let all = (0..count as usize).map(|i| unsafe { (*options.add(i), *values.add(i)) });
        let mut log = (0, 0);
        for (option, value) in all {
            match option { 5 => log.0 = value, 6 => log.1 = value, _ => return Err(INVALID) }
        }
        s.log = Some(log);
        *state = s.handle()
    }
    cuLinkAddData_v2(
        s, _state: usize, kind: c_int, data: *const u8, size: usize, _name: usize, _count: c_uint, _options: usize,
        _values: usize
    ) {
        let text = unsafe { std::slice::from_raw_parts(data, size) };
        let Some((0, text)) = text.split_last().map(|(last, text)| (*last, text)) else { return Err(INVALID) };
        if kind != 1 { return Err(INVALID) }
        if text.starts_with(b"broken") {
            let (log, len) = s.log.unwrap();
            let message = b"line 1: broken as it says";
            unsafe { (log as *mut u8).copy_from_nonoverlapping(message.as_ptr(), message.len().min(len)) };
            return Err(INVALID_PTX)
        }
        // One kernel at a time.
        let text_of = String::from_utf8_lossy(text);
        let [_, entry] = text_of.split(".visible .entry ").collect::<Vec<_>>()[..] else { return Err(INVALID) };
        note(format!("compiled {}", entry.split('(').next().unwrap()));
        s.image = [b"ELF ", text].concat()
    }
    cuLinkComplete(s, _state: usize, image: &mut *const u8, size: &mut usize) {
        (*image, *size) = (s.image.as_ptr(), s.image.len())
    }
    cuLinkDestroy(s, _state: usize) { s.image.fill(0) }
    cuModuleLoadDataEx(s, module: &mut usize, image: *const u8, _n: c_uint, _options: usize, _values: usize) {
        let head = unsafe { std::slice::from_raw_parts(image, 4) };
        if head != b"ELF " { return Err(INVALID) }
        *module = s.handle()
    }
    cuModuleUnload(s, _module: usize) {}
    cuModuleGetFunction(s, function: &mut usize, _module: usize, name: *const c_char) {
        let name = unsafe { CStr::from_ptr(name) }.to_str().unwrap().to_owned();
        if name.contains("missing") { return Err(NOT_FOUND) }
        s.names.push(Box::new(name));
        *function = &raw const **s.names.last().unwrap() as usize
    }
    cuFuncSetAttribute(s, function: usize, which: c_int, value: c_int) {
        if which != 8 { return Err(INVALID) }
        note(format!("allowed {} {value}", unsafe { &*(function as *const String) }))
    }
    cuLaunchKernel(
        s, function: usize, x: c_uint, y: c_uint, _z: c_uint, lanes: c_uint, _ly: c_uint, _lz: c_uint, shared: c_uint,
        _stream: usize, parameters: *mut *mut c_void, _extra: usize
    ) {
        launch(&mut s, function, [x, y], (lanes, shared), parameters)?
    }
    cuLaunchKernelEx(s, config: *const LaunchConfig, function: usize, parameters: *mut *mut c_void, _extra: usize) {
        let LaunchConfig { grid: [x, y, _], block: [lanes, ..], shared, attribute_count, .. } = unsafe { &*config };
        // The one attribute lets a kernel begin early: these run when they are launched.
        if *attribute_count != 1 { return Err(INVALID) }
        launch(&mut s, function, [*x, *y], (*lanes, *shared), parameters)?
    }

    cuStreamBeginCapture_v2(s, _stream: usize, mode: c_int) {
        if mode != 1 || std::mem::replace(&mut s.capturing, true) { return Err(INVALID) }
        note("capture".into())
    }
    cuStreamEndCapture(s, _stream: usize, graph: &mut usize) {
        if !std::mem::take(&mut s.capturing) { return Err(INVALID) }
        *graph = s.handle();
        note("captured".into())
    }
    cuGraphInstantiateWithFlags(s, executable: &mut usize, _graph: usize, _flags: u64) {
        *executable = s.handle();
        note("instantiated".into())
    }
    cuGraphLaunch(s, _executable: usize, _stream: usize) { note("replayed".into()) }
    cuGraphDestroy(s, _graph: usize) { note("graph destroyed".into()) }
    cuGraphExecDestroy(s, _executable: usize) { note("executable destroyed".into()) }
}
