//! What must not compile: each file of `cases` is a program that does, but for the lines marked `// fails`, which stand
//! where the program has those marked `// compiles`. The compiler must refuse it, with the error codes that the marks
//! name, on their lines, and with no other error; without those lines it must accept the same program, so that nothing
//! fails for another reason than the one meant.
//!
//! A case that begins with `// in: FOLDER` is a module of the crate in that folder.

mod package;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::{env, fs};

use libtest_mimic::{Arguments, Failed, Trial};

use package::{Checked, Package, Refusal};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A case's two programs.
struct Case {
    name: String,
    /// The crate that they are in, if they are no program by themselves.
    folder: Option<String>,
    /// What compiles.
    twin: String,
    /// What does not.
    faulty: String,
    /// What the marks say: line from 1 on in the case, and error code.
    marks: BTreeSet<Refusal>,
}

fn main() -> Result<(), Failed> {
    let mut cases = Vec::new();
    for file in fs::read_dir(Path::new(ROOT).join("tests/compile_fail/cases"))? {
        let path = file?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        cases.push(Case::new(name, &fs::read_to_string(&path)?)?);
    }
    cases.sort_by(|one, other| one.name.cmp(&other.name));
    let (cases, checked) = (Arc::new(cases), Arc::new(OnceLock::new()));
    let trials = (0..cases.len()).flat_map(|i| {
        let trial = |what: &str, test: fn(&Case, &Checked) -> Result<(), Failed>| {
            let (cases, checked) = (Arc::clone(&cases), Arc::clone(&checked));
            Trial::test(format!("{}::{what}", cases[i].name), move || {
                // The compiler runs once for all, and not at all where no trial is wanted.
                let checked = checked.get_or_init(|| check(&cases).map_err(|error| format!("{error:?}")));
                test(&cases[i], checked.as_ref()?)
            })
        };
        [trial("twin_compiles", twin_compiles), trial("is_refused", is_refused)]
    });
    let trials = trials.collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn twin_compiles(case: &Case, checked: &Checked) -> Result<(), Failed> {
    let refusals = checked.of(&case.name)?;
    if refusals.is_empty() { Ok(()) } else { Err(format!("{refusals:#?}").into()) }
}

fn is_refused(case: &Case, checked: &Checked) -> Result<(), Failed> {
    let refusals = checked.of(&format!("{}{FAULTY}", case.name))?;
    if *refusals == case.marks {
        return Ok(());
    }
    Err(format!("marked: {:#?}\nrefused: {refusals:#?}", case.marks).into())
}

/// What the name of a case's program that must not compile ends with.
const FAULTY: &str = "_not";

fn check(cases: &[Case]) -> Result<Checked, Failed> {
    let package = Package::new(ROOT.as_ref(), &Path::new(env!("CARGO_TARGET_TMPDIR")).join("compile_fail"))?;
    for case in cases {
        let folder = case.folder.as_deref();
        package.program(&case.name, folder, &case.twin)?;
        package.program(&format!("{}{FAULTY}", case.name), folder, &case.faulty)?;
    }
    package.check()
}

impl Case {
    fn new(name: String, text: &str) -> Result<Case, Failed> {
        let folder = text.lines().next().and_then(|line| line.strip_prefix("// in: ")).map(str::to_owned);
        let mut case =
            Case { name, folder, twin: String::new(), faulty: String::new(), marks: BTreeSet::new() };
        for (line, number) in text.lines().zip(1..) {
            let (code, mark) = line.rsplit_once(" // ").unwrap_or((line, ""));
            let (in_twin, in_faulty) = match mark.split_once(": ").unwrap_or((mark, "")) {
                ("fails", refusal) => {
                    if !refusal.is_empty() {
                        case.marks.insert(Refusal { line: number, code: refusal.to_owned() });
                    }
                    ("", code)
                }
                ("compiles", "") => (code, ""),
                _ => (line, line),
            };
            case.twin += &format!("{in_twin}\n");
            case.faulty += &format!("{in_faulty}\n");
        }
        if case.marks.is_empty() {
            return Err(format!("{}: no line is marked with a refusal", case.name).into());
        }
        Ok(case)
    }
}
