//! The report as lines of text. They may still have characters that a terminal must not get.

use super::report::{Device, Memory, Report, Shown, Template};

/// A line for each thing told.
pub(super) fn lines(report: &Report) -> Vec<String> {
    let mut lines = vec![format!("file           {}, {}", report.path, size(report.bytes))];
    let mut tell = |what: &str, told: String| lines.push(format!("{what:14} {told}"));
    match (&report.architecture, &report.run_by) {
        (Some(name), Some(source)) => tell("architecture", format!("{name}, run by {source}")),
        (Some(name), None) => tell("architecture", name.clone()),
        (None, _) => tell("architecture", "none is named".to_owned()),
    }
    match &report.problems[..] {
        [] => tell("runs", "yes".to_owned()),
        problems => problems.iter().for_each(|problem| tell("runs", format!("no: {problem}"))),
    }
    if let Some(shape) = &report.model {
        tell(
            "model",
            format!(
                "{} blocks, hidden {}, feed-forward {}, {} heads of {} ({} of keys and values), vocabulary {}, context {}",
                shape.blocks,
                shape.hidden,
                shape.feed_forward,
                shape.heads,
                shape.head_dim,
                shape.kv_heads,
                shape.vocab,
                shape.context
            ),
        );
    }
    if let Some((kind, tokens)) = &report.tokenizer {
        tell("tokenizer", format!("{kind}, {tokens} tokens"));
    }
    tell(
        "chat template",
        match &report.chat_template {
            Template::None => "none".to_owned(),
            Template::Works => "there is one".to_owned(),
            Template::Broken(why) => format!("unusable: {why}"),
        },
    );
    for (ty, share) in &report.types {
        tell("type", format!("{ty}: {} tensors, {}", share.tensors, size(share.bytes)));
    }
    if let Some(memory) = &report.memory {
        lines.extend(of_memory(memory));
    }
    lines.push(format!("{:14} {}", "device", device(report)));
    lines.push(String::new());
    lines.push(format!("metadata: {} keys", report.metadata.len()));
    lines.extend(report.metadata.iter().map(|(key, value)| format!("  {key} = {}", shown(value))));
    lines.push(String::new());
    lines.push(format!("tensors: {}", report.tensors.len()));
    let width = report.tensors.iter().map(|tensor| tensor.name.chars().count()).max().unwrap_or(0).min(48);
    lines.extend(report.tensors.iter().map(|tensor| {
        format!("  {:width$} {:8} {:?}, {}", tensor.name, tensor.ty, tensor.dims, size(tensor.bytes as u64))
    }));
    lines
}

fn of_memory(memory: &Memory) -> Vec<String> {
    let on = if memory.gpu { "a GPU" } else { "the CPU" };
    let head = format!(
        "{:14} on {on} in {} numerics, for {} of {} tokens, {} tokens a step, {} bytes of keys and values a token:",
        "memory",
        memory.numerics,
        if memory.sequences == 1 {
            "1 sequence".to_owned()
        } else {
            format!("{} sequences", memory.sequences)
        },
        memory.context,
        memory.step_tokens,
        memory.kv_bytes_per_token,
    );
    let part = |(name, bytes): (&&str, &u64)| format!("{:14} {name:12} {}", "", size(*bytes));
    let parts = memory.bytes.iter().map(part).chain([part((&"total", &memory.total))]);
    [head].into_iter().chain(parts).collect()
}

fn device(report: &Report) -> String {
    match &report.device {
        Device::None(why) => format!("no GPU at hand: {why}"),
        Device::Found { name, description, bytes, free, fits } => {
            let fits = match fits {
                Some(true) => "it fits",
                Some(false) => "it does not fit",
                None => "it does not run there",
            };
            format!("{fits}: {name} ({description}) has {} free of {}", size(*free), size(*bytes))
        }
    }
}

fn shown(value: &Shown) -> String {
    match value {
        Shown::Int(value) => value.to_string(),
        Shown::Float(serde_json::Value::String(text)) => text.clone(),
        Shown::Float(value) => value.to_string(),
        Shown::Bool(value) => value.to_string(),
        Shown::Text(text) => format!("\"{text}\""),
        Shown::LongText { begins, bytes } => format!("\"{begins}\"... {bytes} bytes"),
        Shown::Array { elements, len, first } => {
            let more = if first.len() < *len { ", ..." } else { "" };
            let first: Vec<String> = first.iter().map(shown).collect();
            format!("{len} of {elements}: [{}{more}]", first.join(", "))
        }
    }
}

/// Bytes, and in a unit that is easy to read.
fn size(bytes: u64) -> String {
    let exact = bytes as f64;
    match bytes {
        0..1_000_000 => format!("{bytes} bytes"),
        1_000_000..1_000_000_000 => format!("{bytes} bytes ({:.1} MB)", exact / 1e6),
        _ => format!("{bytes} bytes ({:.2} GB)", exact / 1e9),
    }
}
