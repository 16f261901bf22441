use std::sync::Arc;

use super::Tokenizer;

/// Turns a completion's tokens into text as they come: whole characters only.
///
/// The pieces joined are [`Tokenizer::decode_string`] of all the tokens.
#[derive(Debug)]
pub struct Detokenizer {
    tokenizer: Arc<Tokenizer>,
    /// The beginning of a character whose end has not come yet: at most three bytes between two calls.
    pending: Vec<u8>,
}

impl Detokenizer {
    /// For one completion.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Detokenizer {
        Detokenizer { tokenizer, pending: Vec::new() }
    }

    /// The text that has become certain with this token; often none. Bytes that can no longer become a character give
    /// U+FFFD.
    pub fn push(&mut self, id: u32) -> String {
        self.pending.extend(self.tokenizer.visible(id));
        let held = incomplete_tail(&self.pending);
        let certain = self.pending.len() - held;
        let text = String::from_utf8_lossy(&self.pending[..certain]).into_owned();
        self.pending.drain(..certain);
        text
    }

    /// What is left when no token follows: nothing, or U+FFFD for a character cut short.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }
}

/// Bytes at the end that are the beginning of a valid character.
fn incomplete_tail(bytes: &[u8]) -> usize {
    // A character has up to four bytes, so that its beginning is among the last three.
    (1..=bytes.len().min(3))
        .find(|&n| matches!(std::str::from_utf8(&bytes[bytes.len() - n..]), Err(e) if e.valid_up_to() == 0 && e.error_len().is_none()))
        .unwrap_or(0)
}
