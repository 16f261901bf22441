//! Failures on purpose, for tests: compiled in by the feature `fault-injection` alone.
//!
//! The file that `WORKER_ORCD_FAULTS` names has a rule a line, `FUNCTION NTH ACTION`: the NTH call of that function from now on, counted
//! from 1, answers the error code ACTION without reaching the driver; or, where ACTION is `trap`, a kernel that traps is
//! launched before the call goes on. Each rule fires once and is then noted in a file beside the plan, with `.fired` added
//! to its name. A plan that is replaced (by a rename, so that nobody reads half of it) begins anew.

use std::ffi::{c_int, c_uint, c_void};
use std::fs::{File, Metadata, OpenOptions};
use std::io::Write;
use std::mem::transmute;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::ptr::null_mut;
use std::sync::{LazyLock, Mutex};

use cust_raw::CUresult;

use crate::forward::address;

/// The environment variable that names the plan's file.
const PLAN: &str = "WORKER_ORCD_FAULTS";

/// What happens to a call.
enum Action {
    Answer(CUresult),
    Trap,
}

struct Rule {
    function: String,
    /// Calls to come, that one included.
    left: u32,
    action: Action,
}

struct Plan {
    path: PathBuf,
    /// Tells one version of the file from the next.
    version: (u64, i64, i64),
    rules: Vec<Rule>,
}

static STATE: LazyLock<Option<Mutex<Plan>>> = LazyLock::new(|| {
    let path = PathBuf::from(std::env::var_os(PLAN)?);
    Some(Mutex::new(Plan { path, version: (0, 0, 0), rules: Vec::new() }))
});

/// The answer of this call, if it is one that a rule is about.
pub(crate) fn answer(function: &str) -> Option<CUresult> {
    let mut plan = STATE.as_ref()?.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    plan.refresh();
    // A launch is one in either way.
    let function = if function == "cuLaunchKernelEx" { "cuLaunchKernel" } else { function };
    for rule in plan.rules.iter_mut().filter(|rule| rule.function == function) {
        rule.left = rule.left.saturating_sub(1);
    }
    let rule = plan.rules.iter().position(|rule| rule.left == 0 && rule.function == function)?;
    let rule = plan.rules.remove(rule);
    plan.note(&rule.function);
    match rule.action {
        Action::Answer(code) => Some(code),
        // A trap that cannot be set is no test of anything: its error is the answer.
        Action::Trap => trap().err(),
    }
}

impl Plan {
    fn refresh(&mut self) {
        let version = |file: Metadata| (file.ino(), file.mtime(), file.mtime_nsec());
        let Ok(version) = std::fs::metadata(&self.path).map(version) else { return };
        if version != self.version {
            self.version = version;
            let text = std::fs::read_to_string(&self.path).unwrap_or_default();
            self.rules = text.lines().map(rule).collect();
        }
    }

    fn note(&self, function: &str) {
        let mut path = self.path.clone().into_os_string();
        path.push(".fired");
        let file: Result<File, _> = OpenOptions::new().append(true).create(true).open(path);
        file.and_then(|mut file| writeln!(file, "{function}")).expect("the faults' folder can be written");
    }
}

fn rule(line: &str) -> Rule {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [function, nth, action] = words[..] else { panic!("{PLAN}: {line:?} is not FUNCTION NTH ACTION") };
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{PLAN}: {text:?} is no number"));
    let action = match action {
        "trap" => Action::Trap,
        code => Action::Answer(crate::result::checked(number(code) as c_int)),
    };
    let left = number(nth);
    assert!(left > 0, "{PLAN}: calls are counted from 1");
    Rule { function: function.to_owned(), left, action }
}

/// PTX whose only kernel ends in a trap.
const TRAP: &[u8] = b".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry trap() { trap; }\n\0";

/// Launches a kernel that traps, which no context survives.
fn trap() -> Result<(), CUresult> {
    type Load = unsafe extern "C" fn(*mut *mut c_void, *const c_void) -> c_int;
    type Get = unsafe extern "C" fn(*mut *mut c_void, *mut c_void, *const u8) -> c_int;
    type Launch = unsafe extern "C" fn(
        *mut c_void,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        *mut c_void,
        *mut *mut c_void,
        *mut *mut c_void,
    ) -> c_int;
    let done = |code: c_int| if code == 0 { Ok(()) } else { Err(crate::result::checked(code)) };
    let (mut module, mut function) = (null_mut(), null_mut());
    // SAFETY: the driver's functions of these names have these signatures; each gets live handles, places for its answers
    // and text that ends with a NUL; the kernel takes no arguments.
    unsafe {
        let load = transmute::<*mut c_void, Load>(address("cuModuleLoadData")?);
        let get = transmute::<*mut c_void, Get>(address("cuModuleGetFunction")?);
        let launch = transmute::<*mut c_void, Launch>(address("cuLaunchKernel")?);
        done(load(&raw mut module, TRAP.as_ptr().cast()))?;
        done(get(&raw mut function, module, c"trap".as_ptr().cast()))?;
        done(launch(function, 1, 1, 1, 1, 1, 1, 0, null_mut(), null_mut(), null_mut()))
    }
}
