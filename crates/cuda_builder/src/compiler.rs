use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names a `rustc` to compile kernels with, instead of those that [`Compiler::find`] looks for.
pub const COMPILER_VARIABLE: &str = "WORKER_ORCD_KERNEL_COMPILER";

/// The rustup toolchain to compile kernels with. A date is part of it, because the names of compiler intrinsics and
/// of their features change from one nightly to another.
const NIGHTLY: &str = "nightly-2026-05-20";

/// A rustc with its own library source, and LLVM tools of its own LLVM's version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiler {
    rustc: PathBuf,
    library: PathBuf,
    tools: PathBuf,
    version: String,
}

/// No compiler was found; the message says what was tried and how to get one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no compiler for the kernels: {}. Get one with `rustup toolchain install {NIGHTLY} --component \
     rust-src,llvm-tools`, or on Debian and Ubuntu with `apt-get install rustc-web rust-web-src llvm-22` \
     (scripts/install-kernel-compiler.sh)",
    tried.join("; ")
)]
pub struct NoCompiler {
    /// What was looked at, and what it lacks.
    pub tried: Vec<String>,
}

impl Compiler {
    /// The one that the environment names ([`COMPILER_VARIABLE`]), else rustup's nightly of the right date, else the
    /// system's.
    ///
    /// # Errors
    /// None of them has all that is needed.
    pub fn find() -> Result<Compiler, NoCompiler> {
        let named = env::var_os(COMPILER_VARIABLE).map(PathBuf::from);
        let candidates = match &named {
            Some(rustc) => vec![(COMPILER_VARIABLE, Some(rustc.clone()))],
            None => vec![
                (NIGHTLY, rustup_nightly()),
                ("the system's rustc", Some(PathBuf::from("/usr/bin/rustc"))),
            ],
        };
        let mut tried = Vec::new();
        for (name, rustc) in candidates {
            let found =
                rustc.ok_or_else(|| "is not installed".to_owned()).and_then(|rustc| Compiler::at(&rustc));
            match found {
                Ok(compiler) => return Ok(compiler),
                Err(lack) => tried.push(format!("{name} {lack}")),
            }
        }
        Err(NoCompiler { tried })
    }

    /// The compiler around this `rustc`, or what it lacks.
    fn at(rustc: &Path) -> Result<Compiler, String> {
        let sysroot = output(rustc, &["--print", "sysroot"]).ok_or("does not run")?;
        let sysroot = Path::new(sysroot.trim());
        let library = sysroot.join("lib/rustlib/src/rust/library");
        if !library.join("core/src/lib.rs").is_file() {
            return Err(format!("has no library source (rust-src) in {}", library.display()));
        }

        let about = output(rustc, &["-vV"]).ok_or("does not tell its version")?;
        let field = |name: &str| about.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        let host = field("host: ");
        let llvm_major = field("LLVM version: ").split('.').next().unwrap_or_default();
        let of_rustup = sysroot.join("lib/rustlib").join(host).join("bin");
        let of_debian = PathBuf::from(format!("/usr/lib/llvm-{llvm_major}/bin"));
        let complete = |bin: &PathBuf| {
            ["llvm-link", "llvm-nm", "opt", "llc"].iter().all(|tool| bin.join(tool).is_file())
        };
        let tools = [of_rustup, of_debian].into_iter().find(complete);
        let tools =
            tools.ok_or_else(|| format!("has no tools of LLVM {llvm_major} (llvm-tools) beside it"))?;

        let llc = output(&tools.join("llc"), &["--version"]).ok_or("has tools that do not run")?;
        let llc = llc
            .lines()
            .find_map(|line| line.split_once("LLVM version "))
            .map_or("unknown", |(_, version)| version);
        let version = format!("{}, LLVM {llc}", about.lines().next().unwrap_or_default());
        Ok(Compiler { rustc: rustc.to_owned(), library, tools, version })
    }

    /// What decides the bytes of an image, sources apart: versions of rustc and of LLVM.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The folder of the library's source.
    pub(crate) fn library(&self) -> &Path {
        &self.library
    }

    pub(crate) fn rustc(&self) -> Command {
        let mut command = clean(&self.rustc);
        // The library's features, and a target without a published library, are open to nightlies alone; the
        // system's rustc is a stable one.
        command.env("RUSTC_BOOTSTRAP", "1");
        command
    }

    /// One of the LLVM tools.
    pub(crate) fn tool(&self, name: &str) -> Command {
        clean(self.tools.join(name))
    }
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.rustc.display(), self.version)
    }
}

fn rustup_nightly() -> Option<PathBuf> {
    let path = Command::new("rustup").args(["which", "--toolchain", NIGHTLY, "rustc"]).output().ok()?;
    let path = String::from_utf8(path.stdout).ok()?;
    (!path.is_empty()).then(|| PathBuf::from(path.trim()))
}

fn output(program: &Path, args: &[&str]) -> Option<String> {
    let output = clean(program).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command without the environment: what cargo and rustup set for their own compiler must not reach this one.
fn clean(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    command
}
