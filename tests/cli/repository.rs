//! `pull owner/name`: a hub on this machine that does what the real one does, and what goes wrong there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::site::{Asked, Reply, Site};
use crate::{expect_failure, stderr, stdout, worker};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const BLOB: &str = "89abcdef0123456789abcdef0123456789abcdef";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("the_only_gguf_file_of_a_repository_is_taken_and_not_fetched_again", only_one),
        Trial::test("of_several_gguf_files_one_has_to_be_chosen", several),
        Trial::test("a_file_in_a_folder_of_the_repository_is_fetched_to_such_a_folder", chosen),
        Trial::test("a_file_that_a_repository_lacks_is_told_with_those_it_has", no_file),
        Trial::test("safetensors_are_fetched_as_a_folder", folder),
        Trial::test("a_repository_without_a_model_is_told", no_model),
        Trial::test("the_hub_may_send_on_to_another_host_which_gets_no_token", redirect),
        Trial::test("a_transfer_that_breaks_off_goes_on_where_it_was", goes_on),
        Trial::test("a_hub_without_ranges_sends_all_of_it_again", no_ranges),
        Trial::test("a_transfer_that_stays_broken_is_kept_for_the_next_command", stays_broken),
        Trial::test("a_file_of_another_hash_is_thrown_away", wrong_hash),
        Trial::test("a_part_of_something_else_is_found_by_its_hash_and_fetched_anew", wrong_part),
        Trial::test("a_file_that_does_not_end_is_cut_off_after_its_size", endless),
        Trial::test("a_gated_repository_is_told_with_what_to_do", gated),
        Trial::test("the_token_is_that_of_the_environment_or_of_the_hubs_file", tokens),
        Trial::test("a_repository_that_is_not_there_is_told", not_there),
        Trial::test("without_a_network_the_way_around_is_told", offline),
        Trial::test("a_full_disk_is_told_with_the_bytes_needed", full),
        Trial::test("a_hub_that_names_files_elsewhere_writes_nothing_there", hostile_names),
        Trial::test("an_answer_that_is_none_is_told", nonsense),
    ]
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 300 kB that differ from place to place.
fn content() -> Vec<u8> {
    (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// A file of the listing, with the hash of `content`.
fn large(path: &str, content: &[u8]) -> Value {
    let (bytes, hash) = (content.len(), sha256(content));
    json!({"rfilename": path, "size": bytes, "blobId": BLOB, "lfs": {"sha256": hash, "size": bytes, "pointerSize": 134}})
}

fn small(path: &str, content: &[u8]) -> Value {
    json!({"rfilename": path, "size": content.len(), "blobId": BLOB})
}

fn listing(files: &[Value]) -> Reply {
    Reply::new("200 OK", json!({"id": "some/model", "sha": COMMIT, "siblings": files}).to_string())
}

const DESCRIBE: &str = "/api/models/some/model/revision/main?blobs=true";

fn address(file: &str) -> String {
    format!("/some/model/resolve/{COMMIT}/{file}")
}

/// The bytes that a request asks for.
fn part(asked: &Asked, content: &[u8]) -> Reply {
    let range =
        asked.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let Some(start) = range else { return Reply::new("200 OK", content) };
    let start: usize = start;
    let (end, len) = (content.len() - 1, content.len());
    Reply::new("206 Partial Content", &content[start..])
        .with("Content-Range", format!("bytes {start}-{end}/{len}"))
}

/// A hub with these files, each given as [`part`] does.
pub(crate) fn hub(files: Vec<(&'static str, Vec<u8>)>) -> Result<Site, Failed> {
    let listed: Vec<Value> = files.iter().map(|(path, content)| large(path, content)).collect();
    Ok(Site::start(move |asked| {
        if asked.path == DESCRIBE {
            return listing(&listed);
        }
        let found = files.iter().find(|(path, _)| asked.path == address(path));
        found.map_or_else(|| Reply::new("404 Not Found", ""), |(_, content)| part(asked, content))
    })?)
}

pub(crate) fn pull(cache: &Path, hub: Option<&Site>, name: &str) -> Result<Output, Failed> {
    let mut command = worker(cache);
    if let Some(hub) = hub {
        command.env("HF_ENDPOINT", &hub.address);
    }
    // Not the user's own.
    for variable in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"] {
        command.env_remove(variable);
    }
    Ok(command.env("HF_HOME", cache).args(["pull", name]).output()?)
}

pub(crate) fn expect_path(output: &Output, path: &Path) {
    assert!(output.status.success(), "{output:?}");
    assert_eq!(stdout(output), format!("{}\n", path.display()));
}

/// All that the cache's folder of models has, its lock apart.
pub(crate) fn files(cache: &Path) -> Result<Vec<String>, Failed> {
    let models = cache.join("models");
    let (mut found, mut folders) = (Vec::new(), vec![models.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path != models.join(".lock") {
                found.push(path.strip_prefix(&models)?.display().to_string());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn only_one() -> Result<(), Failed> {
    let (cache, content) = (tempfile::tempdir()?, content());
    let hub = hub(vec![("README.md", b"text".to_vec()), ("m.Q8_0.gguf", content.clone())])?;
    let path = cache.path().join("models/some/model/m.Q8_0.gguf");
    expect_path(&pull(cache.path(), Some(&hub), "some/model")?, &path);
    assert!(fs::read(&path)? == content);
    assert_eq!(files(cache.path())?, ["some/model/m.Q8_0.gguf"]);
    assert_eq!(hub.asked().len(), 2);
    assert_eq!(hub.asked()[0].header("authorization"), None);

    // It is there: the listing alone is asked for.
    expect_path(&pull(cache.path(), Some(&hub), "some/model")?, &path);
    assert_eq!(hub.asked().len(), 3);
    // A broken one is fetched again.
    fs::write(&path, vec![0; content.len()])?;
    expect_path(&pull(cache.path(), Some(&hub), "some/model")?, &path);
    assert!(fs::read(&path)? == content);
    Ok(())
}

fn several() -> Result<(), Failed> {
    let cache = tempfile::tempdir()?;
    let hub = hub(vec![("a.Q4_0.gguf", vec![1; 10]), ("b.Q8_0.gguf", vec![2; 2_000_000])])?;
    let output = pull(cache.path(), Some(&hub), "some/model")?;
    expect_failure(
        &output,
        &[
            "several GGUF files",
            "`worker-orcd pull some/model:a.Q4_0.gguf`",
            "a.Q4_0.gguf (10 bytes), b.Q8_0.gguf (2 MB)",
        ],
    );
    Ok(())
}

fn chosen() -> Result<(), Failed> {
    let cache = tempfile::tempdir()?;
    let hub = hub(vec![("Q4/a.gguf", vec![1; 10]), ("b.gguf", vec![2; 20])])?;
    let path = cache.path().join("models/some/model/Q4/a.gguf");
    expect_path(&pull(cache.path(), Some(&hub), "some/model:Q4/a.gguf")?, &path);
    assert_eq!(fs::read(&path)?, [1; 10]);
    Ok(())
}

fn no_file() -> Result<(), Failed> {
    let cache = tempfile::tempdir()?;
    let hub = hub(vec![("a.gguf", vec![1; 10]), ("README.md", vec![2; 20])])?;
    let output = pull(cache.path(), Some(&hub), "some/model:c.gguf")?;
    expect_failure(&output, &["some/model has no file \"c.gguf\"; it has a.gguf (10 bytes)"]);
    Ok(())
}

fn folder() -> Result<(), Failed> {
    let cache = tempfile::tempdir()?;
    let all: Vec<(&str, Vec<u8>)> = vec![
        ("config.json", b"{}".to_vec()),
        ("tokenizer.json", b"{\"a\": 1}".to_vec()),
        ("model-00001-of-00002.safetensors", vec![1; 1000]),
        ("model-00002-of-00002.safetensors", vec![2; 900]),
        ("consolidated.safetensors", vec![3; 1900]),
        ("onnx/model.json", vec![4; 10]),
        ("README.md", vec![5; 10]),
    ];
    // Git's own files have no sha256.
    let is_large = |path: &str| path.ends_with(".safetensors");
    let listed: Vec<Value> = all
        .iter()
        .map(|(path, bytes)| if is_large(path) { large(path, bytes) } else { small(path, bytes) })
        .collect();
    let hub = Site::start(move |asked| match all.iter().find(|(path, _)| asked.path == address(path)) {
        Some((_, content)) => part(asked, content),
        None => listing(&listed),
    })?;
    let path = cache.path().join("models/some/model");
    expect_path(&pull(cache.path(), Some(&hub), "some/model")?, &path);
    assert_eq!(
        files(cache.path())?,
        [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "tokenizer.json"
        ]
        .map(|name| format!("some/model/{name}"))
    );
    assert_eq!(fs::read(path.join("tokenizer.json"))?, b"{\"a\": 1}");
    Ok(())
}

fn no_model() -> Result<(), Failed> {
    let cache = tempfile::tempdir()?;
    let hub = hub(vec![("pytorch_model.bin", vec![1; 10])])?;
    let output = pull(cache.path(), Some(&hub), "some/model")?;
    expect_failure(&output, &["neither a GGUF file nor", "it has pytorch_model.bin (10 bytes)"]);
    Ok(())
}

fn redirect() -> Result<(), Failed> {
    let (cache, content) = (tempfile::tempdir()?, content());
    let listed = [large("m.gguf", &content)];
    let store = Site::start({
        let content = content.clone();
        move |asked| part(asked, &content)
    })?;
    let to = format!("{}/store?signed=1", store.address).replace("127.0.0.1", "localhost");
    let hub = Site::start(move |asked| match asked.path == DESCRIBE {
        true => listing(&listed),
        false => Reply::new("302 Found", "").with("Location", &to),
    })?;
    fs::write(cache.path().join("token"), "secret\n")?;
    let path = cache.path().join("models/some/model/m.gguf");
    expect_path(&pull(cache.path(), Some(&hub), "some/model:m.gguf")?, &path);
    assert!(fs::read(&path)? == content);
    assert!(hub.asked().iter().all(|asked| asked.header("authorization") == Some("Bearer secret")));
    let stored = store.asked();
    assert_eq!(stored.len(), 1);
    assert_eq!((&*stored[0].path, stored[0].header("authorization")), ("/store?signed=1", None));
    Ok(())
}

/// A hub whose transfers break after `bytes` bytes each, `times` times.
fn breaking(content: &[u8], bytes: usize, times: usize, ranges: bool) -> Result<Site, Failed> {
    let (content, listed) = (content.to_vec(), [large("m.gguf", content)]);
    let given = Arc::new(AtomicUsize::new(0));
    Ok(Site::start(move |asked| {
        if asked.path == DESCRIBE {
            return listing(&listed);
        }
        let mut reply = if ranges { part(asked, &content) } else { Reply::new("200 OK", &content[..]) };
        if given.fetch_add(1, Ordering::SeqCst) < times {
            reply.breaks_after = Some(bytes.min(reply.body.len()));
        }
        reply
    })?)
}

fn ranges(hub: &Site) -> Vec<Option<String>> {
    hub.asked().iter().skip(1).map(|asked| asked.header("range").map(str::to_owned)).collect()
}

fn goes_on() -> Result<(), Failed> {
    let (cache, content) = (tempfile::tempdir()?, content());
    let hub = breaking(&content, 100_000, 2, true)?;
    let path = cache.path().join("models/some/model/m.gguf");
    expect_path(&pull(cache.path(), Some(&hub), "some/model")?, &path);
    assert!(fs::read(&path)? == content);
    assert_eq!(ranges(&hub), [None, Some("bytes=100000-".to_owned()), Some("bytes=200000-".to_owned())]);
    assert_eq!(files(cache.path())?, ["some/model/m.gguf"]);
    Ok(())
}

fn no_ranges() -> Result<(), Failed> {
    let (cache, content) = (tempfile::tempdir()?, content());
    let hub = breaking(&content, 100_000, 1, false)?;
    let path = cache.path().join("models/some/model/m.gguf");
    expect_path(&pull(cache.path(), Some(&hub), "some/model")?, &path);
    assert!(fs::read(&path)? == content);
    Ok(())
}

fn stays_broken() -> Result<(), Failed> {
    let (cache, content) = (tempfile::tempdir()?, content());
    let hub = breaking(&content, 20_000, usize::MAX, true)?;
    let output = pull(cache.path(), Some(&hub), "some/model")?;
    expect_failure(
        &output,
        &["m.gguf broke off after 100000 of 300000 bytes", "the same command goes on from there"],
    );
    assert_eq!(files(cache.path())?, [format!(".resume/{}", sha256(&content))]);

    let hub = breaking(&content, 0, 0, true)?;
    let path = cache.path().join("models/some/model/m.gguf");
    expect_path(&pull(cache.path(), Some(&hub), "some/model")?, &path);
    assert_eq!(ranges(&hub), [Some("bytes=100000-".to_owned())]);
    assert!(fs::read(&path)? == content);
    assert_eq!(files(cache.path())?, ["some/model/m.gguf"]);
    Ok(())
}

fn wrong_hash() -> Result<(), Failed> {
    let (cache, content) = (tempfile::tempdir()?, content());
    let listed = [large("m.gguf", &content)];
    let hub = Site::start(move |asked| match asked.path == DESCRIBE {
        true => listing(&listed),
        false => Reply::new("200 OK", vec![7; content.len()]),
    })?;
    let output = pull(cache.path(), Some(&hub), "some/model")?;
    expect_failure(&output, &["m.gguf came with the sha256", "was expected: it is thrown away"]);
    assert_eq!(files(cache.path())?, [""; 0]);
    Ok(())
}

fn wrong_part() -> Result<(), Failed> {
    let (cache, content) = (tempfile::tempdir()?, content());
    let hub = hub(vec![("m.gguf", content.clone())])?;
    let folder = cache.path().join("models/.resume");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(sha256(&content)), [9; 1000])?;
    let output = pull(cache.path(), Some(&hub), "some/model")?;
    expect_failure(&output, &["sha256", "the same command fetches it anew"]);
    let path = cache.path().join("models/some/model/m.gguf");
    expect_path(&pull(cache.path(), Some(&hub), "some/model")?, &path);
    // One that is longer than the file is none.
    fs::remove_file(&path)?;
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(sha256(&content)), vec![9; 400_000])?;
    expect_path(&pull(cache.path(), Some(&hub), "some/model")?, &path);
    assert!(fs::read(&path)? == content);
    Ok(())
}

fn endless() -> Result<(), Failed> {
    let (cache, content) = (tempfile::tempdir()?, content());
    let listed = [large("m.gguf", &content[..1000])];
    let hub = Site::start(move |asked| match asked.path == DESCRIBE {
        true => listing(&listed),
        false => Reply::new("200 OK", &content[..]),
    })?;
    let output = pull(cache.path(), Some(&hub), "some/model")?;
    expect_failure(&output, &["m.gguf came with 1001 bytes or more, but 1000 was expected"]);
    assert_eq!(files(cache.path())?, [""; 0]);
    Ok(())
}

fn gated() -> Result<(), Failed> {
    let cache = tempfile::tempdir()?;
    for status in ["401 Unauthorized", "403 Forbidden"] {
        let hub = Site::start(move |_| Reply::new(status, "{\"error\": \"gated\"}"))?;
        let output = pull(cache.path(), Some(&hub), "some/model")?;
        expect_failure(&output, &["does not give some/model", "gated, private", "give a token in HF_TOKEN"]);
    }
    // The listing is public, the files are not.
    let listed = [large("m.gguf", b"x")];
    let hub = Site::start(move |asked| match asked.path == DESCRIBE {
        true => listing(&listed),
        false => Reply::new("403 Forbidden", ""),
    })?;
    fs::write(cache.path().join("token"), "secret")?;
    let output = pull(cache.path(), Some(&hub), "some/model")?;
    expect_failure(
        &output,
        &["does not give some/model", "accept its terms", "use a token that may read it"],
    );
    assert!(!stderr(&output).contains("secret"), "{output:?}");
    Ok(())
}

fn tokens() -> Result<(), Failed> {
    let cache = tempfile::tempdir()?;
    let file = cache.path().join("elsewhere");
    fs::write(&file, " of-a-path\n")?;
    fs::write(cache.path().join("token"), "of-the-file\n")?;
    let path = file.display().to_string();
    for (variable, value, expected) in [
        ("HF_TOKEN", "of-the-variable", "Bearer of-the-variable"),
        ("HUGGING_FACE_HUB_TOKEN", "older", "Bearer older"),
        ("HF_TOKEN_PATH", &*path, "Bearer of-a-path"),
        ("HF_TOKEN", "", "Bearer of-the-file"),
    ] {
        let hub = Site::start(|_| Reply::new("404 Not Found", ""))?;
        let mut command = worker(cache.path());
        for variable in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"] {
            command.env_remove(variable);
        }
        command.env("HF_ENDPOINT", &hub.address).env("HF_HOME", cache.path()).env(variable, value);
        command.args(["pull", "some/model"]).output()?;
        let asked = hub.asked();
        assert_eq!((asked.len(), asked[0].header("authorization")), (1, Some(expected)), "{variable}");
    }
    Ok(())
}

fn not_there() -> Result<(), Failed> {
    let cache = tempfile::tempdir()?;
    let hub = Site::start(|_| Reply::new("404 Not Found", ""))?;
    expect_failure(&pull(cache.path(), Some(&hub), "some/model")?, &["the hub has no some/model"]);
    let hub = Site::start(|_| Reply::new("503 Service Unavailable", ""))?;
    expect_failure(
        &pull(cache.path(), Some(&hub), "some/model")?,
        &["answered 503", "some/model", "try again later"],
    );
    Ok(())
}

fn offline() -> Result<(), Failed> {
    let cache = tempfile::tempdir()?;
    let output = pull(cache.path(), None, "some/model")?;
    expect_failure(
        &output,
        &["the hub cannot be reached", "fetch the file by other means and give its path to --model"],
    );
    assert!(!cache.path().join("models/some").exists());
    Ok(())
}

fn full() -> Result<(), Failed> {
    let (cache, content) = (tempfile::tempdir()?, content());
    let hub = hub(vec![("m.gguf", content.clone())])?;
    let folder = cache.path().join("models/.resume");
    fs::create_dir_all(&folder)?;
    symlink("/dev/full", folder.join(sha256(&content)))?;
    let output = pull(cache.path(), Some(&hub), "some/model")?;
    expect_failure(&output, &["no space is left for", "takes 300000 bytes", "WORKER_ORCD_CACHE"]);
    Ok(())
}

fn hostile_names() -> Result<(), Failed> {
    let cache = tempfile::tempdir()?;
    let names = [
        "../../evil.gguf",
        "/tmp/evil.gguf",
        ".hidden.gguf",
        "a/../../evil.gguf",
        "a\\evil.gguf",
        "\u{1b}[2Jm.gguf",
        "n.gguf",
    ];
    let listed: Vec<Value> = names.iter().map(|name| large(name, b"evil")).collect();
    let hub = Site::start(move |asked| match asked.path == DESCRIBE {
        true => listing(&listed),
        false => Reply::new("200 OK", "evil"),
    })?;
    let output = pull(cache.path(), Some(&hub), "some/model")?;
    expect_failure(&output, &["several GGUF files", "\\u{1b}[2Jm.gguf (4 bytes), n.gguf (4 bytes)"]);
    assert!(!stderr(&output).contains('\u{1b}') && !stderr(&output).contains("evil"), "{output:?}");
    // A hash that is a path is no hash.
    for hash in ["../../../evil", &"g".repeat(64)] {
        let mut file = large("m.gguf", b"evil");
        file["lfs"]["sha256"] = json!(hash);
        let hub = Site::start(move |_| listing(std::slice::from_ref(&file)))?;
        expect_failure(
            &pull(cache.path(), Some(&hub), "some/model")?,
            &["neither a GGUF file nor", "it has none"],
        );
    }
    assert_eq!(fs::read_dir(cache.path())?.count(), 0, "nothing was written");
    Ok(())
}

fn nonsense() -> Result<(), Failed> {
    let cache = tempfile::tempdir()?;
    for body in ["", "<html>", "[]", "{\"sha\": \"../..\", \"siblings\": []}"] {
        let hub = Site::start(move |_| Reply::new("200 OK", body))?;
        let output = pull(cache.path(), Some(&hub), "some/model")?;
        expect_failure(&output, &["the hub's answer about some/model cannot be used"]);
    }
    Ok(())
}
