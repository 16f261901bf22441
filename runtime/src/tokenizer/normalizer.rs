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
pub(super) enum Form {
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
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
    /// How many times as many bytes it makes of a text at most; of its forms Unicode says it.
    pub(super) fn growth(&self) -> usize {
        match self {
            Change::Prepend(before) => before.len() + 1,
            Change::Replace { from, to } => to.len().div_ceil(from.len()).max(1),
            Change::Form(Form::Nfc | Form::Nfd) => 3,
            Change::Form(Form::Nfkc | Form::Nfkd) => 11,
        }
    }

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
            Form::Nfc => is_nfc_quick(chars),
            Form::Nfd => is_nfd_quick(chars),
            Form::Nfkc => is_nfkc_quick(chars),
            Form::Nfkd => is_nfkd_quick(chars),
        };
        (quick != IsNormalized::Yes).then(|| match self {
            Form::Nfc => text.nfc().collect(),
            Form::Nfd => text.nfd().collect(),
            Form::Nfkc => text.nfkc().collect(),
            Form::Nfkd => text.nfkd().collect(),
        })
    }
}
