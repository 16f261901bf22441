//! From Rust to PTX:
//!
//! ```text
//! core, cuda_std, kernels  --rustc-->      bitcode of each crate
//! these, device.ll and `warpgroup::module`
//!                          --llvm-link-->  one module
//! the module, per family   --opt-->        its entries and what they call, all else gone
//! each family              --llc-->        PTX, which must pass `ptx::check`
//! ```
//!
//! rustc is called directly: no cargo, so no lock file, no registry and no profile takes part, and `core` is
//! compiled once per compiler. The text of this file goes into the fingerprint of the images.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::{env, iter, thread};

use crate::source::sha256;
use crate::{CHIP, Compiler, Error, Image, OTHERS, ptx, warpgroup};

/// This file: a changed pipeline makes changed images.
pub(crate) const SOURCE: &str = include_str!("pipeline.rs");

/// rustc's flags for every crate.
///
/// A panic is a trap at once, with no message to format. The compiler's jump threading copies barriers into
/// branches that only some lanes take (rust-lang/rust issue 137086), so it is off. Debug information makes PTX that
/// the driver refuses.
const RUSTC_FLAGS: &[&str] = &[
    "--edition=2024",
    "--crate-type=lib",
    "--target=nvptx64-nvidia-cuda",
    "-Copt-level=3",
    "-Ccodegen-units=1",
    "-Cdebuginfo=0",
    "-Zunstable-options",
    "-Cpanic=immediate-abort",
    "-Zmir-enable-passes=-JumpThreading",
];

/// Keeps the entries that `--internalize-public-api-list` names and what they reach.
const STRIP: &str = "--passes=internalize,globaldce";
const OPTIMISE: &str = "--passes=internalize,globaldce,default<O3>";

/// A multiplication and an addition stay two roundings. No comments: they name functions, and where one stands in the
/// sources changes no kernel.
const LLC_FLAGS: &[&str] = &["-O3", "--fp-contract=off", "--asm-verbose=0"];

/// rustc wants a crate of this name beside `core`; the kernels call nothing of it.
const COMPILER_BUILTINS: &str = "#![feature(compiler_builtins)]\n#![compiler_builtins]\n#![no_std]\n";

/// Builds the images of all families from the workspace at `root`, sorted by chip and family. `cache` holds `core`
/// from one build to the next, and intermediate files for the curious. Equal sources give equal bytes, wherever
/// they lie.
///
/// # Errors
/// The kernels do not compile, an entry is misnamed, or the PTX holds what [`ptx::check`] refuses.
pub fn build(compiler: &Compiler, root: &Path, cache: &Path) -> Result<Vec<Image>, Error> {
    fs::create_dir_all(cache).map_err(Error::io(cache))?;
    // One build at a time in a cache; the lock goes when the file is dropped.
    let lock = cache.join("lock");
    let lock = File::create(&lock).and_then(|file| file.lock().map(|()| file)).map_err(Error::io(&lock))?;
    let mut images = Build { compiler, root, cache }.images()?;
    images.sort_by(|a, b| (&a.chip, &a.family).cmp(&(&b.chip, &b.family)));
    drop(lock);
    Ok(images)
}

/// The cache of the workspace at `root`, inside cargo's target folder.
pub fn cache_folder(root: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |target| root.join(target))
        .join("cuda_builder")
}

struct Build<'a> {
    compiler: &'a Compiler,
    root: &'a Path,
    cache: &'a Path,
}

impl Build<'_> {
    fn images(&self) -> Result<Vec<Image>, Error> {
        let core = self.core()?;
        let work = fresh(self.cache.join("kernels"))?;
        let linked = self.link(&core, &work)?;
        let entries = self.entries(&work)?;
        let all: Vec<&str> = entries.values().flatten().map(String::as_str).collect();
        let stripped = work.join("stripped.bc");
        run("stripping", self.opt(STRIP, &all).arg(linked).arg("-o").arg(&stripped))?;
        // The longest first, so that no core is left alone with one at the end.
        let mut families: Vec<_> = entries.iter().collect();
        families.sort_by_key(|(_, entries)| Reverse(entries.len()));
        let queue = Mutex::new(families.into_iter());
        let next = || queue.lock().expect("no thread panics").next();
        let some = || {
            iter::from_fn(next)
                .map(|(family, entries)| self.image(family, entries, &stripped, &work))
                .collect::<Result<Vec<Image>, Error>>()
        };
        thread::scope(|scope| {
            let cores = thread::available_parallelism().map_or(1, NonZero::get);
            let threads: Vec<_> = (0..cores).map(|_| scope.spawn(some)).collect();
            let images = threads.into_iter().map(|thread| thread.join().expect("no thread panics"));
            Ok(images.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
        })
    }

    /// The folder of the compiled `core`.
    fn core(&self) -> Result<PathBuf, Error> {
        let key = sha256(format!("{SOURCE}{}", self.compiler.version()).as_bytes());
        let folder = self.cache.join(format!("core-{}", &key[..16]));
        if folder.exists() {
            return Ok(folder);
        }
        // Under another name until it is whole, because a build may be interrupted.
        let partial = fresh(self.cache.join("core-partial"))?;
        let library = self.compiler.library();
        self.compile("core", &library.join("core/src/lib.rs"), library, &partial, &[])?;
        let empty = partial.join("compiler_builtins.rs");
        fs::write(&empty, COMPILER_BUILTINS).map_err(Error::io(&empty))?;
        self.compile("compiler_builtins", &empty, &partial, &partial, &[&partial])?;
        fs::rename(&partial, &folder).map_err(Error::io(&folder))?;
        Ok(folder)
    }

    /// Compiles the crates and links all there is into one module.
    fn link(&self, core: &Path, work: &Path) -> Result<PathBuf, Error> {
        let std = self.root.join("crates/cuda_std/src");
        let kernels = self.root.join("kernels/src/lib.rs");
        self.compile("cuda_std", &std.join("lib.rs"), self.root, work, &[core])?;
        self.compile("kernels", &kernels, self.root, work, &[core, work])?;

        let linked = work.join("linked.bc");
        let warpgroup = work.join("warpgroup.ll");
        fs::write(&warpgroup, warpgroup::module()).map_err(Error::io(&warpgroup))?;
        let crates = ["kernels.bc", "cuda_std.bc"].map(|module| work.join(module));
        let others = [core.join("core.bc"), std.join("device.ll"), warpgroup];
        // The warning suppressed is that the modules which are text state no data layout.
        let mut link = self.compiler.tool("llvm-link");
        run("linking", link.arg("--suppress-warnings").args(crates).args(others).arg("-o").arg(&linked))?;
        Ok(linked)
    }

    /// Compiles one crate to `out`: its metadata for the crates after it, its bitcode for the linker.
    fn compile(
        &self,
        name: &str,
        source: &Path,
        home: &Path,
        out: &Path,
        deps: &[&Path],
    ) -> Result<(), Error> {
        let mut rustc = self.compiler.rustc();
        rustc.arg("--crate-name").arg(name).arg(source).args(RUSTC_FLAGS);
        rustc.arg(format!("-Ctarget-cpu={CHIP}"));
        rustc.arg(format!("--remap-path-prefix={}=.", home.display()));
        rustc.arg(format!("--emit=metadata={0}/lib{name}.rmeta,llvm-bc={0}/{name}.bc", out.display()));
        for dep in deps {
            rustc.arg("-L").arg(dep);
        }
        if name == "kernels" {
            rustc.args(["--extern", "cuda_std"]);
        }
        run(&format!("compiling {name}"), &mut rustc)
    }

    /// The exported functions of the kernels crate, by family.
    fn entries(&self, work: &Path) -> Result<BTreeMap<String, Vec<String>>, Error> {
        let mut nm = self.compiler.tool("llvm-nm");
        nm.args(["--defined-only", "--extern-only", "--just-symbol-name"]).arg(work.join("kernels.bc"));
        let mut families: BTreeMap<String, Vec<String>> = BTreeMap::new();
        // Names that Rust made begin with an underscore.
        for entry in output("listing entries", &mut nm)?.lines().filter(|name| !name.starts_with('_')) {
            let family = entry.split_once("__").map(|(family, _)| family);
            let family = family.filter(|name| self.root.join(format!("kernels/src/{name}.rs")).is_file());
            let family = family.ok_or_else(|| Error::NoFamily { entry: entry.to_owned() })?;
            families.entry(family.to_owned()).or_default().push(entry.to_owned());
        }
        families.values_mut().for_each(|entries| entries.sort());
        Ok(families)
    }

    fn image(&self, family: &str, entries: &[String], module: &Path, work: &Path) -> Result<Image, Error> {
        let optimised = work.join(format!("{family}.bc"));
        let path = work.join(format!("{family}.ptx"));
        run(
            &format!("optimising {family}"),
            self.opt(OPTIMISE, entries).arg(module).arg("-o").arg(&optimised),
        )?;
        let mut llc = self.compiler.tool("llc");
        let other = OTHERS.iter().find(|other| other.family == family);
        let chip = other.map_or(CHIP, |other| other.chip);
        llc.arg(format!("-mcpu={chip}")).args(LLC_FLAGS).arg(&optimised).arg("-o").arg(&path);
        run(&format!("generating PTX of {family}"), &mut llc)?;

        let mut ptx = fs::read_to_string(&path).map_err(Error::io(&path))?;
        for (end, registers) in other.map_or(&[][..], |other| other.registers) {
            ptx = ptx::limit_registers(&ptx, end, *registers);
        }
        if let Some(entry) =
            entries.iter().find(|entry| !ptx::entries(&ptx).any(|name| name == entry.as_str()))
        {
            return Err(Error::NotAKernel { entry: entry.clone() });
        }
        let image = Image { chip: chip.to_owned(), family: family.to_owned(), ptx };
        ptx::check(&image)?;
        Ok(image)
    }

    fn opt<S: AsRef<str>>(&self, passes: &str, entries: &[S]) -> Command {
        let entries: Vec<&str> = entries.iter().map(AsRef::as_ref).collect();
        let mut opt = self.compiler.tool("opt");
        opt.arg(passes).arg(format!("--internalize-public-api-list={}", entries.join(",")));
        opt
    }
}

/// An empty folder at `path`.
fn fresh(path: PathBuf) -> Result<PathBuf, Error> {
    if path.exists() {
        fs::remove_dir_all(&path).map_err(Error::io(&path))?;
    }
    fs::create_dir_all(&path).map_err(Error::io(&path))?;
    Ok(path)
}

fn run(step: &str, command: &mut Command) -> Result<(), Error> {
    output(step, command).map(drop)
}

fn output(step: &str, command: &mut Command) -> Result<String, Error> {
    let output = command.output().map_err(Error::io(Path::new(command.get_program())))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::Step { step: step.to_owned(), status: output.status, stderr })
}
