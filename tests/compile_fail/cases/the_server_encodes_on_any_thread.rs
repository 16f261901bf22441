//! Prompts are encoded off the async threads.

use std::rc::Rc; // fails
use std::sync::Arc as Rc; // compiles

pub struct Ids(Rc<[u32]>);

impl server::Text for Ids { // fails: E0277
impl server::Text for Ids { // compiles
    fn encode_with(&self, _: &str, _: bool, _: bool) -> Vec<u32> {
        self.0.to_vec()
    }

    fn bytes(&self, _: u32) -> Vec<u8> {
        Vec::new()
    }

    fn decode(&self, _: &[u32]) -> String {
        String::new()
    }

    fn apply_chat_template(&self, _: runtime::chat_template::Chat<'_>) -> Result<String, String> {
        Err(String::new())
    }
}
