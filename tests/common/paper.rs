//! The paper GPU (`crates/paper_cuda`) as the driver of a child process.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder with the paper GPU's `libcuda.so.1`, for a child's `LD_LIBRARY_PATH`: `WORKER_ORCD_PAPER`, else one beside the
/// library that cargo built with the tests.
pub(crate) fn paper_driver() -> Result<PathBuf, String> {
    if let Some(folder) = std::env::var_os("WORKER_ORCD_PAPER").map(PathBuf::from) {
        let library = folder.join("libcuda.so.1");
        return if library.is_file() { Ok(folder) } else { Err(format!("no {}", library.display())) };
    }
    let executable = std::env::current_exe().map_err(|error| error.to_string())?;
    let built = executable.with_file_name("libpaper_cuda.so");
    if !built.is_file() {
        return Err(format!("no {}: is paper_cuda among the dev-dependencies?", built.display()));
    }
    let folder = executable.with_file_name("paper");
    link(&built, &folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

/// Makes the folder with the link. Other tests may do the same at this moment, so it comes into place whole.
fn link(built: &Path, folder: &Path) -> std::io::Result<()> {
    let library = folder.join("libcuda.so.1");
    if std::fs::read_link(&library).is_ok_and(|target| target == built) {
        return Ok(());
    }
    std::fs::create_dir_all(folder)?;
    let part = tempfile::tempdir_in(folder)?;
    std::os::unix::fs::symlink(built, part.path().join("link"))?;
    std::fs::rename(part.path().join("link"), library)
}

/// Gives a child the paper GPU and nothing else of CUDA; what is left on the GPU at the end goes to the file `log`.
pub(crate) fn on_paper(command: &mut Command, driver: &Path, log: &Path) {
    command.env("LD_LIBRARY_PATH", driver).env("PAPER_CUDA_LOG", log);
    // A real cuBLAS does not work on it.
    command.env("WORKER_ORCD_CUBLAS", driver.join("none"));
}

/// The numbers of the log's only line, by name: of a process that made one context and let go of it.
pub(crate) fn left(log: &Path) -> Result<HashMap<String, u64>, String> {
    let text = std::fs::read_to_string(log).map_err(|error| format!("{}: {error}", log.display()))?;
    let [line] = text.lines().collect::<Vec<_>>()[..] else { return Err(format!("not one line: {text}")) };
    line.split(' ')
        .map(|pair| Some((pair.split_once('=')?.0.to_owned(), pair.split_once('=')?.1.parse().ok()?)))
        .collect::<Option<_>>()
        .ok_or_else(|| line.to_owned())
}

/// Asserts that all that was made on the GPU was freed, and that something was; the numbers of [`left`].
pub(crate) fn expect_nothing_left(log: &Path) -> Result<HashMap<String, u64>, String> {
    let left = left(log)?;
    for name in ["bytes", "pinned", "streams", "events", "links", "modules", "graphs", "executables", "fault"]
    {
        if left[name] != 0 {
            return Err(format!("{name} left: {left:?}"));
        }
    }
    if left["allocations"] == 0 || left["allocations"] != left["frees"] {
        return Err(format!("allocations and frees: {left:?}"));
    }
    Ok(left)
}
