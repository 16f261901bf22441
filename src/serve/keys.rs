//! The file of API keys.

use std::fs;
use std::path::Path;

/// The keys of a file: one a line, without the space around it; empty lines and those that begin with `#` do not
/// count.
///
/// # Errors
/// What is wrong with the file. No key is quoted.
pub(super) fn read(path: &Path) -> Result<Vec<String>, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut keys = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let key = line.trim();
        if key.is_empty() || key.starts_with('#') {
            continue;
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "line {number} has a character that no key can have: keys are ASCII without spaces"
            ));
        }
        keys.push(key.to_owned());
    }
    if keys.is_empty() { Err("has no key: write one a line".to_owned()) } else { Ok(keys) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn a_key_is_a_line_that_is_no_comment() {
        assert_eq!(of("# team a\n one \r\n\ntwo#2").unwrap(), ["one", "two#2"]);
    }

    #[test]
    fn a_file_without_keys_or_with_a_broken_one_is_told_without_the_key() {
        assert!(of("").unwrap_err().contains("no key"));
        assert!(of("# only this\n\n").unwrap_err().contains("no key"));
        let told = of("good\ns3cret word").unwrap_err();
        assert!(told.contains("line 2") && !told.contains("s3cret"), "{told}");
        assert!(read(Path::new("/nowhere/keys")).unwrap_err().contains("cannot be read"));
    }
}
