//! A package of many small programs over the workspace's crates, checked by one run of cargo.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use libtest_mimic::Failed;
use serde_json::Value;
use toml::{Table, Value as Toml};

/// Where and with which code the compiler refused a program.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Refusal {
    /// From 1 on, in what was written for the case.
    pub(crate) line: usize,
    /// An error's number, or a lint's name.
    pub(crate) code: String,
}

/// What the compiler had against each program.
pub(crate) struct Checked(BTreeMap<String, BTreeSet<Refusal>>);

impl Checked {
    /// Nothing, if it compiles.
    pub(crate) fn of(&self, program: &str) -> Result<&BTreeSet<Refusal>, Failed> {
        Ok(self.0.get(program).ok_or_else(|| format!("{program} was not compiled"))?)
    }
}

/// A package outside of the workspace, in a folder that is kept, so that the crates are compiled but once.
pub(crate) struct Package {
    root: PathBuf,
    folder: PathBuf,
}

impl Package {
    /// With the dependencies of the workspace at `root`, in their locked versions.
    pub(crate) fn new(root: &Path, folder: &Path) -> Result<Package, Failed> {
        let examples = folder.join("examples");
        if examples.exists() {
            fs::remove_dir_all(&examples)?;
        }
        fs::create_dir_all(&examples)?;
        fs::create_dir_all(folder.join("src"))?;
        fs::write(folder.join("src/lib.rs"), "")?;
        fs::write(folder.join("Cargo.toml"), manifest(root)?.to_string())?;
        fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock"))?;
        Ok(Package { root: root.to_owned(), folder: folder.to_owned() })
    }

    /// Adds a program: `text`, as a module of the crate in the folder `inside` if there is one.
    pub(crate) fn program(&self, name: &str, inside: Option<&str>, text: &str) -> io::Result<()> {
        let folder = self.folder.join("examples").join(name);
        fs::create_dir(&folder)?;
        let mut sources = String::new();
        if let Some(inside) = inside {
            copy(&self.root.join(inside), &folder)?;
            sources = fs::read_to_string(folder.join("lib.rs"))?;
        }
        fs::write(folder.join("main.rs"), sources + "\npub mod case;\nfn main() {}\n")?;
        fs::write(folder.join("case.rs"), text)
    }

    /// Compiles all programs, as far as that needs no code.
    pub(crate) fn check(&self) -> Result<Checked, Failed> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(["check", "--offline", "--examples", "--keep-going", "--message-format=json"]);
        command.current_dir(&self.folder).env("CARGO_TARGET_DIR", self.folder.join("target"));
        // Flags of the run that started this one, such as a sanitizer's, would compile the crates once more.
        command.env_remove("RUSTFLAGS").env("CARGO_INCREMENTAL", "0");
        let output = command.output()?;
        let mut checked = BTreeMap::<String, BTreeSet<Refusal>>::new();
        for line in String::from_utf8(output.stdout)?.lines() {
            let message: Value = serde_json::from_str(line)?;
            if message["target"]["kind"][0] != "example" {
                continue;
            }
            let name = message["target"]["name"].as_str().unwrap_or_default();
            let refusals = checked.entry(name.to_owned()).or_default();
            if message["message"]["level"] == "error" {
                refusals.extend(refusal(&message["message"]));
            }
        }
        if checked.is_empty() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        Ok(Checked(checked))
    }
}

/// What an error says; `None` for the one that counts the others.
fn refusal(message: &Value) -> Option<Refusal> {
    let primary = message["spans"].as_array()?.iter().find(|span| span["is_primary"] == true)?;
    let code = message["code"]["code"].as_str().or(message["message"].as_str())?;
    let file = primary["file_name"].as_str()?;
    // No mark names a file, so an error elsewhere is not what a case expects.
    let code = if file.ends_with("case.rs") { code.to_owned() } else { format!("{file}: {code}") };
    Some(Refusal { line: primary["line_start"].as_u64()? as usize, code })
}

/// A package that may use all that the server uses, and the workspace's own crates.
fn manifest(root: &Path) -> Result<Table, Failed> {
    let read = |file: &str| -> Result<Table, Failed> { Ok(fs::read_to_string(root.join(file))?.parse()?) };
    let (workspace, server) = (read("Cargo.toml")?, read("server/Cargo.toml")?);
    let table = |of: &Table, name: &str| of.get(name).and_then(Toml::as_table).cloned().unwrap_or_default();
    let mut shared = table(&table(&workspace, "workspace"), "dependencies");
    let mut patches = table(&table(&workspace, "patch"), "crates-io");
    let mut dependencies = table(&server, "dependencies");
    for name in ["cuda_std", "kernels", "runtime", "server"] {
        dependencies.insert(
            name.to_owned(),
            Toml::Table([("workspace".to_owned(), true.into())].into_iter().collect()),
        );
    }
    for (_, dependency) in shared.iter_mut().chain(&mut patches) {
        if let Some(Toml::String(path)) = dependency.get_mut("path") {
            *path = root.join(&*path).to_string_lossy().into_owned();
        }
    }
    let mut manifest: Table =
        "[package]\nname = \"compile_fail\"\nedition = \"2024\"\n[workspace]\nresolver = \"3\"".parse()?;
    let insert = |into: &mut Table, name: &str, table| drop(into.insert(name.to_owned(), Toml::Table(table)));
    if let Some(Toml::Table(workspace)) = manifest.get_mut("workspace") {
        insert(workspace, "dependencies", shared);
    }
    insert(&mut manifest, "dependencies", dependencies);
    insert(&mut manifest, "patch", [("crates-io".to_owned(), Toml::Table(patches))].into_iter().collect());
    Ok(manifest)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
