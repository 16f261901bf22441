use std::sync::Arc;

use runtime::tokenizer::{Options, Tokenizer};
use runtime::worker::Worker;
use serde_json::Value;

/// A loaded model's tokenizer and chat template, as the server asks for them.
pub(super) struct ModelText {
    tokenizer: Arc<Tokenizer>,
}

impl ModelText {
    pub(super) fn of(worker: &Worker) -> Self {
        Self { tokenizer: worker.tokenizer.clone() }
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

    fn apply_chat_template(&self, _: &Value, _: bool) -> Result<String, String> {
        Err("the model has no chat template".to_owned())
    }
}
