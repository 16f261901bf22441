//! What a user calls a model of the hub.

use std::path::{Component, Path};

/// A repository of the hub, and perhaps one file of it: `owner/name` or `owner/name:file`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// `owner/name`.
    pub(super) repository: String,
    pub(super) file: Option<String>,
}

impl Name {
    /// The repository that a text names; `None` if it names none.
    pub fn parse(text: &str) -> Option<Self> {
        let (repository, file) = match text.split_once(':') {
            Some((repository, file)) => (repository, Some(file)),
            None => (text, None),
        };
        let (owner, name) = repository.split_once('/')?;
        let right = is_word(owner) && is_word(name) && file.is_none_or(is_inside);
        right.then(|| Self { repository: repository.to_owned(), file: file.map(str::to_owned) })
    }
}

fn is_word(text: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && !text.starts_with('.') && text.chars().all(known)
}

/// Whether a path stays inside of a folder, and hides nothing there.
pub(super) fn is_inside(path: &str) -> bool {
    let visible = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', '\0']);
    path.split('/').all(visible)
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_has_an_owner_a_name_and_perhaps_a_file() {
        let parsed = |text| Name::parse(text).map(|name| (name.repository, name.file));
        assert_eq!(parsed("a-b/c_d.e"), Some(("a-b/c_d.e".to_owned(), None)));
        assert_eq!(parsed("a/b:c d.gguf"), Some(("a/b".to_owned(), Some("c d.gguf".to_owned()))));
        assert_eq!(parsed("a/b:Q4/c.gguf"), Some(("a/b".to_owned(), Some("Q4/c.gguf".to_owned()))));
        for wrong in [
            "a", "a/", "/b", "a/b/c", "../b", "a/..", "a/b:", "a/b:../c", "a/b:/c", "a/b:c//d", "a/b:.c",
            "a b/c", "a/b?c",
        ] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
