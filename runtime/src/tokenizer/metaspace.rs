use std::borrow::Cow;

/// What happens to a text's spaces after it is normalized.
#[derive(Debug)]
pub(super) struct Metaspace {
    /// What stands for a space: U+2581, or the space itself.
    pub(super) space: char,
    pub(super) prepend: Prepend,
}

/// Where a space is put before a text that does not begin with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prepend {
    /// Nowhere.
    Never,
    /// At the beginning alone.
    First,
    /// Behind special tokens as well.
    Always,
}

impl Metaspace {
    /// The text with its spaces replaced; `first`: nothing is before it.
    pub(super) fn apply<'t>(this: Option<&Metaspace>, text: &'t str, first: bool) -> Cow<'t, str> {
        let Some(Metaspace { space, prepend }) = this else { return Cow::Borrowed(text) };
        let wanted = *prepend == Prepend::Always || (*prepend == Prepend::First && first);
        let mut changed = String::with_capacity(text.len() + 4);
        if wanted && !text.is_empty() && !text.starts_with([' ', *space]) {
            changed.push(*space);
        }
        changed.extend(text.chars().map(|character| if character == ' ' { *space } else { character }));
        Cow::Owned(changed)
    }
}
