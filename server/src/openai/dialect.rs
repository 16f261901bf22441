/// Which of the two endpoints speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Completions,
    Chat,
}

impl Dialect {
    /// What ids begin with.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Completions => "cmpl",
            Self::Chat => "chatcmpl",
        }
    }

    /// The field `object` of a whole answer, and of a chunk.
    pub(super) fn object(self, is_chunk: bool) -> &'static str {
        match (self, is_chunk) {
            (Self::Completions, _) => "text_completion",
            (Self::Chat, false) => "chat.completion",
            (Self::Chat, true) => "chat.completion.chunk",
        }
    }
}
