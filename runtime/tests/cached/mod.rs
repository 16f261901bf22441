//! Tests of files that are too large for the repository, and may not be on this machine.

use std::path::{Path, PathBuf};

use libtest_mimic::{Failed, Trial};

/// A file named by the environment, or in the user's cache.
pub(crate) fn cached(variable: &str, name: &str) -> Option<PathBuf> {
    let cache = || Some(directories::ProjectDirs::from("", "", "worker-orcd")?.cache_dir().join(name));
    std::env::var_os(variable).map(PathBuf::from).or_else(cache).filter(|path| path.exists())
}

/// A trial with a file: ignored where it is not, unless `WORKER_ORCD_REQUIRE` has the word `what`.
pub(crate) fn trial(
    name: &str,
    what: &'static str,
    file: Option<PathBuf>,
    test: impl FnOnce(&Path) -> Result<(), Failed> + Send + 'static,
) -> Trial {
    let required =
        std::env::var("WORKER_ORCD_REQUIRE").is_ok_and(|list| list.split(',').any(|word| word == what));
    let ignored = file.is_none() && !required;
    let absent = move || format!("it is not on this machine, and WORKER_ORCD_REQUIRE has the word {what}");
    Trial::test(name, move || test(&file.ok_or_else(absent)?)).with_ignored_flag(ignored)
}
