//! What NVIDIA's assembler makes of the kernels for an H100: no local memory, and the registers that were reviewed.
//!
//! Nothing else needs `ptxas`: without it on the path, or named by `WORKER_ORCD_PTXAS`, the test is ignored; with `ptxas` among
//! the comma-separated words of `WORKER_ORCD_REQUIRE` its absence is a failure.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use libtest_mimic::{Arguments, Failed, Trial};
use serde::{Deserialize, Serialize};
use worker_orcd::images::IMAGES;

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/registers.toml");
/// What images for older chips are assembled for.
const CHIP: &str = "sm_90";
const NAME: &str = "no_kernel_uses_local_memory_and_registers_are_the_reviewed_ones";

fn main() {
    let ptxas = env::var("WORKER_ORCD_PTXAS").unwrap_or_else(|_| "ptxas".to_owned());
    let trial = match version(&ptxas) {
        Ok(version) => Trial::test(NAME, move || registers_are_the_reviewed_ones(&ptxas, version)),
        Err(error) => {
            let required =
                env::var("WORKER_ORCD_REQUIRE").is_ok_and(|list| list.split(',').any(|word| word == "ptxas"));
            Trial::test(NAME, move || Err(error.into())).with_kind("no ptxas").with_ignored_flag(!required)
        }
    };
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit();
}

/// The reviewed numbers.
#[derive(Serialize, Deserialize)]
struct Table {
    /// Whose they are; another version's may differ.
    ptxas: String,
    /// By kernel.
    registers: BTreeMap<String, u32>,
}

/// Such as `V13.0.88`.
fn version(ptxas: &str) -> Result<String, String> {
    let output =
        Command::new(ptxas).arg("--version").output().map_err(|error| format!("{ptxas}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split([' ', '\n', ',']).find(|word| word.starts_with('V') && word.contains('.'));
    version.map(str::to_owned).ok_or_else(|| format!("{ptxas} does not tell its version: {text:?}"))
}

fn registers_are_the_reviewed_ones(ptxas: &str, version: String) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let (mut registers, mut local) = (BTreeMap::new(), Vec::new());
    for image in IMAGES {
        let chip = if image.chip == "sm_80" { CHIP } else { image.chip };
        for kernel in image.kernels() {
            let ptx = image.kernel(kernel, (9, 0)).ok_or(kernel)?;
            let used = assemble(ptxas, folder.path(), (kernel, chip), &ptx)?;
            if used.local > 0 {
                local.push(format!("{kernel}: {} bytes", used.local));
            }
            registers.insert(kernel.to_owned(), used.registers);
        }
    }
    if !local.is_empty() {
        return Err(format!("local memory, to which registers are spilled:\n{}", local.join("\n")).into());
    }
    let now = Table { ptxas: version, registers };
    if env::var_os("BLESS").is_some() {
        let head = "# Registers of a thread of each kernel on an H100, as ptxas says.\n\
                    # Written by `BLESS=1 cargo test --test registers`.\n\n";
        fs::write(TABLE, format!("{head}{}", toml::to_string(&now)?))?;
    }
    let reviewed: Table = toml::from_str(&fs::read_to_string(TABLE)?)?;
    if reviewed.ptxas != now.ptxas {
        eprintln!("registers are not compared: the table is of {}, this is {}", reviewed.ptxas, now.ptxas);
        return Ok(());
    }
    let names = now.registers.keys().chain(reviewed.registers.keys());
    let mut differences: Vec<String> = names
        .map(|name| (name, now.registers.get(name), reviewed.registers.get(name)))
        .filter(|(_, now, reviewed)| now != reviewed)
        .map(|(name, now, reviewed)| format!("{name}: {now:?}, reviewed {reviewed:?}"))
        .collect();
    differences.dedup();
    if differences.is_empty() { Ok(()) } else { Err(differences.join("\n").into()) }
}

/// What a kernel uses.
struct Used {
    registers: u32,
    /// Bytes of its stack frame.
    local: u32,
}

/// One kernel.
fn assemble(ptxas: &str, folder: &Path, (kernel, chip): (&str, &str), ptx: &str) -> Result<Used, Failed> {
    let (source, target) = (folder.join("kernel.ptx"), folder.join("kernel.cubin"));
    fs::write(&source, ptx)?;
    let output = Command::new(ptxas).args(["-v", "-arch", chip, "-o"]).arg(target).arg(source).output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{kernel}: {text}").into());
    }
    let number = |after: &str| {
        let before = text.split_once(after).and_then(|(before, _)| before.split_whitespace().last());
        let number = before.and_then(|word| word.parse().ok());
        number.ok_or_else(|| format!("{kernel}: ptxas tells no number of {after}:\n{text}"))
    };
    Ok(Used { registers: number(" registers")?, local: number(" bytes stack frame")? })
}
