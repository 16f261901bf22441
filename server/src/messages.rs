use serde_json::{Map, Value};

use crate::fields::{Fields, wrong_type};
use crate::wire::Fault;

/// Characters of a role's name.
const ROLE_CHARS: usize = 64;

/// Takes the field `messages`, a chat's messages with `role` and `content` and no more than `most` characters in all, as a
/// chat template reads them: a content of several text parts is one text, a line each.
pub(crate) fn take(fields: &mut Fields, most: usize) -> Value {
    let messages = match fields.take("messages") {
        None => {
            fields.fault(Fault::new("messages", "required", "messages is missing"));
            Vec::new()
        }
        Some(Value::Array(messages)) if messages.is_empty() => {
            fields.fault(Fault::new("messages", "non_empty", "messages must not be empty"));
            Vec::new()
        }
        Some(Value::Array(messages)) => messages,
        Some(other) => {
            fields.fault(wrong_type("messages", "array", &other));
            Vec::new()
        }
    };
    let mut chars = 0;
    let mut taken = Vec::with_capacity(messages.len());
    for (index, message) in messages.into_iter().enumerate() {
        let path = format!("messages[{index}]");
        match message {
            Value::Object(message) => taken.push(take_one(fields, &path, message, &mut chars)),
            other => fields.fault(wrong_type(&path, "object", &other)),
        }
    }
    if chars > most {
        let message = format!("messages have {chars} characters; at most {most} are allowed");
        fields.fault(Fault::new("messages", format!("length(1..={most})"), message));
    }
    Value::Array(taken)
}

fn take_one(fields: &mut Fields, path: &str, mut message: Map<String, Value>, chars: &mut usize) -> Value {
    let role = match message.remove("role") {
        Some(Value::String(role)) if (1..=ROLE_CHARS).contains(&role.chars().count()) => role,
        Some(Value::String(_)) => {
            let message = format!("{path}.role must have 1 to {ROLE_CHARS} characters");
            fields.fault(Fault::new(format!("{path}.role"), format!("length(1..={ROLE_CHARS})"), message));
            String::new()
        }
        None => {
            fields.fault(Fault::new(format!("{path}.role"), "required", format!("{path}.role is missing")));
            String::new()
        }
        Some(other) => {
            fields.fault(wrong_type(&format!("{path}.role"), "string", &other));
            String::new()
        }
    };
    let content = match message.remove("content") {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => join(fields, path, parts),
        // As clients send it back of an answer without text.
        None | Some(Value::Null) if role == "assistant" => String::new(),
        None => {
            fields.fault(Fault::new(
                format!("{path}.content"),
                "required",
                format!("{path}.content is missing"),
            ));
            String::new()
        }
        Some(other) => {
            fields.fault(wrong_type(&format!("{path}.content"), "string", &other));
            String::new()
        }
    };
    *chars += content.chars().count();
    let mut taken =
        Map::from_iter([("role".to_owned(), role.into()), ("content".to_owned(), content.into())]);
    if let Some(name @ Value::String(_)) = message.remove("name") {
        taken.insert("name".to_owned(), name);
    }
    // Clients send an answer's fields back as they were.
    message.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()));
    for name in message.keys() {
        fields.fault(Fault::new(format!("{path}.{name}"), "known_field", "there is no such field"));
    }
    Value::Object(taken)
}

/// The texts of a content's parts.
fn join(fields: &mut Fields, path: &str, parts: Vec<Value>) -> String {
    let mut texts = Vec::with_capacity(parts.len());
    for (index, part) in parts.into_iter().enumerate() {
        match (&part["type"], &part["text"]) {
            (Value::String(kind), Value::String(text)) if kind == "text" => texts.push(text.clone()),
            _ => {
                let path = format!("{path}.content[{index}]");
                let message = format!(
                    "{path} must be {{\"type\": \"text\", \"text\": ...}}; the model reads nothing else"
                );
                fields.fault(Fault::new(path, "unsupported", message));
            }
        }
    }
    texts.join("\n")
}
