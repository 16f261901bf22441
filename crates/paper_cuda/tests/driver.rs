//! The paper GPU as a driver: what it answers, and that it does not do more, nor earlier, than a GPU would have to. The
//! library is opened as `cuda_loader` opens one; each case runs in a child, since a process has one GPU.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr::null_mut;

use libloading::Library;
use libtest_mimic::{Arguments, Failed, Trial};

/// Set in a child to the case's name.
const CHILD: &str = "PAPER_CUDA_TEST_CASE";

type Case = (&'static str, fn(&Driver) -> Result<(), Failed>);

const CASES: &[Case] = &[
    ("every_entry_of_the_ptx_runs_with_arguments_of_its_size", entries),
    ("memory_is_accounted_for_and_runs_out", memory),
    ("addresses_are_known_for_what_they_are", pointers),
    ("copies_are_done_as_late_as_allowed", late),
    ("a_kernel_runs_late_with_the_arguments_of_its_launch", kernel),
    ("a_capture_records_and_forbids", captures),
    ("a_trap_is_the_end_of_its_context", trap),
    ("launches_are_checked", launches),
    ("a_context_is_needed_and_its_end_is_told", context),
];

fn main() {
    if let Ok(name) = std::env::var(CHILD) {
        let (_, run) = CASES.iter().find(|case| case.0 == name).expect("a case of this name");
        let driver = Driver::open();
        if let Err(error) = run(&driver) {
            panic!("{}", error.message().unwrap_or("it failed"));
        }
        return;
    }
    let trials = CASES.iter().map(|&(name, _)| Trial::test(name, move || in_child(name)));
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}

fn in_child(name: &str) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let mut child = Command::new(std::env::current_exe()?);
    child.env(CHILD, name).env("PAPER_CUDA_MB", "4").env("PAPER_CUDA_LOG", folder.path().join("log"));
    let output = child.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into())
}

/// The library, beside this executable.
struct Driver(Library);

/// Calls a function of the driver, and answers its code.
macro_rules! call {
    ($driver:expr, $name:ident($($argument:expr => $type:ty),* $(,)?)) => {{
        // SAFETY: the function has this signature, and each case passes what it asks for.
        unsafe {
            let function = $driver.0.get::<unsafe extern "C" fn($($type),*) -> c_int>(stringify!($name));
            function.expect(stringify!($name))($($argument),*)
        }
    }};
}

impl Driver {
    fn open() -> Self {
        let path = std::env::current_exe().expect("this file").with_file_name("libpaper_cuda.so");
        // SAFETY: the library runs no code when it is opened.
        Self(unsafe { Library::new(path) }.expect("the paper GPU"))
    }

    /// Makes the context current.
    fn enter(&self) -> usize {
        let mut context = 0;
        assert_eq!(call!(self, cuInit(0 => c_uint)), 0);
        assert_eq!(call!(self, cuDevicePrimaryCtxRetain(&raw mut context => *mut usize, 0 => c_int)), 0);
        assert_eq!(call!(self, cuCtxSetCurrent(context => usize)), 0);
        context
    }

    fn alloc(&self, bytes: usize) -> Result<usize, c_int> {
        let mut address = 0;
        match call!(self, cuMemAlloc_v2(&raw mut address => *mut usize, bytes => usize)) {
            0 => Ok(address),
            code => Err(code),
        }
    }

    fn pinned(&self, bytes: usize) -> *mut u8 {
        let mut address = null_mut();
        assert_eq!(call!(self, cuMemAllocHost_v2(&raw mut address => *mut *mut u8, bytes => usize)), 0);
        address
    }

    fn stream(&self) -> usize {
        let mut stream = 0;
        assert_eq!(
            call!(self, cuStreamCreateWithPriority(&raw mut stream => *mut usize, 1 => c_uint, 0 => c_int)),
            0
        );
        stream
    }

    fn free_bytes(&self) -> usize {
        let (mut free, mut total) = (0, 0);
        assert_eq!(
            call!(self, cuMemGetInfo_v2(&raw mut free => *mut usize, &raw mut total => *mut usize)),
            0
        );
        assert_eq!(total, 4 << 20);
        free
    }

    fn synchronize(&self, stream: usize) -> c_int {
        call!(self, cuStreamSynchronize(stream => usize))
    }

    /// Up to 8 bytes of an address's attribute.
    fn attribute(&self, which: c_int, address: usize) -> Result<u64, c_int> {
        let mut value = 0;
        match call!(self, cuPointerGetAttribute(&raw mut value => *mut u64, which => c_int, address => usize))
        {
            0 => Ok(value),
            code => Err(code),
        }
    }

    fn module(&self, ptx: &str) -> Result<usize, c_int> {
        let (text, mut module) = (CString::new(ptx).expect("no NUL"), 0);
        match call!(self, cuModuleLoadData(&raw mut module => *mut usize, text.as_ptr() => *const c_char)) {
            0 => Ok(module),
            code => Err(code),
        }
    }

    fn function(&self, module: usize, name: &str) -> Result<usize, c_int> {
        let (name, mut function) = (CString::new(name).expect("no NUL"), 0);
        let place = &raw mut function;
        match call!(self, cuModuleGetFunction(place => *mut usize, module => usize, name.as_ptr() => *const c_char))
        {
            0 => Ok(function),
            code => Err(code),
        }
    }

    /// Launches over `grid` blocks, with one argument.
    fn launch(
        &self,
        function: usize,
        grid: u32,
        lanes: u32,
        shared: u32,
        stream: usize,
        args: &[u64],
    ) -> c_int {
        let mut parameters = [args.as_ptr().cast::<c_void>()];
        call!(self, cuLaunchKernel(
            function => usize, grid => c_uint, 1 => c_uint, 1 => c_uint, lanes => c_uint, 1 => c_uint, 1 => c_uint,
            shared => c_uint, stream => usize, parameters.as_mut_ptr() => *mut *const c_void,
            null_mut() => *mut c_void,
        ))
    }
}

/// The PTX of a family.
fn ptx(family: &str) -> Result<String, Failed> {
    Ok(std::fs::read_to_string(images().join(family).with_extension("ptx"))?)
}

fn images() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kernels/ptx/sm_80")
}

/// Arguments of any kernel, none of which does anything with them.
const NOTHING: &[u64] = &[0; 64];

fn entries(driver: &Driver) -> Result<(), Failed> {
    driver.enter();
    let mut count = 0;
    for file in std::fs::read_dir(images())? {
        let text = std::fs::read_to_string(file?.path())?;
        let module = driver.module(&text).map_err(|code| format!("module: {code}"))?;
        for name in text.split(".entry ").skip(1).filter_map(|entry| entry.split('(').next()) {
            let function = driver.function(module, name).map_err(|code| format!("{name}: {code}"))?;
            let (_, size) = text.split_once(&format!("{name}_param_0[")).ok_or("no parameter")?;
            let bytes: usize = size.split(']').next().unwrap_or_default().parse()?;
            let (mut at, mut got) = (1, 0);
            let code = call!(driver, cuFuncGetParamInfo(
                function => usize, 0 => usize, &raw mut at => *mut usize, &raw mut got => *mut usize,
            ));
            assert_eq!((code, at, got), (0, 0, bytes), "{name}");
            count += 1;
        }
        assert_eq!(driver.function(module, "missing"), Err(500));
        assert_eq!(call!(driver, cuModuleUnload(module => usize)), 0);
        assert_eq!(driver.function(module, "missing"), Err(400));
    }
    assert!(count > 50, "{count} entries");
    Ok(())
}

fn memory(driver: &Driver) -> Result<(), Failed> {
    driver.enter();
    let whole = 4 << 20;
    assert_eq!(driver.free_bytes(), whole);
    let one = driver.alloc(1).map_err(|code| format!("{code}"))?;
    assert_eq!((one % 256, driver.free_bytes()), (0, whole - 256));
    assert_eq!(driver.alloc(whole - 255), Err(2));
    let rest = driver.alloc(whole - 256).map_err(|code| format!("{code}"))?;
    assert_eq!((driver.alloc(1), driver.alloc(0), driver.free_bytes()), (Err(2), Err(1), 0));
    // Pinned memory is not the GPU's.
    let pinned = driver.pinned(whole);
    for address in [one + 1, pinned as usize, 0x1000] {
        assert_eq!(call!(driver, cuMemFree_v2(address => usize)), 1);
    }
    assert_eq!(call!(driver, cuMemFreeHost(one => usize)), 1);
    assert_eq!(call!(driver, cuMemFreeHost(pinned => *mut u8)), 0);
    assert_eq!(call!(driver, cuMemFree_v2(0 => usize)), 0);
    for address in [one, rest] {
        assert_eq!(call!(driver, cuMemFree_v2(address => usize)), 0);
        assert_eq!(call!(driver, cuMemFree_v2(address => usize)), 1);
    }
    assert_eq!(driver.free_bytes(), whole);
    Ok(())
}

fn pointers(driver: &Driver) -> Result<(), Failed> {
    let context = driver.enter() as u64;
    let device = driver.alloc(1000).map_err(|code| format!("{code}"))?;
    let pinned = driver.pinned(100) as usize;
    let (mut managed, on_stack) = (0, 0u8);
    assert_eq!(
        call!(driver, cuMemAllocManaged(&raw mut managed => *mut usize, 100 => usize, 1 => c_uint)),
        0
    );
    let unknown = &raw const on_stack as usize;
    let all = |address| [1, 2, 3, 8, 9, 11, 12].map(|which| driver.attribute(which, address));
    let at = device as u64;
    assert_eq!(all(device + 999), [context, 2, at + 999, 0, 0, at, 1000].map(Ok));
    assert_eq!(all(device + 1000), [Err(1); 7]);
    assert_eq!(all(pinned), [context, 1, pinned as u64, 0, 0, pinned as u64, 100].map(Ok));
    assert_eq!(all(managed), [context, 2, managed as u64, 1, 0, managed as u64, 100].map(Ok));
    assert_eq!(all(unknown), [Err(1); 7]);
    // Where the host reaches it.
    assert_eq!(
        [device, pinned, managed].map(|address| driver.attribute(4, address).is_ok()),
        [false, true, true]
    );

    let several = |address: usize| {
        let which: [c_int; 4] = [2, 8, 11, 12];
        let mut values = [u64::MAX; 4];
        let mut places = values.each_mut().map(std::ptr::from_mut);
        let code = call!(driver, cuPointerGetAttributes(
            4 => c_uint, which.as_ptr() => *const c_int, places.as_mut_ptr() => *mut *mut u64, address => usize,
        ));
        (code, values[0] as u32, values[1] as u32, values[2], values[3])
    };
    assert_eq!(several(device + 5), (0, 2, 0, at, 1000));
    assert_eq!(several(pinned), (0, 1, 0, pinned as u64, 100));
    assert_eq!(several(managed), (0, 2, 1, managed as u64, 100));
    assert_eq!(several(unknown), (0, 0, 0, 0, 0));
    assert_eq!(call!(driver, cuMemFree_v2(device => usize)), 0);
    assert_eq!((driver.attribute(2, device), several(device)), (Err(1), (0, 0, 0, 0, 0)));
    Ok(())
}

fn upload(driver: &Driver, to: usize, from: *const u8, len: usize, stream: usize) -> c_int {
    call!(driver, cuMemcpyHtoDAsync_v2(to => usize, from => *const u8, len => usize, stream => usize))
}

fn download(driver: &Driver, to: *mut u8, from: usize, len: usize, stream: usize) -> c_int {
    call!(driver, cuMemcpyDtoHAsync_v2(to => *mut u8, from => usize, len => usize, stream => usize))
}

fn late(driver: &Driver) -> Result<(), Failed> {
    driver.enter();
    let (stream, memory) = (driver.stream(), driver.alloc(64).map_err(|code| format!("{code}"))?);
    let (source, answer) = (driver.pinned(64), driver.pinned(64));
    // SAFETY: the case's own pinned memory.
    let set = |place: *mut u8, byte: u8| unsafe { place.write_bytes(byte, 64) };
    // SAFETY: as above.
    let get = |place: *mut u8| unsafe { *place };

    // From pinned memory the bytes count that are there when the copy is done, from other memory those of the call.
    set(source, 1);
    assert_eq!(upload(driver, memory, source, 64, stream), 0);
    set(source, 2);
    assert_eq!((driver.synchronize(stream), download(driver, answer, memory, 64, stream)), (0, 0));
    set(answer, 9);
    assert_eq!(get(answer), 9);
    assert_eq!((driver.synchronize(stream), get(answer)), (0, 2));
    let mut pageable = [3u8; 64];
    assert_eq!(upload(driver, memory, pageable.as_ptr(), 64, stream), 0);
    pageable.fill(4);
    // And to other memory the call waits.
    assert_eq!(download(driver, pageable.as_mut_ptr(), memory, 64, stream), 0);
    assert_eq!(pageable, [3; 64]);

    // An event is passed before what comes after it.
    let mut event = 0;
    assert_eq!(call!(driver, cuEventCreate(&raw mut event => *mut usize, 0 => c_uint)), 0);
    set(source, 5);
    assert_eq!(upload(driver, memory, source, 64, stream), 0);
    assert_eq!(download(driver, answer, memory, 64, stream), 0);
    assert_eq!(call!(driver, cuEventRecord(event => usize, stream => usize)), 0);
    assert_eq!(call!(driver, cuMemsetD8Async(memory => usize, 6 => u8, 64 => usize, stream => usize)), 0);
    assert_eq!(download(driver, answer, memory, 64, stream), 0);
    assert_eq!((call!(driver, cuEventSynchronize(event => usize)), get(answer)), (0, 5));
    assert_eq!((driver.synchronize(stream), get(answer)), (0, 6));

    // Pinned memory that is freed too early is lost; what is not the GPU's is refused.
    assert_eq!(upload(driver, memory, source, 64, stream), 0);
    assert_eq!(call!(driver, cuMemFreeHost(source => *mut u8)), 0);
    assert_eq!(download(driver, answer, memory, 64, stream), 0);
    assert_eq!((driver.synchronize(stream), get(answer)), (0, 0xdd));
    assert_eq!(upload(driver, memory + 1, answer, 64, stream), 1);
    assert_eq!(upload(driver, answer as usize, answer, 64, stream), 1);
    assert_eq!(upload(driver, memory, answer, 64, 0x123), 400);
    Ok(())
}

fn kernel(driver: &Driver) -> Result<(), Failed> {
    driver.enter();
    let (stream, memory) = (driver.stream(), driver.alloc(16).map_err(|code| format!("{code}"))?);
    let module = driver.module(&ptx("compare")?).map_err(|code| format!("{code}"))?;
    let count = driver.function(module, "compare__count").map_err(|code| format!("{code}"))?;
    // `compare__count`: the counts go behind two values, which are compared; a view is an address and a length.
    let at = memory as u64;
    let mut args = [at, 1, at + 4, 1, at + 8, 1, 1];
    let mut got = [0u32; 4];
    assert_eq!(upload(driver, memory, [1u32, 2, 9, 9].as_ptr().cast(), 16, stream), 0);
    assert_eq!(driver.launch(count, 1, 256, 0, stream, &args), 0);
    args.fill(0);
    assert_eq!(download(driver, got.as_mut_ptr().cast(), memory, 16, stream), 0);
    assert_eq!((got, args[0]), ([1, 2, 1, 0], 0));
    Ok(())
}

fn captures(driver: &Driver) -> Result<(), Failed> {
    driver.enter();
    let (stream, memory) = (driver.stream(), driver.alloc(64).map_err(|code| format!("{code}"))?);
    let begin = || call!(driver, cuStreamBeginCapture_v2(stream => usize, 1 => c_int));
    let fill =
        |byte| call!(driver, cuMemsetD8Async(memory => usize, byte => u8, 64 => usize, stream => usize));
    let end = |graph: &mut usize| call!(driver, cuStreamEndCapture(stream => usize, graph => *mut usize));
    let read = || {
        let mut bytes = [0; 64];
        assert_eq!(download(driver, bytes.as_mut_ptr(), memory, 64, stream), 0);
        bytes[63]
    };
    let (mut graph, mut executable) = (0, 0);
    assert_eq!((fill(1), begin(), fill(2), end(&mut graph), read()), (0, 0, 0, 0, 1));
    assert_eq!(
        call!(driver, cuGraphInstantiateWithFlags(&raw mut executable => *mut usize, graph => usize, 0 => u64)),
        0
    );
    assert_eq!(call!(driver, cuGraphDestroy(graph => usize)), 0);
    for _ in 0..2 {
        assert_eq!(call!(driver, cuGraphLaunch(executable => usize, stream => usize)), 0);
        assert_eq!((read(), fill(3), read()), (2, 0, 3));
    }
    assert_eq!(call!(driver, cuGraphExecDestroy(executable => usize)), 0);
    assert_eq!(call!(driver, cuGraphLaunch(executable => usize, stream => usize)), 1);

    // What a graph cannot hold spoils the recording, and the stream works again after it.
    assert_eq!(
        (begin(), begin(), driver.synchronize(stream), fill(4), end(&mut graph)),
        (0, 1, 900, 901, 901)
    );
    assert_eq!((begin(), driver.alloc(1), end(&mut graph), graph), (0, Err(900), 901, 0));
    assert_eq!((end(&mut graph), fill(5), read()), (1, 0, 5));
    Ok(())
}

const TRAP: &str =
    ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry test__trap()\n{\n\ttrap;\n}\n";

fn trap(driver: &Driver) -> Result<(), Failed> {
    let context = driver.enter();
    let (stream, memory) = (driver.stream(), driver.alloc(64).map_err(|code| format!("{code}"))?);
    let module = driver.module(TRAP).map_err(|code| format!("{code}"))?;
    let function = driver.function(module, "test__trap").map_err(|code| format!("{code}"))?;
    assert_eq!(driver.launch(function, 1, 1, 0, stream, NOTHING), 0);
    // Nobody has noticed yet.
    assert_eq!(call!(driver, cuMemsetD8Async(memory => usize, 1 => u8, 64 => usize, stream => usize)), 0);
    for _ in 0..2 {
        assert_eq!(driver.synchronize(stream), 719);
    }
    assert_eq!((driver.alloc(1), driver.module(TRAP)), (Err(719), Err(719)));
    assert_eq!(call!(driver, cuMemFree_v2(memory => usize)), 719);
    assert_eq!(call!(driver, cuCtxSetCurrent(context => usize)), 719);
    let mut count = 0;
    assert_eq!(call!(driver, cuDeviceGetCount(&raw mut count => *mut c_int)), 0);
    // The next context is a new one.
    assert_eq!(call!(driver, cuDevicePrimaryCtxRelease_v2(0 => c_int)), 0);
    driver.enter();
    assert!(driver.alloc(1).is_ok());
    let log = std::fs::read_to_string(std::env::var("PAPER_CUDA_LOG")?)?;
    for part in [" allocations=1 frees=0 bytes=64 ", " streams=1 ", " modules=1 ", " fault=719\n"] {
        assert!(log.contains(part), "no {part:?} in {log}");
    }
    Ok(())
}

fn launches(driver: &Driver) -> Result<(), Failed> {
    driver.enter();
    assert_eq!(driver.module("a text"), Err(200));
    assert_eq!(
        driver.module(&TRAP.replace("trap;", "ret;")).map(|m| driver.function(m, "test__trap")),
        Ok(Err(801))
    );
    let stream = driver.stream();
    let module = driver.module(&ptx("residual")?).map_err(|code| format!("{code}"))?;
    let function = driver.function(module, "residual__add").map_err(|code| format!("{code}"))?;
    let trap = driver.module(TRAP).and_then(|m| driver.function(m, "test__trap"));
    let trap = trap.map_err(|code| format!("{code}"))?;
    // The wrong geometry for its arguments, too many threads, too much shared memory; handles of nothing.
    assert_eq!(driver.launch(function, 7, 256, 0, stream, NOTHING), 1);
    assert_eq!(driver.launch(function, 1, 255, 0, stream, NOTHING), 1);
    assert_eq!(driver.launch(trap, 1, 1025, 0, stream, NOTHING), 1);
    assert_eq!(driver.launch(trap, 0, 1, 0, stream, NOTHING), 1);
    assert_eq!(driver.launch(trap, 1, 1, 48 * 1024 + 1, stream, NOTHING), 1);
    assert_eq!(driver.launch(trap + 1, 1, 1, 0, stream, NOTHING), 400);
    assert_eq!(driver.launch(trap, 1, 1, 0, stream + 1, NOTHING), 400);
    let allow = |bytes| call!(driver, cuFuncSetAttribute(trap => usize, 8 => c_int, bytes => c_int));
    assert_eq!((allow(227 * 1024 + 1), allow(227 * 1024)), (1, 0));
    assert_eq!(driver.launch(trap, 1, 1, 227 * 1024, stream, NOTHING), 0);
    assert_eq!(driver.synchronize(stream), 719);
    Ok(())
}

fn context(driver: &Driver) -> Result<(), Failed> {
    assert_eq!(driver.alloc(1), Err(201));
    let first = driver.enter();
    assert_eq!(driver.enter(), first, "one for all users");
    std::thread::scope(|scope| scope.spawn(|| assert_eq!(driver.alloc(1), Err(201))).join())
        .map_err(|_| "thread")?;
    let release = || call!(driver, cuDevicePrimaryCtxRelease_v2(0 => c_int));
    assert_eq!(release(), 0);
    let memory = driver.alloc(10).map_err(|code| format!("{code}"))?;
    assert_eq!(call!(driver, cuMemFree_v2(memory => usize)), 0);
    let _ = driver.pinned(30);
    assert_eq!((release(), release()), (0, 201));
    assert_eq!(driver.alloc(1), Err(709), "its context is gone");
    assert_ne!(driver.enter(), first);
    let log = std::fs::read_to_string(std::env::var("PAPER_CUDA_LOG")?)?;
    let want = "kernels=0 replays=0 allocations=2 frees=1 bytes=0 pinned=30 streams=0 events=0 links=0 modules=0 \
                graphs=0 executables=0 fault=0\n";
    assert_eq!(log, want);
    let mut device = -1;
    assert_eq!(call!(driver, cuDeviceGet(&raw mut device => *mut c_int, 1 => c_int)), 101);
    assert_eq!(call!(driver, cuInit(1 => c_uint)), 1);
    Ok(())
}
