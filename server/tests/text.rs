//! Texts, token ids and chat prompts, without the engine. A token of this tokenizer is a byte.

mod common;

use common::{LIMITS, Server, echo, loading, serve, serve_with};
use serde_json::{Value, json};
use server::Config;

async fn ask(server: &Server, path: &str, body: Value) -> (u16, Value) {
    let answer = server.post(path, &body).await;
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert!(answer.headers().contains_key("x-correlation-id"));
    (answer.status().as_u16(), answer.text().await.unwrap().parse().unwrap())
}

/// The answer to a right request.
async fn get(server: &Server, path: &str, body: Value) -> Value {
    let (status, answer) = ask(server, path, body).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

/// Fields and constraints of a wrong one.
async fn faults(server: &Server, path: &str, body: Value) -> Vec<(String, String)> {
    let (status, answer) = ask(server, path, body).await;
    assert_eq!(status, 400, "{answer}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let errors = answer["errors"].as_array().unwrap();
    errors.iter().map(|fault| (text(&fault["field"]), text(&fault["constraint"]))).collect()
}

fn fault(field: &str, constraint: &str) -> (String, String) {
    (field.to_owned(), constraint.to_owned())
}

fn chat() -> Value {
    json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "a"},
        {"type": "text", "text": "b"}]}])
}

#[tokio::test]
async fn a_text_has_the_same_tokens_under_either_name() {
    let server = serve(Config::default(), echo).await;
    for name in ["content", "prompt"] {
        let answer =
            get(&server, "/tokenize", json!({name: "hé", "model": "any", "add_special": false})).await;
        assert_eq!(answer, json!({"tokens": [104, 195, 169], "count": 3, "max_model_len": LIMITS.context}));
    }
    let nothing = get(&server, "/tokenize", json!({"content": ""})).await;
    assert_eq!((&nothing["tokens"], &nothing["count"]), (&json!([]), &json!(0)));
}

#[tokio::test]
async fn pieces_are_text_or_the_bytes_of_a_part_of_a_character() {
    let server = serve(Config::default(), echo).await;
    let answer = get(&server, "/tokenize", json!({"content": "hé", "with_pieces": true})).await;
    let expected =
        json!([{"id": 104, "piece": "h"}, {"id": 195, "piece": [195]}, {"id": 169, "piece": [169]}]);
    assert_eq!(answer["tokens"], expected);
}

#[tokio::test]
async fn tokens_have_the_text_they_came_from_under_both_names() {
    let server = serve(Config::default(), echo).await;
    let tokens = get(&server, "/tokenize", json!({"content": "hé!"})).await["tokens"].clone();
    let answer = get(&server, "/detokenize", json!({"tokens": tokens, "model": "any"})).await;
    assert_eq!(answer, json!({"content": "hé!", "prompt": "hé!"}));
    assert_eq!(get(&server, "/detokenize", json!({"tokens": []})).await["content"], "");
    assert_eq!(get(&server, "/detokenize", json!({"tokens": [195]})).await["content"], "\u{fffd}");
}

#[tokio::test]
async fn a_chat_is_what_its_template_makes_of_it() {
    let server = serve(Config::default(), echo).await;
    let prompt = "system: Be brief.\nuser: a\nb\n";
    let tool = json!({"type": "function", "function": {"name": "f"}});
    for (more, expected) in [
        (json!({}), format!("{prompt}assistant: ")),
        (json!({"add_generation_prompt": true}), format!("{prompt}assistant: ")),
        (json!({"add_generation_prompt": false}), prompt.to_owned()),
        (json!({"tools": [tool]}), format!("tools: [{tool}]\n{prompt}assistant: ")),
    ] {
        let mut body = json!({"messages": chat()});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(get(&server, "/apply-template", body.clone()).await, json!({"prompt": expected}));
        let tokens = get(&server, "/tokenize", body).await["tokens"].clone();
        assert_eq!(get(&server, "/detokenize", json!({"tokens": tokens})).await["content"], expected);
    }
}

#[tokio::test]
async fn all_faults_are_told_at_once() {
    let server = serve(Config::default(), echo).await;
    let text = json!({"content": 5, "with_pieces": "yes", "add_special": 1, "parse_special": [], "model": {}, "colour": 1});
    let expected = [
        fault("model", "type(string)"),
        fault("with_pieces", "type(boolean)"),
        fault("parse_special", "type(boolean)"),
        fault("add_special", "type(boolean)"),
        fault("content", "type(string)"),
        fault("colour", "known_field"),
    ];
    assert_eq!(faults(&server, "/tokenize", text).await, expected);

    let tokens = json!({"tokens": [0, -1, 256, 1.5, "a", 255, null, 4294967296u64], "x": 1});
    let range = |index| fault(&format!("tokens[{index}]"), "range(0..=255)");
    let wrong = |index| fault(&format!("tokens[{index}]"), "type(integer)");
    let expected = [range(1), range(2), range(3), wrong(4), wrong(6), range(7), fault("x", "known_field")];
    assert_eq!(faults(&server, "/detokenize", tokens).await, expected);

    let messages =
        json!([{"content": null, "colour": "red"}, 5, {"role": "", "content": [{"type": "image_url"}, 5]}]);
    let expected = [
        fault("messages[0].role", "required"),
        fault("messages[0].content", "type(string)"),
        fault("messages[0].colour", "known_field"),
        fault("messages[1]", "type(object)"),
        fault("messages[2].role", "length(1..=64)"),
        fault("messages[2].content[0]", "unsupported"),
        fault("messages[2].content[1]", "unsupported"),
        fault("add_generation_prompt", "type(boolean)"),
    ];
    for path in ["/apply-template", "/tokenize"] {
        let body = json!({"messages": messages, "add_generation_prompt": 1});
        assert_eq!(faults(&server, path, body).await, expected);
    }
}

#[tokio::test]
async fn what_is_missing_or_said_twice_is_told() {
    let server = serve(Config::default(), echo).await;
    let one_of = [fault("content", "one_of(content, prompt, messages)")];
    for body in [
        json!({}),
        json!({"content": null}),
        json!({"content": "a", "prompt": "a"}),
        json!({"content": "a", "messages": chat()}),
        json!({"content": "a", "prompt": "a", "messages": chat()}),
    ] {
        assert_eq!(faults(&server, "/tokenize", body).await, one_of);
    }
    // It would change nothing.
    let useless = json!({"content": "a", "add_generation_prompt": true});
    assert_eq!(faults(&server, "/tokenize", useless).await, [fault("add_generation_prompt", "known_field")]);
    assert_eq!(faults(&server, "/detokenize", json!({})).await, [fault("tokens", "required")]);
    assert_eq!(faults(&server, "/apply-template", json!({})).await, [fault("messages", "required")]);
    assert_eq!(
        faults(&server, "/apply-template", json!({"messages": []})).await,
        [fault("messages", "non_empty")]
    );
}

#[tokio::test]
async fn a_template_s_refusal_is_a_fault_of_the_messages() {
    let server = serve(Config::default(), echo).await;
    for path in ["/apply-template", "/tokenize"] {
        let (status, answer) =
            ask(&server, path, json!({"messages": [{"role": "tool", "content": "4"}]})).await;
        let expected = json!({"errors": [{"field": "messages", "constraint": "chat_template",
            "message": "this template knows no tools"}]});
        assert_eq!((status, answer), (400, expected));
    }
}

#[tokio::test]
async fn lengths_are_those_of_a_prompt() {
    let server = serve(Config::default(), echo).await;
    let (longest, over) = ("é".repeat(32768), "é".repeat(32769));
    assert_eq!(get(&server, "/tokenize", json!({"content": longest})).await["count"], 65536);
    assert_eq!(
        faults(&server, "/tokenize", json!({"content": over})).await,
        [fault("content", "length(0..=32768)")]
    );
    let two = |second: &str| json!({"messages": [{"role": "user", "content": longest}, {"role": "user", "content": second}]});
    get(&server, "/apply-template", two("")).await;
    assert_eq!(faults(&server, "/apply-template", two("a")).await, [fault("messages", "length(1..=32768)")]);
    let thoughtful =
        |thoughts: &str| json!({"messages": [{"role": "a", "content": longest, "thinking": thoughts}]});
    get(&server, "/apply-template", thoughtful("")).await;
    let told = faults(&server, "/apply-template", thoughtful("a")).await;
    assert_eq!(told, [fault("messages", "length(1..=32768)")]);
    let tools = |description: &str| {
        let function = json!({"type": "function", "function": {"name": "f", "description": description}});
        json!({"messages": chat(), "tools": [function]})
    };
    get(&server, "/apply-template", tools("")).await;
    assert_eq!(
        faults(&server, "/apply-template", tools(&longest)).await,
        [fault("tools", "length(0..=32768)")]
    );
    get(&server, "/detokenize", json!({"tokens": vec![97; 32768]})).await;
    let many = json!({"tokens": vec![97; 32769]});
    assert_eq!(faults(&server, "/detokenize", many).await, [fault("tokens", "length(0..=32768)")]);
}

const PATHS: [&str; 3] = ["/tokenize", "/detokenize", "/apply-template"];

#[tokio::test]
async fn they_want_a_key_a_loaded_model_and_a_body_within_the_limit() {
    let config = Config { api_keys: vec!["secret".to_owned()], body_limit: 100, ..Config::default() };
    let (server, load) = loading(config).await;
    for path in PATHS {
        assert_eq!(server.post(path, &json!({})).await.status(), 401, "{path}");
        let post =
            |body: String| server.client.post(server.url(path)).bearer_auth("secret").body(body).send();
        assert_eq!(post("{}".to_owned()).await.unwrap().status(), 503, "{path}");
        assert_eq!(post(" ".repeat(101)).await.unwrap().status(), 413, "{path}");
    }
    assert!(load.send(server.worker(common::bytes, echo)).is_ok());
    let long = json!({"content": "x".repeat(90)});
    let answer = server.client.post(server.url("/tokenize")).bearer_auth("secret").body(long.to_string());
    assert_eq!(answer.send().await.unwrap().status(), 413);
}

#[tokio::test]
async fn a_tokenizer_that_panics_is_an_error_without_the_text() {
    let server = serve_with(Config::default(), |text| panic!("cannot encode {text}"), echo).await;
    let (status, answer) = ask(&server, "/tokenize", json!({"content": "s3cret"})).await;
    assert_eq!((status, &answer["code"]), (500, &json!("INTERNAL")));
    assert!(!answer.to_string().contains("s3cret"));
}

#[tokio::test]
async fn a_body_full_of_faults_has_a_short_answer() {
    let server = serve(Config::default(), echo).await;
    let body = json!({"messages": vec![0; 100_000]});
    for path in ["/tokenize", "/v1/chat/completions"] {
        let answer = server.post(path, &body).await;
        assert_eq!(answer.status(), 400, "{path}");
        let text = answer.text().await.unwrap();
        assert!(text.len() < 64 * 1024, "{} bytes", text.len());
        assert!(text.contains("there are 99900 faults more"), "{path}");
    }
}

#[tokio::test]
async fn an_answer_without_text_may_be_sent_back() {
    let server = serve(Config::default(), echo).await;
    let messages = json!([{"role": "assistant", "content": null, "refusal": null, "tool_calls": []}]);
    let answer = server.post("/apply-template", &json!({"messages": messages})).await;
    let body: Value = answer.text().await.unwrap().parse().unwrap();
    assert_eq!(body["prompt"], "assistant: \nassistant: ");
}
