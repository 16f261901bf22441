use std::borrow::Cow;

use unicode_normalization::IsNormalized;
use unicode_normalization::{UnicodeNormalization, is_nfc_quick, is_nfd_quick, is_nfkc_quick, is_nfkd_quick};

/// What a text is turned into before it is split.
#[derive(Debug, Default)]
pub(super) struct Normalizer(pub(super) Vec<Change>);

/// One change of a text.
#[derive(Debug)]
pub(super) enum Change {
    /// Something goes before it.
    Prepend(String),
    /// Something else stands for every `from`, which is not empty.
    Replace { from: String, to: String },
    /// Its characters are composed or decomposed.
    Form(Form),
}

/// Unicode's normalization forms (UAX #15).
#[derive(Debug, Clone, Copy)]
#[allow(clippy::upper_case_acronyms, reason = "they are called so")]
pub(super) enum Form {
    NFC,
    NFD,
    NFKC,
    NFKD,
}

impl Normalizer {
    /// The text as the model knows it. An empty text stays empty.
    pub(super) fn apply<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for change in &self.0 {
            if let Some(changed) = change.apply(&text) {
                text = Cow::Owned(changed);
            }
        }
        text
    }
}

impl Change {
    /// `None` where nothing changes.
    fn apply(&self, text: &str) -> Option<String> {
        match self {
            Change::Prepend(before) => (!text.is_empty()).then(|| format!("{before}{text}")),
            Change::Replace { from, to } => text.contains(from).then(|| text.replace(from, to)),
            Change::Form(form) => form.apply(text),
        }
    }
}

impl Form {
    fn apply(self, text: &str) -> Option<String> {
        let chars = text.chars();
        let quick = match self {
            Form::NFC => is_nfc_quick(chars),
            Form::NFD => is_nfd_quick(chars),
            Form::NFKC => is_nfkc_quick(chars),
            Form::NFKD => is_nfkd_quick(chars),
        };
        (quick != IsNormalized::Yes).then(|| match self {
            Form::NFC => text.nfc().collect(),
            Form::NFD => text.nfd().collect(),
            Form::NFKC => text.nfkc().collect(),
            Form::NFKD => text.nfkd().collect(),
        })
    }
}
