//! The crates' public interface, locked: what their sources offer is what `docs/api` lists. A listing depends on the
//! sources alone, not on the compiler.
//!
//! `BLESS=1 cargo test --test api` writes the listings anew.

mod listing;
mod print;
mod source;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs};

use libtest_mimic::{Arguments, Failed, Trial};

use source::Source;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The crates, by the folders they are in.
const CRATES: [&str; 6] =
    ["runtime", "server", "kernels", "crates/cublas-sys", "crates/cuda_loader", "crates/cuda_std"];

fn main() {
    let mut trials = vec![
        Trial::test("a_listing_has_what_can_be_reached", a_listing_has_what_can_be_reached),
        Trial::test("nothing_public_may_lack_documentation", nothing_public_may_lack_documentation),
    ];
    trials.extend(CRATES.map(|folder| {
        let name = folder.rsplit('/').next().unwrap_or(folder);
        Trial::test(format!("{name}_offers_what_is_listed"), move || offers_what_is_listed(folder, name))
    }));
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn offers_what_is_listed(folder: &str, name: &str) -> Result<(), Failed> {
    let offered = list(name, &Path::new(ROOT).join(folder).join("src"))?;
    let file = format!("docs/api/{name}.txt");
    let path = Path::new(ROOT).join(&file);
    if env::var_os("BLESS").is_some() {
        fs::create_dir_all(path.with_file_name(""))?;
        fs::write(&path, offered.iter().map(|line| format!("{line}\n")).collect::<String>())?;
    }
    let text = fs::read_to_string(&path).map_err(|error| format!("{file}: {error}; {BLESS}"))?;
    let listed: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    if listed == offered {
        return Ok(());
    }
    let removed = listed.difference(&offered).map(|line| format!("- {line}"));
    let added = offered.difference(&listed).map(|line| format!("+ {line}"));
    let differences: Vec<String> = removed.chain(added).collect();
    Err(format!("{name} offers something else than {file} lists:\n{}\n{BLESS}", differences.join("\n"))
        .into())
}

const BLESS: &str = "if that is meant, list it with `BLESS=1 cargo test --test api`";

fn list(name: &str, folder: &Path) -> Result<BTreeSet<String>, Failed> {
    Ok(listing::list(&name.replace('-', "_"), &Source::read(folder)?))
}

/// The compiler looks for what lacks documentation, and clippy's run makes its warnings errors; here is who could tell it not
/// to look. `kernel!` alone may: it documents the host's half of a kernel, and the device's is nobody's to call.
fn nothing_public_may_lack_documentation() -> Result<(), Failed> {
    let manifest = |folder: &Path| -> Result<toml::Table, Failed> {
        Ok(fs::read_to_string(folder.join("Cargo.toml"))?.parse()?)
    };
    let root = manifest(ROOT.as_ref())?;
    assert_eq!(root["workspace"]["lints"]["rust"]["missing_docs"].as_str(), Some("warn"));
    let members =
        root["workspace"]["members"].as_array().into_iter().flatten().filter_map(toml::Value::as_str);
    let mut quiet = Vec::new();
    for folder in members.chain([""]).map(|folder| Path::new(ROOT).join(folder)) {
        let inherits = manifest(&folder)?.get("lints").and_then(|lints| lints.get("workspace")?.as_bool());
        assert_eq!(inherits, Some(true), "{}: [lints] workspace = true", folder.display());
        look_for_exceptions(&folder.join("src"), &mut quiet)?;
    }
    assert_eq!(quiet, [Path::new(ROOT).join("crates/cuda_std/src/kernel.rs")]);
    Ok(())
}

/// Adds the files that name the lint.
fn look_for_exceptions(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), Failed> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            look_for_exceptions(&path, found)?;
        } else if fs::read_to_string(&path).is_ok_and(|text| text.contains("missing_docs")) {
            found.push(path);
        }
    }
    Ok(())
}

fn a_listing_has_what_can_be_reached() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let write = |file: &str, text: &str| fs::write(folder.path().join(file), text);
    fs::create_dir(folder.path().join("open"))?;
    write(
        "lib.rs",
        "mod hidden; pub mod open; pub use hidden::{Kept, *}; pub use hidden::Kept as Renamed; pub use other::Thing;
         pub(crate) fn inside() {} fn private() {}
         #[cfg(target_arch = \"nvptx64\")] pub fn seen_by_gpus() {}
         #[cfg(test)] pub mod tests { pub fn seen_by_tests() {} }
         #[macro_export] macro_rules! make { () => {}; }",
    )?;
    write(
        "hidden.rs",
        "use crate::open::deep::Speak;
         /// Kept.
         #[derive(Clone, Debug)] #[must_use]
         pub struct Kept<T: Copy>(pub T, u8);
         pub struct Globbed<'a> { pub a: &'a str, b: u8 }
         impl<T: Copy> Kept<T> { pub const N: usize = 3; pub unsafe fn get<'a>(&'a mut self) -> Option<&'a T> { None } fn no(&self) {} }
         impl<T: Copy> Speak for Kept<T> { fn speak(&self) {} }
         impl<T: Copy> Drop for Kept<T> { fn drop(&mut self) {} }
         impl<T: Copy> Whisper for Kept<T> {}
         trait Whisper {}",
    )?;
    write(
        "open/mod.rs",
        "pub mod deep;
         #[non_exhaustive] pub enum Kind { One, Two(u8, Vec<u8>), Three {
             /// Documented.
             x: &'static [f32; 2], } }
         pub type Call = Box<dyn Fn(&str, [u8; 4]) -> Vec<u32> + Send>;
         make! { pub X = 3; Y = [1, 2] }",
    )?;
    write(
        "open/deep.rs",
        "pub trait Speak: Send { type To<'a>: Copy; const LOUD: bool; fn speak(&self); fn shout(&self) {} }",
    )?;
    let expected = "\
        small::Kept: #[derive(Clone, Debug)] #[must_use] struct<T: Copy> { .. }
        small::Kept: impl<T: Copy> Drop for Kept<T>
        small::Kept: impl<T: Copy> Speak for Kept<T>
        small::Kept::0: field T
        small::Kept::N: const usize in impl<T: Copy> Kept<T>
        small::Kept::get: unsafe fn<'a>(&'a mut self) -> Option<&'a T> in impl<T: Copy> Kept<T>
        small::Renamed: #[derive(Clone, Debug)] #[must_use] struct<T: Copy> { .. }
        small::Renamed: impl<T: Copy> Drop for Kept<T>
        small::Renamed: impl<T: Copy> Speak for Kept<T>
        small::Renamed::0: field T
        small::Renamed::N: const usize in impl<T: Copy> Kept<T>
        small::Renamed::get: unsafe fn<'a>(&'a mut self) -> Option<&'a T> in impl<T: Copy> Kept<T>
        small::Thing: pub use other::Thing
        small::Globbed: struct<'a> { .. }
        small::Globbed::a: field &'a str
        small::make: #[macro_export] macro
        small::open: make! pub X = 3
        small::open: make! Y = [1, 2]
        small::open::Call: type = Box<dyn Fn(&str, [u8; 4]) -> Vec<u32> + Send>
        small::open::Kind: #[non_exhaustive] enum
        small::open::Kind::One: variant
        small::open::Kind::Three: variant { x: &'static [f32; 2] }
        small::open::Kind::Two: variant(u8, Vec<u8>)
        small::open::deep::Speak: trait: Send
        small::open::deep::Speak::LOUD: const bool
        small::open::deep::Speak::To: type<'a>: Copy
        small::open::deep::Speak::shout: fn(&self) { .. }
        small::open::deep::Speak::speak: fn(&self)";
    let expected: BTreeSet<String> = expected.lines().map(|line| line.trim().to_owned()).collect();
    let listed = list("small", folder.path())?;
    if listed == expected {
        return Ok(());
    }
    let missing: Vec<_> = expected.difference(&listed).collect();
    let unknown: Vec<_> = listed.difference(&expected).collect();
    Err(format!("missing: {missing:#?}\nunknown: {unknown:#?}").into())
}
