use runtime::chat_template::Chat;
use serde_json::{Map, Value};

use crate::fields::{Fields, wrong_type};
use crate::wire::Fault;

/// Characters of a role's name.
const ROLE_CHARS: usize = 64;

/// What a message may have of an answer's thoughts: servers have several names for them.
const THOUGHTS: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// A chat as a request has it, for the model's template.
pub(crate) struct Messages {
    messages: Value,
    /// The functions that the model may call.
    tools: Option<Value>,
    add_generation_prompt: bool,
}

impl Messages {
    /// Takes the fields of a chat: `messages`, with no more than `most` characters in all, `tools`, with no more either, and
    /// `add_generation_prompt`.
    pub(crate) fn take(fields: &mut Fields, most: usize) -> Self {
        let messages = take_messages(fields, most);
        let tools = take_tools(fields, most);
        let add_generation_prompt = fields.flag("add_generation_prompt").unwrap_or(true);
        Self { messages, tools, add_generation_prompt }
    }

    /// The model is told of no tools.
    pub(crate) fn without_tools(self) -> Self {
        Self { tools: None, ..self }
    }

    /// As a template is given it.
    pub(crate) fn chat(&self) -> Chat<'_> {
        let Self { messages, tools, add_generation_prompt } = self;
        Chat { messages, tools: tools.as_ref(), add_generation_prompt: *add_generation_prompt }
    }
}

/// Functions with their names; what else there is of them is up to the template. No list, and one of nothing, are the same.
fn take_tools(fields: &mut Fields, most: usize) -> Option<Value> {
    let tools = match fields.take("tools")? {
        Value::Array(tools) if tools.is_empty() => return None,
        Value::Array(tools) => tools,
        other => {
            fields.fault(wrong_type("tools", "array", &other));
            return None;
        }
    };
    for (index, tool) in tools.iter().enumerate() {
        let path = format!("tools[{index}]");
        if !tool.is_object() {
            fields.fault(wrong_type(&path, "object", tool));
        } else if tool["type"] != "function" {
            let message = format!("{path}.type must be function");
            fields.fault(Fault::new(format!("{path}.type"), "unsupported", message));
        } else if tool["function"]["name"].as_str().is_none_or(str::is_empty) {
            let path = format!("{path}.function.name");
            let message = format!("{path} is missing, or no text");
            fields.fault(Fault::new(path, "required", message));
        }
    }
    let tools = Value::Array(tools);
    let chars = tools.to_string().chars().count();
    if chars > most {
        let message = format!("tools have {chars} characters; at most {most} are allowed");
        fields.fault(Fault::new("tools", format!("length(0..={most})"), message));
    }
    Some(tools)
}

/// Messages with `role` and `content`: a content of several text parts is one text, a line each.
fn take_messages(fields: &mut Fields, most: usize) -> Value {
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
    for name in THOUGHTS {
        match message.remove(name) {
            None | Some(Value::Null) => {}
            Some(Value::String(thoughts)) => {
                *chars += thoughts.chars().count();
                taken.insert(name.to_owned(), thoughts.into());
            }
            Some(other) => fields.fault(wrong_type(&format!("{path}.{name}"), "string", &other)),
        }
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
