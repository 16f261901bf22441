//! Which of a process's driver calls fail: the file that the feature `fault-injection` reads.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use libtest_mimic::Failed;

/// A process's plan of failures.
pub(crate) struct Faults {
    file: PathBuf,
}

/// A call of the driver that fails: the `nth` from now on, with the driver's number of an error or with `trap`.
pub(crate) struct Rule<'a> {
    pub(crate) function: &'a str,
    pub(crate) nth: u32,
    pub(crate) action: &'a str,
}

impl Faults {
    /// No failures, for the process that `command` starts.
    pub(crate) fn of(command: &mut Command, file: PathBuf) -> Self {
        command.env("WORKER_ORCD_FAULTS", &file);
        Self { file }
    }

    /// The failures from now on; those of before are forgotten, whether they have come or not.
    pub(crate) fn plan(&self, rules: &[Rule<'_>]) -> Result<(), Failed> {
        if self.fired_file().exists() {
            fs::remove_file(self.fired_file())?;
        }
        let lines = rules.iter().map(|Rule { function, nth, action }| format!("{function} {nth} {action}\n"));
        let part = self.file.with_extension("part");
        fs::write(&part, lines.collect::<String>())?;
        fs::rename(part, &self.file)?;
        Ok(())
    }

    /// The functions whose failure has come.
    pub(crate) fn fired(&self) -> Vec<String> {
        let text = fs::read_to_string(self.fired_file()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// When the last failure came.
    pub(crate) fn fired_at(&self) -> Result<SystemTime, Failed> {
        Ok(fs::metadata(self.fired_file())?.modified()?)
    }

    fn fired_file(&self) -> PathBuf {
        let mut name = OsString::from(&self.file);
        name.push(".fired");
        Path::new(&name).to_owned()
    }
}
