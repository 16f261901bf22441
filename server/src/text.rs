use runtime::chat_template::Chat;

/// What the server needs of a model's tokenizer and of its chat template.
pub trait Text: Send + Sync {
    /// Token ids of a text. `add_special`: with the tokens around it that the model wants; `parse_special`: control
    /// tokens in the text are recognised, else they are text like any other.
    fn encode_with(&self, text: &str, add_special: bool, parse_special: bool) -> Vec<u32>;

    /// The bytes that a token stands for, a control token's name included; none for an id outside the vocabulary.
    fn bytes(&self, id: u32) -> Vec<u8>;

    /// The text of a sequence of tokens; control tokens have none, and what is no UTF-8 becomes U+FFFD.
    fn decode(&self, ids: &[u32]) -> String;

    /// The prompt of a chat, special tokens written in words. Its messages are an array of objects with `role` and `content`.
    ///
    /// # Errors
    /// What is wrong, for the client: the model has no chat template, or its template refuses these messages.
    fn apply_chat_template(&self, chat: Chat<'_>) -> Result<String, String>;

    /// Token ids of a prompt: special tokens added where the model wants them, and recognised in the text.
    fn encode(&self, text: &str) -> Vec<u32> {
        self.encode_with(text, true, true)
    }

    /// Token ids of what [`apply_chat_template`](Self::apply_chat_template) wrote, which has its special tokens already.
    fn encode_chat(&self, rendered: &str) -> Vec<u32> {
        self.encode_with(rendered, false, true)
    }
}
