//! The OpenAPI document says of requests what is checked.

mod common;

use common::{CHAT, COMPLETIONS, LIMITS, faults, nothing, serve, serve_with, with};
use serde_json::{Value, json};
use server::Config;

#[tokio::test]
async fn the_document_has_the_limits_of_the_checks() {
    let server = serve(Config::default(), nothing).await;
    let document: Value = server.get("/openapi.json").await.text().await.unwrap().parse().unwrap();
    let mut checked = 0;
    for (schema, path) in [("CompletionRequest", COMPLETIONS), ("ChatRequest", CHAT)] {
        let schema = &document["components"]["schemas"][schema];
        assert_eq!(schema["additionalProperties"], false);
        // What `best_of` may be depends on `n`.
        let properties =
            schema["properties"].as_object().unwrap().iter().filter(|(name, _)| *name != "best_of");
        for (name, property) in properties {
            let status = async |value: Value| {
                let needed = if name == "top_logprobs" { json!({"logprobs": true}) } else { json!({}) };
                let mut body = with(path, &needed);
                body[name] = value;
                server.post(path, &body).await.status().as_u16()
            };
            let whole = |bound: f64| {
                if bound.fract() == 0.0 && bound.abs() < 1e15 { json!(bound as i64) } else { json!(bound) }
            };
            for (bound, beyond) in [("minimum", -1.0), ("maximum", 1.0)] {
                let Some(number) = property[bound].as_f64() else { continue };
                let is_seed = number.abs() > 1e15;
                assert_eq!(status(property[bound].clone()).await, 200, "{name} may be {number}");
                let outside = if is_seed { json!(number * 4.0) } else { whole(number + beyond) };
                assert_eq!(status(outside.clone()).await, 400, "{name} may not be {outside}");
                checked += 1;
            }
            if let Some(number) = property["exclusiveMinimum"].as_f64() {
                assert_eq!(status(whole(number)).await, 400, "{name} may not be {number}");
                checked += 1;
            }
            for value in property["enum"].as_array().into_iter().flatten() {
                assert_eq!(status(value.clone()).await, 200, "{name} may be {value}");
                checked += 1;
            }
        }
    }
    assert!(checked > 50, "only {checked} limits were found");
}

/// A schema, or those of which one must fit.
fn forms(schema: &Value) -> Vec<&Value> {
    schema["oneOf"].as_array().map_or_else(|| vec![schema], |forms| forms.iter().collect())
}

/// The types that a schema names or whose values it lists; `None` if it does neither.
fn types(schema: &Value) -> Option<Vec<&str>> {
    let of = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if let Some(values) = schema["enum"].as_array() {
        return Some(values.iter().map(of).collect());
    }
    match &schema["type"] {
        Value::String(name) => Some(vec![name]),
        Value::Array(names) => Some(names.iter().map(|name| name.as_str().unwrap()).collect()),
        _ => None,
    }
}

/// A value that a schema of a list's entry allows.
fn entry(schema: &Value) -> Value {
    let form = forms(schema)[0];
    if form["type"] == "integer" { json!(0) } else { json!("s") }
}

#[tokio::test]
async fn the_document_has_the_types_and_lengths_of_the_checks() {
    // A token a text, so that only characters bound it.
    let server = serve_with(Config::default(), |_| vec![0], nothing).await;
    let document: Value = server.get("/openapi.json").await.text().await.unwrap().parse().unwrap();
    let (mut of_types, mut of_lengths) = (0, 0);
    for (schema, path) in [("CompletionRequest", COMPLETIONS), ("ChatRequest", CHAT)] {
        let properties = document["components"]["schemas"][schema]["properties"].as_object().unwrap();
        for (name, property) in properties {
            let check = async |value: Value, expected: u16| {
                let told = server.post(path, &with(path, &json!({name: value}))).await.status();
                assert_eq!(told, expected, "{path} {name}: {value:.80}");
            };
            let forms = forms(property);
            let allowed: Option<Vec<Vec<&str>>> = forms.iter().map(|form| types(form)).collect();
            let allowed = allowed.unwrap_or_else(|| panic!("{name} has a type")).concat();
            for (kind, value) in [
                ("boolean", json!(true)),
                ("number", json!(1.5)),
                ("string", json!("s")),
                ("array", json!([])),
                ("object", json!({})),
            ] {
                if !allowed.contains(&kind) {
                    check(value, 400).await;
                    of_types += 1;
                }
            }
            // By the rule about its length, and not by another that bounds it here.
            let too_long = async |value: Value, most: usize| {
                let told = faults(&server, path, &json!({name: value})).await;
                let rule = if most == 0 { "unsupported".to_owned() } else { format!("..={most})") };
                assert!(told[0].0 == *name && told[0].1.ends_with(&rule), "{most} {name}: {told:?}");
            };
            for form in forms {
                let length = |name: &str| form[name].as_u64().map(|length| length as usize);
                if let Some(least) = length("minLength") {
                    check(json!("s".repeat(least)), 200).await;
                    check(json!("s".repeat(least - 1)), 400).await;
                    of_lengths += 1;
                }
                if let Some(most) = length("maxLength") {
                    check(json!("é".repeat(most)), 200).await;
                    check(json!("é".repeat(most + 1)), 400).await;
                    of_lengths += 1;
                }
                if let Some(most) = length("maxItems") {
                    let list = |length: usize| json!(vec![entry(&form["items"]); length]);
                    // No more prompts than may wait, too.
                    check(list(most.min(LIMITS.queue_depth)), 200).await;
                    too_long(list(most + 1), most).await;
                    of_lengths += 1;
                }
                if let Some(most) = length("maxProperties") {
                    // The vocabulary bounds it here, before that.
                    let bias = |length: usize| (0..length).map(|id| (id.to_string(), json!(1))).collect();
                    check(Value::Object(bias(most.min(LIMITS.vocab))), 200).await;
                    too_long(Value::Object(bias(most + 1)), most).await;
                    of_lengths += 1;
                }
            }
        }
    }
    assert!(of_types > 150 && of_lengths > 12, "only {of_types} types and {of_lengths} lengths were found");
}
