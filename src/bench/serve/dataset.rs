//! Prompts from a file of JSON lines.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::LoadFault;

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Prompt {
    Text(String),
    /// A chat: objects with `role` and `content`.
    Messages(Vec<Value>),
}

/// A line of the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) prompt: Prompt,
    pub(super) max_tokens: Option<u32>,
}

impl Prompt {
    /// As a plain text: a chat's messages with an empty line between.
    pub(super) fn text(&self) -> String {
        match self {
            Prompt::Text(text) => text.clone(),
            Prompt::Messages(messages) => messages.iter().map(content).collect::<Vec<_>>().join("\n\n"),
        }
    }

    /// As a chat: a plain text is a user's message.
    pub(super) fn messages(&self) -> Value {
        match self {
            Prompt::Text(text) => json!([{"role": "user", "content": text}]),
            Prompt::Messages(messages) => json!(messages),
        }
    }
}

/// A message's text; of one in parts, the texts among them.
fn content(message: &Value) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

/// All lines of a file but the empty ones.
///
/// # Errors
/// The file cannot be read, a line is not understood, or there is none.
pub(super) fn read(path: &Path) -> Result<Vec<Entry>, LoadFault> {
    let fault = |line, problem: String| LoadFault::Dataset { path: path.to_owned(), line, problem };
    let text = std::fs::read(path).map_err(|error| LoadFault::Io { path: path.to_owned(), error })?;
    let mut entries = Vec::new();
    for (line, number) in text.split(|&byte| byte == b'\n').zip(1..) {
        if !line.trim_ascii().is_empty() {
            entries.push(entry(line).map_err(|problem| fault(number, problem))?);
        }
    }
    if entries.is_empty() {
        return Err(fault(1, "there is no prompt in the file".to_owned()));
    }
    Ok(entries)
}

fn entry(line: &[u8]) -> Result<Entry, String> {
    // serde's own words may have a part of the line in them.
    let object: Map<String, Value> = serde_json::from_slice(line)
        .map_err(|error| format!("no JSON object (column {})", error.column()))?;
    let max_tokens = match object.get("max_tokens") {
        None | Some(Value::Null) => None,
        Some(number) => Some(
            number
                .as_u64()
                .and_then(|number| u32::try_from(number).ok())
                .filter(|&number| number > 0)
                .ok_or("max_tokens must be a whole number over 0")?,
        ),
    };
    Ok(Entry { prompt: prompt(&object)?, max_tokens })
}

fn prompt(object: &Map<String, Value>) -> Result<Prompt, String> {
    let found: Vec<(&str, &Value)> = ["prompt", "messages", "conversations"]
        .into_iter()
        .filter_map(|name| Some((name, object.get(name)?)))
        .collect();
    let messages = match found[..] {
        [("prompt", prompt)] => {
            let text = prompt.as_str().filter(|text| !text.is_empty());
            return Ok(Prompt::Text(text.ok_or("prompt must be a text, and not empty")?.to_owned()));
        }
        [("messages", messages)] => {
            let messages = messages.as_array().ok_or("messages must be a list")?;
            let good = |message: &Value| {
                message["role"].is_string()
                    && (message["content"].is_string() || message["content"].is_array())
            };
            if !messages.iter().all(good) {
                return Err("each of messages must have a role and a content".to_owned());
            }
            messages.clone()
        }
        [("conversations", turns)] => {
            let turns = turns.as_array().ok_or("conversations must be a list")?;
            before_the_answer(turns)?
        }
        _ => return Err("there must be one of prompt, messages and conversations".to_owned()),
    };
    if messages.is_empty() {
        return Err(format!("{} has nothing to ask", found[0].0));
    }
    Ok(Prompt::Messages(messages))
}

/// The turns before the first that the model would write.
fn before_the_answer(turns: &[Value]) -> Result<Vec<Value>, String> {
    let mut messages = Vec::new();
    for turn in turns {
        let (Some(from), Some(value)) = (turn["from"].as_str(), turn["value"].as_str()) else {
            return Err("each of conversations must have from and value".to_owned());
        };
        let role = match from {
            "human" | "user" => "user",
            "system" => "system",
            _ => break,
        };
        messages.push(json!({"role": role, "content": value}));
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read_text(text: &[u8]) -> Result<Vec<Entry>, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text).unwrap();
        read(file.path()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn each_kind_of_line_is_understood() {
        let entries = read_text(
            br#"{"prompt": "Once", "max_tokens": 7, "id": 3}

{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}
{"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}, {"from": "human", "value": "Ah"}], "max_tokens": null}"#,
        )
        .unwrap();
        assert_eq!(entries.len(), 3);
        assert_eq!(entries[0], Entry { prompt: Prompt::Text("Once".to_owned()), max_tokens: Some(7) });
        assert_eq!(entries[0].prompt.messages(), json!([{"role": "user", "content": "Once"}]));
        assert_eq!(entries[1].prompt.text(), "Be brief.\n\nHi");
        assert_eq!(entries[2].prompt.messages(), json!([{"role": "user", "content": "Why?"}]));
        assert_eq!((entries[1].max_tokens, entries[2].max_tokens), (None, None));
    }

    #[test]
    fn a_bad_line_is_told_with_its_number_and_without_its_text() {
        for (line, part) in [
            (&br#"{"prompt": "s3cret"#[..], "no JSON object"),
            (br#"["s3cret"]"#, "no JSON object"),
            (br#""s3cret""#, "no JSON object"),
            (b"{\"prompt\": \"s3cret\xff\"}", "no JSON object"),
            (br#"{"text": "s3cret"}"#, "one of prompt, messages and conversations"),
            (br#"{"prompt": "s3cret", "messages": []}"#, "one of prompt, messages and conversations"),
            (br#"{"prompt": 7}"#, "prompt must be a text"),
            (br#"{"prompt": ""}"#, "not empty"),
            (br#"{"messages": []}"#, "messages has nothing to ask"),
            (br#"{"messages": [{"content": "s3cret"}]}"#, "a role"),
            (br#"{"conversations": [{"from": "gpt", "value": "s3cret"}]}"#, "nothing to ask"),
            (br#"{"conversations": ["s3cret"]}"#, "from and value"),
            (br#"{"prompt": "s3cret", "max_tokens": 0}"#, "max_tokens"),
            (br#"{"prompt": "s3cret", "max_tokens": 1.5}"#, "max_tokens"),
            (br#"{"prompt": "s3cret", "max_tokens": 4294967296}"#, "max_tokens"),
        ] {
            let told = read_text(&[b"{\"prompt\": \"good\"}\n\n", line].concat()).unwrap_err();
            assert!(told.contains("line 3") && told.contains(part), "no {part:?}: {told}");
            assert!(!told.contains("s3cret"), "{told}");
        }
        assert!(read_text(b"\n \n").unwrap_err().contains("no prompt in the file"));
    }
}
