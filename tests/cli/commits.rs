//! `pull owner/name` of a repository that has changed since.

use std::fs;

use libtest_mimic::{Failed, Trial};

use crate::repository::{expect_path, files, hub, pull};

pub(crate) fn trials() -> Vec<Trial> {
    vec![Trial::test("what_a_newer_commit_does_not_have_goes_from_the_folder", newer_commit)]
}

fn newer_commit() -> Result<(), Failed> {
    let cache = tempfile::tempdir()?;
    let path = cache.path().join("models/some/model");
    let settings = || ("config.json", b"{}".to_vec());
    let first = hub(vec![
        settings(),
        ("model.safetensors", vec![1; 100]),
        ("old.json", vec![2; 10]),
        ("chat_template.jinja", vec![3; 10]),
    ])?;
    expect_path(&pull(cache.path(), Some(&first), "some/model")?, &path);
    assert_eq!(files(cache.path())?.len(), 4);
    // What no pull has brought stays: another format, another folder.
    fs::write(path.join("notes.txt"), "mine")?;
    fs::create_dir(path.join("original"))?;
    fs::write(path.join("original/params.json"), "{}")?;
    fs::create_dir(path.join("folder.json"))?;

    let second = hub(vec![
        settings(),
        ("model.safetensors.index.json", vec![4; 10]),
        ("model-00001-of-00001.safetensors", vec![5; 100]),
    ])?;
    expect_path(&pull(cache.path(), Some(&second), "some/model")?, &path);
    let names = [
        "config.json",
        "model-00001-of-00001.safetensors",
        "model.safetensors.index.json",
        "notes.txt",
        "original/params.json",
    ];
    assert_eq!(files(cache.path())?, names.map(|name| format!("some/model/{name}")));
    assert!(path.join("folder.json").is_dir());

    // And back: the index goes.
    expect_path(&pull(cache.path(), Some(&first), "some/model")?, &path);
    assert!(!path.join("model.safetensors.index.json").exists());
    assert!(path.join("model.safetensors").exists());
    Ok(())
}
