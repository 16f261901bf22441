//! Chat templates: from messages to a prompt, by the Jinja template that a model file carries.
//!
//! A template is a program of unknown origin, run on every request. It has no file access (nothing is ever loaded by
//! name), and its steps, the text it makes on the way, its recursion and its output are bounded, whatever it does.
//! It sees what templates see in the transformers library: `messages`, `add_generation_prompt`, the special tokens,
//! `tools`, `documents` (always none), `raise_exception`, `strftime_now`, and `tojson` as Python writes it; blocks are
//! trimmed, `break` and `continue` work, and values have Python's methods.

mod error;
mod json;
mod strftime;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, SystemTime};
use std::{io, thread};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{Environment, ErrorKind, State, Value, context};
use minijinja_contrib::pycompat::unknown_method_callback;

use crate::gguf::{Gguf, GgufError, Optional};

pub use error::ChatTemplateError;

use strftime::strftime;

const NAME: &str = "chat_template";
/// Bytes of a template; the largest in use have 20 thousand.
const MAX_SOURCE: usize = 65_535;
/// Bytes of a prompt.
const MAX_OUTPUT: usize = 1 << 20;
/// Steps of a rendering, or 64 bytes each of what it makes on the way.
const MAX_STEPS: u64 = 2_000_000;
/// What parsing or a rendering may take, where steps do not tell how long they are.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of the stack that templates are parsed and run on; what is not used takes no memory.
const STACK: usize = 512 << 20;
/// Levels of loops, conditions and macros within each other, a macro counting several.
const MAX_RECURSION: usize = 100;

/// A model's chat template, parsed. Immutable: share one among all threads.
#[derive(Debug)]
pub struct ChatTemplate {
    /// Has one template, or the reason why not.
    environment: Result<Arc<Environment<'static>>, ChatTemplateError>,
    special: Vec<(&'static str, String)>,
    /// A rendering has outlasted [`PATIENCE`], and may still go on: there will be no other.
    endless: AtomicBool,
    /// Renderings take turns, so that each has a processor for itself, and a crowd is not taken for one without end.
    turn: Mutex<()>,
}

/// What a prompt is made of.
#[derive(Debug, Clone, Copy)]
pub struct Chat<'a> {
    /// A JSON array.
    pub messages: &'a serde_json::Value,
    /// The tools that the model may call, an array of their JSON schemas; `None` is what a template sees as `none`.
    pub tools: Option<&'a serde_json::Value>,
    /// Whether the prompt ends with what begins an answer.
    pub add_generation_prompt: bool,
}

impl ChatTemplate {
    /// The template of a model file; `None` if it has none. One that does not parse is told by [`broken`](Self::broken),
    /// and by every rendering.
    ///
    /// # Errors
    /// Metadata of the wrong type.
    pub fn from_gguf(gguf: &Gguf) -> Result<Option<Self>, GgufError> {
        // Files with several templates name the others, for tools and such; a few name all.
        let mut source = gguf.str("tokenizer.chat_template").optional()?;
        if source.is_none() {
            source = gguf.str("tokenizer.chat_template.default").optional()?;
        }
        let Some(source) = source else { return Ok(None) };
        let mut special = Vec::new();
        for (name, key) in [
            ("bos_token", "tokenizer.ggml.bos_token_id"),
            ("eos_token", "tokenizer.ggml.eos_token_id"),
            ("unk_token", "tokenizer.ggml.unknown_token_id"),
            ("sep_token", "tokenizer.ggml.seperator_token_id"),
            ("pad_token", "tokenizer.ggml.padding_token_id"),
        ] {
            if let Some(id) = gguf.u32(key).optional()?
                && let Some(text) = gguf.strings("tokenizer.ggml.tokens")?.nth(id as usize)
            {
                special.push((name, text.to_owned()));
            }
        }
        Ok(Some(Self::new(source, special)))
    }

    /// A template with the texts of the special tokens it may name, such as `bos_token`.
    pub fn new(source: &str, special: Vec<(&'static str, String)>) -> Self {
        let owned = source.to_owned();
        let parsed = on_deep_stack(move || environment(&owned).map(Arc::new));
        let environment = parsed.unwrap_or_else(|lost| Err(ChatTemplateError::Broken(lost.to_string())));
        Self { environment, special, endless: AtomicBool::new(false), turn: Mutex::new(()) }
    }

    /// Why the template cannot be used, if it cannot.
    pub fn broken(&self) -> Option<&ChatTemplateError> {
        self.environment.as_ref().err()
    }

    /// The prompt of these messages, a JSON array; `add_generation_prompt` ends it with what begins an answer.
    ///
    /// # Errors
    /// The template refuses the messages, fails, or exceeds its bounds.
    pub fn render(
        &self,
        messages: &serde_json::Value,
        add_generation_prompt: bool,
    ) -> Result<String, ChatTemplateError> {
        self.render_at(SystemTime::now(), Chat { messages, tools: None, add_generation_prompt })
    }

    /// The prompt of a chat; `now` is for templates that tell the date.
    ///
    /// # Errors
    /// As of [`render`](Self::render).
    pub fn render_at(&self, now: SystemTime, chat: Chat<'_>) -> Result<String, ChatTemplateError> {
        let environment = self.environment.clone()?;
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.endless.load(Ordering::Relaxed) {
            return Err(ChatTemplateError::Endless);
        }
        let special = self.special.iter().map(|(name, text)| (*name, Value::from(text.as_str())));
        let arguments = context! {
            messages => messages(chat.messages),
            add_generation_prompt => chat.add_generation_prompt,
            tools => chat.tools.map_or_else(|| Value::from(()), value),
            documents => (),
            strftime_now => Value::from_function(move |format: &str| strftime_at(now, format)),
            ..Value::from_pairs(special)
        };
        match on_deep_stack(move || render(&environment, arguments)) {
            Ok(rendered) => rendered,
            Err(Lost::Endless) => {
                self.endless.store(true, Ordering::Relaxed);
                Err(ChatTemplateError::Endless)
            }
            Err(lost) => Err(ChatTemplateError::Failed(lost.to_string())),
        }
    }
}

fn environment(source: &str) -> Result<Environment<'static>, ChatTemplateError> {
    if source.len() > MAX_SOURCE {
        return Err(ChatTemplateError::Broken(format!("it has more than {MAX_SOURCE} bytes")));
    }
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.map_err(|error| ChatTemplateError::Broken(error.to_string()))?);
    environment.set_fuel(Some(MAX_STEPS));
    environment.set_recursion_limit(MAX_RECURSION);
    environment.set_unknown_method_callback(method);
    environment.remove_global("debug");
    environment.add_test("iterable", iterable);
    environment.add_filter("tojson", json::tojson);
    environment.add_function("raise_exception", raise_exception);
    let added = environment.add_template_owned(NAME, without_generation_tags(source));
    added.map_err(|error| ChatTemplateError::Broken(describe(&error)))?;
    Ok(environment)
}

/// The messages as a template sees them. What a message has of the model's thoughts, under whatever name, is there under the
/// names that templates look for, as the transformers library does it.
fn messages(json: &serde_json::Value) -> Value {
    let Some(list) = json.as_array() else { return value(json) };
    let message = |message: &serde_json::Value| {
        let names = ["reasoning_content", "thinking", "reasoning"];
        let thoughts = names.iter().filter_map(|name| message.get(name)).find(|thoughts| !thoughts.is_null());
        let (Some(fields), Some(thoughts)) = (message.as_object(), thoughts) else { return value(message) };
        let mut seen = serde_json::Map::new();
        seen.insert("thinking".to_owned(), thoughts.clone());
        seen.extend(fields.clone());
        seen.insert("reasoning_content".to_owned(), thoughts.clone());
        value(&serde_json::Value::Object(seen))
    };
    list.iter().map(message).collect()
}

/// JSON as a template sees it, keys in their order.
fn value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(truth) => Value::from(*truth),
        serde_json::Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(whole), _) => Value::from(whole),
            (None, Some(whole)) => Value::from(whole),
            (None, None) => number.as_f64().map_or_else(|| Value::from(()), Value::from),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => items.iter().map(value).collect(),
        serde_json::Value::Object(fields) => {
            Value::from_pairs(fields.iter().map(|(name, item)| (name.as_str(), value(item))))
        }
    }
}

fn render(environment: &Environment<'_>, arguments: Value) -> Result<String, ChatTemplateError> {
    let template = environment.get_template(NAME).map_err(|error| failed(&error))?;
    let mut prompt = Bounded(Vec::new());
    template.render_captured_to(arguments, &mut prompt).map_err(|error| failed(&error))?;
    String::from_utf8(prompt.0).map_err(|error| ChatTemplateError::Failed(error.to_string()))
}

/// Output up to a limit.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Templates made for training mark the answers with a tag that means nothing else; here it is a scope of its own, as
/// there.
fn without_generation_tags(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        result.push_str(before);
        let end = tag.find("%}").map_or(tag.len(), |end| end + 2);
        let name =
            tag[..end].trim_start_matches(['{', '%', '-', '+']).trim_end_matches(['-', '+', '%', '}']).trim();
        match name {
            "generation" => result.push_str(&tag[..end].replacen("generation", "with", 1)),
            "endgeneration" => result.push_str(&tag[..end].replacen("endgeneration", "endwith", 1)),
            _ => result.push_str(&tag[..end]),
        }
        rest = &tag[end..];
    }
    result + rest
}

/// Runs what a template decides the depth of: its expressions, and the values it builds, may be nested as deep as its
/// length and its steps allow, and are walked by recursion.
fn on_deep_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Lost> {
    let (tell, told) = mpsc::sync_channel(1);
    let thread = thread::Builder::new().name("chat template".to_owned()).stack_size(STACK);
    // If nobody waits any more, there is nobody to tell.
    let thread = thread.spawn(move || drop(tell.send(work()))).map_err(Lost::NoThread)?;
    match told.recv_timeout(PATIENCE) {
        Ok(result) => {
            // It frees what the template has made. It has not panicked before.
            let _ = thread.join();
            Ok(result)
        }
        Err(mpsc::RecvTimeoutError::Timeout) => Err(Lost::Endless),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(Lost::Panicked),
    }
}

/// Why there is no result of a template's thread.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("no thread for it: {0}")]
    NoThread(io::Error),
    #[error("it does not come to an end")]
    Endless,
    /// Not with the panic's own message: it may quote the messages.
    #[error("a fault of the template engine")]
    Panicked,
}

/// Python's methods. `str.format` pads to any width without being asked what that costs, so that is asked here; and
/// `str.title` begins words after any character that is no letter.
fn method(
    state: &mut State,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value, minijinja::Error> {
    match (name, value.as_str()) {
        ("format", Some(format)) if pads_widely(format) => {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, "format with a width of over 999"))
        }
        ("title", Some(text)) if arguments.is_empty() => Ok(Value::from(title(text))),
        _ => unknown_method_callback(state, value, name, arguments),
    }
}

fn title(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            result.extend(c.to_lowercase());
        } else {
            result.extend(c.to_uppercase());
        }
        inside = c.is_alphabetic();
    }
    result
}

/// Whether a field of a format, what is between braces after a colon, has a number of more than three digits, or has one
/// filled in.
fn pads_widely(format: &str) -> bool {
    let fields = format.split('{').skip(1);
    fields.filter_map(|field| field.split_once(':')).any(|(_, spec)| {
        let (spec, closed) = spec.split_once('}').map_or((spec, false), |(spec, _)| (spec, true));
        !closed || spec.split(|c: char| !c.is_ascii_digit()).any(|number| number.len() > 3)
    })
}

/// As in Python, where `none` cannot be iterated over and text and maps can.
fn iterable(value: &Value) -> bool {
    match value.kind() {
        ValueKind::None | ValueKind::Bool | ValueKind::Number => false,
        _ => value.try_iter().is_ok(),
    }
}

fn raise_exception(message: &str) -> Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, "").with_source(Raised(message.to_owned())))
}

fn strftime_at(now: SystemTime, format: &str) -> Result<String, minijinja::Error> {
    strftime(now, format).map_err(|unknown| {
        minijinja::Error::new(ErrorKind::InvalidOperation, format!("strftime_now does not know {unknown}"))
    })
}

/// What a template said to `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

fn failed(error: &minijinja::Error) -> ChatTemplateError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(this) = cause {
        if let Some(Raised(message)) = this.downcast_ref() {
            return ChatTemplateError::Refused(message.clone());
        }
        if this.downcast_ref::<minijinja::Error>().is_some_and(|error| error.kind() == ErrorKind::OutOfFuel) {
            return ChatTemplateError::Endless;
        }
        if this.downcast_ref::<io::Error>().is_some() {
            return ChatTemplateError::TooLong(MAX_OUTPUT);
        }
        cause = this.source();
    }
    ChatTemplateError::Failed(describe(error))
}

/// Line, kind and detail.
fn describe(error: &minijinja::Error) -> String {
    let line = error.line().map_or_else(String::new, |line| format!("line {line}: "));
    let detail = error.detail().map_or_else(String::new, |detail| format!(": {detail}"));
    format!("{line}{}{detail}", error.kind())
}
