use std::sync::Arc;

use serde::Serialize;
use tokio_stream::Stream;
use warp::http::HeaderMap;
use warp::{Buf, Reply};

use crate::error::ApiError;
use crate::fields::Fields;
use crate::intake::Intake;
use crate::messages::Messages;
use crate::validate::PROMPT_CHARS;
use crate::wire::Fault;
use crate::{State, Text, apply_template};

/// Body of the answer.
#[derive(Serialize)]
struct TokenizeBody {
    tokens: Tokens,
    count: usize,
    /// Tokens the context holds.
    max_model_len: usize,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Tokens {
    Ids(Vec<u32>),
    Pieces(Vec<Piece>),
}

/// A token with what it stands for.
#[derive(Serialize)]
struct Piece {
    id: u32,
    piece: PieceBytes,
}

/// Text, or the bytes of what is only a part of a character.
#[derive(Serialize)]
#[serde(untagged)]
enum PieceBytes {
    Text(String),
    Bytes(Vec<u8>),
}

/// What is to be made tokens of.
enum Source {
    Text(String),
    Chat(Messages),
}

struct Tokenize {
    source: Source,
    add_special: bool,
    parse_special: bool,
    with_pieces: bool,
}

/// `POST /tokenize`: the token ids of a text, or of a chat's prompt.
pub(crate) async fn tokenize(
    state: Arc<State>,
    headers: HeaderMap,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Result<impl Reply, ApiError> {
    let intake = Intake::read(&state, &headers, body).await?;
    let answer = intake.prepare(|Intake { worker, body, .. }| {
        let request = check(&body).map_err(ApiError::Invalid)?;
        let text = worker.text.as_ref();
        let ids = ids(text, &request)?;
        let count = ids.len();
        let tokens = if request.with_pieces {
            Tokens::Pieces(ids.into_iter().map(|id| piece(text, id)).collect())
        } else {
            Tokens::Ids(ids)
        };
        Ok(TokenizeBody { tokens, count, max_model_len: worker.info.context_length })
    });
    Ok(warp::reply::json(&answer.await?))
}

fn ids(text: &dyn Text, request: &Tokenize) -> Result<Vec<u32>, ApiError> {
    let encode = |prompt: &str| text.encode_with(prompt, request.add_special, request.parse_special);
    Ok(match &request.source {
        Source::Text(prompt) => encode(prompt),
        Source::Chat(messages) => encode(&apply_template::prompt(text, messages.chat())?),
    })
}

fn piece(text: &dyn Text, id: u32) -> Piece {
    let piece = String::from_utf8(text.bytes(id));
    Piece { id, piece: piece.map_or_else(|error| PieceBytes::Bytes(error.into_bytes()), PieceBytes::Text) }
}

fn check(body: &[u8]) -> Result<Tokenize, Vec<Fault>> {
    let mut fields = Fields::parse(body)?;
    // There is one model; whatever its name, this is its tokenizer.
    fields.any_text("model");
    let with_pieces = fields.flag("with_pieces").unwrap_or(false);
    let parse_special = fields.flag("parse_special").unwrap_or(true);
    let [add_special, add_special_tokens] =
        ["add_special", "add_special_tokens"].map(|name| fields.flag(name));
    let texts = ["content", "prompt"].map(|name| fields.text_up_to(name, PROMPT_CHARS));
    let source = match texts {
        [None, None] if fields.has("messages") => Source::Chat(Messages::take(&mut fields, PROMPT_CHARS)),
        [Some(text), None] | [None, Some(text)] if !fields.has("messages") => Source::Text(text),
        _ => {
            // If it is because of a fault, that is told already.
            if fields.is_right() {
                let message = "exactly one of content, prompt and messages says what is to be made tokens of";
                fields.fault(Fault::new("content", "one_of(content, prompt, messages)", message));
            }
            fields.take("messages");
            Source::Text(String::new())
        }
    };
    fields.finish()?;
    // A chat template writes the special tokens itself.
    let by_source = matches!(source, Source::Text(_));
    let add_special = add_special.or(add_special_tokens).unwrap_or(by_source);
    Ok(Tokenize { source, add_special, parse_special, with_pieces })
}

#[cfg(test)]
mod tests {
    use runtime::chat_template::Chat;
    use serde_json::{Value, json};

    use super::*;

    /// Whether special tokens are added, and recognised.
    fn special(body: Value) -> (bool, bool) {
        let Ok(request) = check(body.to_string().as_bytes()) else { panic!("{body} is right") };
        (request.add_special, request.parse_special)
    }

    #[test]
    fn special_tokens_are_added_to_texts_and_not_to_chats_unless_it_is_said() {
        let messages = || json!([{"role": "user", "content": "a"}]);
        assert_eq!(special(json!({"content": "a"})), (true, true));
        assert_eq!(special(json!({"messages": messages()})), (false, true));
        for name in ["add_special", "add_special_tokens"] {
            assert_eq!(special(json!({"prompt": "a", name: false})), (false, true));
            assert_eq!(
                special(json!({"messages": messages(), name: true, "parse_special": false})),
                (true, false)
            );
        }
    }

    /// Begins with 1 what has its special tokens added, and with 2 where they are recognised.
    struct Flags;

    impl Text for Flags {
        fn encode_with(&self, text: &str, add_special: bool, parse_special: bool) -> Vec<u32> {
            let flags = [add_special.then_some(1), parse_special.then_some(2)];
            flags.into_iter().flatten().chain(text.bytes().map(u32::from)).collect()
        }

        fn bytes(&self, _: u32) -> Vec<u8> {
            Vec::new()
        }

        fn decode(&self, _: &[u32]) -> String {
            String::new()
        }

        fn apply_chat_template(&self, chat: Chat<'_>) -> Result<String, String> {
            Ok(if chat.add_generation_prompt { "+" } else { "-" }.to_owned())
        }
    }

    fn chat(add_generation_prompt: bool) -> Source {
        let body = json!({"messages": [{"role": "user", "content": "a"}], "add_generation_prompt": add_generation_prompt});
        let Ok(request) = check(body.to_string().as_bytes()) else { panic!("{body} is right") };
        request.source
    }

    #[test]
    fn the_tokenizer_is_told() {
        for (add_special, parse_special, first) in
            [(true, true, &[1, 2][..]), (true, false, &[1]), (false, true, &[2])]
        {
            for (source, last) in
                [(Source::Text("a".to_owned()), b'a'), (chat(true), b'+'), (chat(false), b'-')]
            {
                let request = Tokenize { source, add_special, parse_special, with_pieces: false };
                let expected = [first, &[u32::from(last)]].concat();
                assert_eq!(ids(&Flags, &request).ok(), Some(expected));
            }
        }
    }
}
