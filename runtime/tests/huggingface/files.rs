//! Which files of a folder are read: regular ones, of no more bytes than such files have, and through links.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use runtime::huggingface;
use runtime::tokenizer::Tokenizer;
use tempfile::TempDir;

use crate::golden;

type Reader = fn(&Path) -> Result<(), String>;

/// Files, and who reads them.
const FILES: [(&str, Reader); 9] = [
    ("config.json", weights),
    ("model.safetensors.index.json", weights),
    ("model-00001-of-00002.safetensors", weights),
    ("tokenizer_config.json", template),
    ("chat_template.jinja", template),
    ("tokenizer.json", tokenizer),
    ("tokenizer_config.json", tokenizer),
    ("generation_config.json", tokenizer),
    ("config.json", tokenizer),
];

fn weights(folder: &Path) -> Result<(), String> {
    huggingface::open(folder, None).map(drop).map_err(|error| error.to_string())
}

fn template(folder: &Path) -> Result<(), String> {
    huggingface::chat_template(folder).map(drop).map_err(|error| error.to_string())
}

fn tokenizer(folder: &Path) -> Result<(), String> {
    Tokenizer::from_folder(folder).map(drop).map_err(|error| error.to_string())
}

/// A folder as the hub's cache has it: links to files elsewhere.
fn linked() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for entry in std::fs::read_dir(golden("hf-llama")).expect("a folder") {
        let path = std::fs::canonicalize(entry.expect("an entry").path()).expect("a file");
        symlink(&path, folder.path().join(path.file_name().expect("a name"))).expect("a link");
    }
    folder
}

#[test]
fn links_are_followed() {
    let folder = linked();
    for (name, read) in FILES {
        assert!(folder.path().join(name).is_symlink(), "{name}");
        read(folder.path()).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn a_pipe_in_place_of_a_file_is_told_at_once() {
    for (name, read) in FILES {
        let folder = linked();
        let path = folder.path().join(name);
        std::fs::remove_file(&path).expect("a link");
        assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
        let (tell, told) = mpsc::channel();
        thread::spawn(move || tell.send(read(folder.path())));
        let error = told.recv_timeout(Duration::from_secs(60)).expect("an answer").expect_err("no file");
        assert!(error.contains(name) && error.contains("no regular file"), "{error}");
    }
}

#[test]
fn a_file_that_is_too_long_is_not_read() {
    for (name, read) in FILES {
        if name.ends_with(".safetensors") {
            continue;
        }
        let folder = linked();
        let path = folder.path().join(name);
        std::fs::remove_file(&path).expect("a link");
        // It takes no room: nothing was written.
        std::fs::File::create(&path).expect("a file").set_len(1 << 40).expect("a long file");
        let error = read(folder.path()).expect_err("an error");
        let parts = [name, "1099511627776 bytes", "more than"];
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}
