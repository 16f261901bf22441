use std::sync::Arc;
use std::time::SystemTime;

use runtime::chat_template::{Chat, ChatTemplate};
use runtime::tokenizer::{Options, Tokenizer};
use runtime::worker::Worker;

const NO_TEMPLATE: &str =
    "the model's file has no chat template; it takes prompts, as for /v1/completions or /execute";

/// A loaded model's tokenizer and chat template, as the server asks for them.
pub(super) struct ModelText {
    tokenizer: Arc<Tokenizer>,
    chat_template: Option<Arc<ChatTemplate>>,
}

impl ModelText {
    pub(super) fn of(worker: &Worker) -> Self {
        Self { tokenizer: worker.tokenizer.clone(), chat_template: worker.chat_template.clone() }
    }
}

impl server::Text for ModelText {
    fn encode_with(&self, text: &str, add_special: bool, parse_special: bool) -> Vec<u32> {
        self.tokenizer.encode_with(text, Options { add_special, parse_special })
    }

    fn bytes(&self, id: u32) -> Vec<u8> {
        self.tokenizer.piece(id).unwrap_or_default().to_vec()
    }

    fn decode(&self, ids: &[u32]) -> String {
        self.tokenizer.decode_string(ids)
    }

    fn apply_chat_template(&self, chat: Chat<'_>) -> Result<String, String> {
        let template = self.chat_template.as_ref().ok_or(NO_TEMPLATE)?;
        template.render_at(SystemTime::now(), chat).map_err(|error| error.to_string())
    }
}
