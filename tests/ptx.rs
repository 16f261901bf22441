//! What is in the PTX that the program embeds, and that anybody can build the same.
//!
//! Without the kernel compiler the tests that build are ignored, by name; with `kernel-compiler` among the
//! comma-separated words of `WORKER_ORCD_REQUIRE` its absence is a failure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;
use std::{env, fs, io};

use cuda_builder::{Compiler, Image, Manifest, cache_folder, fingerprint, ptx};
use libtest_mimic::{Arguments, Failed, Trial};
use worker_orcd::images::IMAGES;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const COUNTS: &str = "tests/golden/ptx-counts.toml";
const BUILD_ANEW: &str = "build and commit them anew with `cargo run -p cuda_builder`";

fn main() {
    let mut trials = vec![
        Trial::test("committed_images_belong_to_the_sources", committed_images_belong_to_the_sources),
        Trial::test("no_instruction_leaves_bits_to_the_driver", no_instruction_leaves_bits_to_the_driver),
        Trial::test("nothing_is_called_beside_wgmma", nothing_is_called_beside_wgmma),
        Trial::test("instruction_counts_are_the_reviewed_ones", instruction_counts_are_the_reviewed_ones),
        Trial::test("sources_and_images_have_the_same_entries", sources_and_images_have_the_same_entries),
    ];
    trials.append(&mut match Compiler::find() {
        Ok(compiler) => building(&compiler),
        Err(error) => without_compiler(&error.to_string()),
    });
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

const BUILD_FROM_TWO_FOLDERS: &str = "a_build_from_another_folder_has_the_same_bytes";
const BUILD_THE_COMMITTED: &str = "a_build_has_the_bytes_of_the_committed_images";

fn building(compiler: &Compiler) -> Vec<Trial> {
    let committed_by = Manifest::read(ROOT.as_ref()).ok().flatten().map(|manifest| manifest.compiler);
    let same_compiler = committed_by.as_deref() == Some(compiler.version());
    let (first, second) = (compiler.clone(), compiler.clone());
    let agreement =
        Trial::test(BUILD_THE_COMMITTED, move || a_build_has_the_bytes_of_the_committed_images(&second));
    vec![
        Trial::test(BUILD_FROM_TWO_FOLDERS, move || a_build_from_another_folder_has_the_same_bytes(&first)),
        if same_compiler {
            agreement
        } else {
            let committed_by = committed_by.as_deref().unwrap_or("nobody");
            let version = compiler.version();
            agreement
                .with_kind(format!("committed by {committed_by}; to bless {version}: {BUILD_ANEW}"))
                .with_ignored_flag(true)
        },
    ]
}

fn without_compiler(message: &str) -> Vec<Trial> {
    let required = env::var("WORKER_ORCD_REQUIRE")
        .is_ok_and(|list| list.split(',').any(|word| word == "kernel-compiler"));
    let trial = |name| {
        let message = message.to_owned();
        Trial::test(name, move || Err(message.into()))
            .with_kind("no kernel compiler")
            .with_ignored_flag(!required)
    };
    vec![trial(BUILD_FROM_TWO_FOLDERS), trial(BUILD_THE_COMMITTED)]
}

fn committed_images_belong_to_the_sources() -> Result<(), Failed> {
    let manifest = Manifest::read(ROOT.as_ref())?.ok_or("there are no committed images")?;
    if manifest.sources != fingerprint(ROOT.as_ref())? {
        return Err(
            format!("the kernel sources have changed since the committed images: {BUILD_ANEW}").into()
        );
    }
    manifest.images(ROOT.as_ref())?;
    Ok(())
}

fn no_instruction_leaves_bits_to_the_driver() -> Result<(), Failed> {
    for image in embedded() {
        ptx::check(&image)?;
    }
    Ok(())
}

/// Of a kernel that calls a function, and to divide is to call one, the driver's compiler lets no two `wgmma` be under way at once.
fn nothing_is_called_beside_wgmma() -> Result<(), Failed> {
    let calls = |instruction: &ptx::Instruction<'_>| {
        let opcode = instruction.opcode();
        let divides = ["div.rn", "rcp.rn", "sqrt.rn", "div.u64", "div.s64", "rem.u64", "rem.s64"];
        opcode.starts_with("call") || divides.iter().any(|divides| opcode.starts_with(divides))
    };
    for image in embedded().filter(|image| image.ptx.contains("wgmma")) {
        if let Some(found) = ptx::instructions(&image.ptx).find(calls) {
            return Err(format!("{}: line {}: {}", image.file(), found.line, found.text).into());
        }
    }
    Ok(())
}

/// Barriers and shuffles are where a compiler has broken kernels before (rust-lang/rust issue 137086), so their
/// number per kernel is reviewed against the source. `BLESS=1` writes the table anew.
fn instruction_counts_are_the_reviewed_ones() -> Result<(), Failed> {
    let path = Path::new(ROOT).join(COUNTS);
    let counted = counts();
    if env::var_os("BLESS").is_some() {
        fs::write(&path, table(&counted))?;
    }
    let reviewed: Counts = toml::from_str(&fs::read_to_string(&path)?)?;
    let differences: Vec<String> = union(&counted, &reviewed)
        .into_iter()
        .filter_map(|(chip, function)| {
            let find = |counts: &Counts| counts.get(&chip).and_then(|chip| chip.get(&function)).cloned();
            let (counted, reviewed) = (find(&counted), find(&reviewed));
            (counted != reviewed).then(|| format!("{chip} {function}: {counted:?}, reviewed {reviewed:?}"))
        })
        .collect();
    if differences.is_empty() {
        return Ok(());
    }
    Err(format!("compare with the source, then write {COUNTS} with BLESS=1:\n{}", differences.join("\n"))
        .into())
}

fn sources_and_images_have_the_same_entries() -> Result<(), Failed> {
    let mut in_sources = BTreeSet::new();
    for file in fs::read_dir(Path::new(ROOT).join("kernels/src"))? {
        let path = file?.path();
        if path.is_dir() {
            continue; // no family: what several families use
        }
        let prefix = format!("{}__", path.file_stem().unwrap_or_default().to_string_lossy());
        let source = fs::read_to_string(&path)?;
        let code = source.lines().filter_map(|line| line.split("//").next());
        let words = code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'));
        in_sources.extend(words.filter(|word| word.starts_with(&prefix)).map(str::to_owned));
    }
    if in_sources.is_empty() {
        return Err("no entry is declared in kernels/src".into());
    }
    let in_images: BTreeSet<String> =
        IMAGES.iter().flat_map(|image| ptx::entries(image.ptx)).map(str::to_owned).collect();
    if in_images != in_sources {
        let missing: Vec<_> = in_sources.difference(&in_images).collect();
        let unknown: Vec<_> = in_images.difference(&in_sources).collect();
        return Err(format!("not in the images: {missing:?}; not in the sources: {unknown:?}").into());
    }
    Ok(())
}

fn a_build_from_another_folder_has_the_same_bytes(compiler: &Compiler) -> Result<(), Failed> {
    let root = Path::new(ROOT);
    let here = built_here(compiler)?;
    let folder = tempfile::tempdir()?;
    let (elsewhere, cache) = (folder.path().join("elsewhere"), folder.path().join("cache"));
    for input in cuda_builder::INPUTS {
        copy(&root.join(input), &elsewhere.join(input))?;
    }
    // With the cache of the first build comes the compiled `core`, which takes most of the time.
    copy(&cache_folder(root), &cache)?;
    let there = cuda_builder::build(compiler, &elsewhere, &cache)?;
    agree(&there, here)
}

fn a_build_has_the_bytes_of_the_committed_images(compiler: &Compiler) -> Result<(), Failed> {
    let committed = Manifest::read(ROOT.as_ref())?.ok_or("there are no committed images")?;
    agree(built_here(compiler)?, &committed.images(ROOT.as_ref())?)
}

/// The images built in this workspace, once for all tests.
fn built_here(compiler: &Compiler) -> Result<&'static [Image], Failed> {
    static BUILT: OnceLock<Result<Vec<Image>, String>> = OnceLock::new();
    let root = Path::new(ROOT);
    let build =
        || cuda_builder::build(compiler, root, &cache_folder(root)).map_err(|error| error.to_string());
    Ok(BUILT.get_or_init(build).as_deref()?)
}

fn agree(one: &[Image], other: &[Image]) -> Result<(), Failed> {
    let files = |images: &[Image]| images.iter().map(Image::file).collect::<Vec<_>>();
    if files(one) != files(other) {
        return Err(format!("{:?} against {:?}", files(one), files(other)).into());
    }
    for (one, other) in one.iter().zip(other) {
        let first = one.ptx.lines().zip(other.ptx.lines()).zip(1..).find(|((one, other), _)| one != other);
        if let Some(((left, right), line)) = first {
            return Err(format!("{}, line {line}:\n{left}\n{right}", one.file()).into());
        }
        if one.ptx != other.ptx {
            return Err(format!("{}: one is longer than the other", one.file()).into());
        }
    }
    Ok(())
}

/// The images that the program embeds.
fn embedded() -> impl Iterator<Item = Image> {
    let owned = |image: &runtime::device::Image| Image {
        chip: image.chip.to_owned(),
        family: image.family.to_owned(),
        ptx: image.ptx.to_owned(),
    };
    IMAGES.iter().map(owned)
}

/// How often each kind of instruction occurs in each function of each chip's images.
type Counts = BTreeMap<String, BTreeMap<String, BTreeMap<String, u32>>>;

/// What is counted: a name, and how its instructions begin. The first that fits counts.
const KINDS: &[(&str, &str)] = &[
    ("bar", "bar.sync"),
    ("bar", "barrier.sync"),
    ("bar_warp", "bar.warp"),
    ("shfl", "shfl."),
    ("vote", "vote."),
    ("ldmatrix", "ldmatrix."),
    ("mma", "mma."),
    ("cp_async_commit", "cp.async.commit"),
    ("cp_async_wait", "cp.async.wait"),
    ("cp_async", "cp.async."),
];

fn counts() -> Counts {
    let mut counts = Counts::new();
    for image in embedded() {
        let functions = counts.entry(image.chip.clone()).or_default();
        for entry in ptx::entries(&image.ptx) {
            functions.entry(entry.to_owned()).or_default();
        }
        for instruction in ptx::instructions(&image.ptx) {
            let kind = KINDS.iter().find(|(_, start)| instruction.opcode().starts_with(start));
            if let Some((kind, _)) = kind {
                let function = functions.entry(instruction.function.to_owned()).or_default();
                *function.entry((*kind).to_owned()).or_default() += 1;
            }
        }
    }
    counts
}

/// The counts as TOML, a line a function.
fn table(counts: &Counts) -> String {
    let mut text = "# Barriers, shuffles, votes, tensor-core steps and asynchronous copies in the PTX of each kernel.\n\
                    # Written by `BLESS=1 cargo test --test ptx`; compare a change with the kernel's source.\n"
        .to_owned();
    for (chip, functions) in counts {
        text += &format!("\n[{chip}]\n");
        for (function, kinds) in functions {
            let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!(" {kind} = {count}")).collect();
            text += &format!("{function} = {{{} }}\n", kinds.join(","));
        }
    }
    text
}

fn union(one: &Counts, other: &Counts) -> BTreeSet<(String, String)> {
    let names = |(chip, functions): (&String, &BTreeMap<String, _>)| -> Vec<(String, String)> {
        functions.keys().map(|function| (chip.clone(), function.clone())).collect()
    };
    one.iter().chain(other).flat_map(names).collect()
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
