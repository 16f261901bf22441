//! OpenAI's API: what requests may not say, and how they are told.

mod common;

use common::{CHAT, COMPLETIONS, KINDS, LIMITS, bytes, faults, loading, nothing, serve, with};
use serde_json::{Value, json};
use server::Config;

/// A field, what it may not be, and the rule that says so; the field at fault is named if it is another.
type Broken = (&'static str, Value, &'static str, &'static str);

fn broken() -> Vec<Broken> {
    let many = |count: usize| -> Value {
        (0..count).map(|id| (id.to_string(), json!(1))).collect::<serde_json::Map<_, _>>().into()
    };
    vec![
        ("model", json!(7), "model", "type(string)"),
        ("n", json!(0), "n", "range(1..=16)"),
        ("n", json!(17), "n", "range(1..=16)"),
        ("n", json!("1"), "n", "type(integer)"),
        ("best_of", json!(2), "best_of", "unsupported"),
        ("stream", json!("yes"), "stream", "type(boolean)"),
        ("stream_options", json!({}), "stream_options", "needs(stream)"),
        ("stream_options", json!(true), "stream_options", "type(object)"),
        ("temperature", json!(-0.1), "temperature", "range(0.0..=2.0)"),
        ("temperature", json!(2.1), "temperature", "range(0.0..=2.0)"),
        ("top_p", json!(0), "top_p", "range(0.0<..=1.0)"),
        ("top_p", json!(1.1), "top_p", "range(0.0<..=1.0)"),
        ("top_k", json!(-2), "top_k", "range(-1..=256)"),
        ("top_k", json!(257), "top_k", "range(-1..=256)"),
        ("top_k", json!(1.5), "top_k", "range(-1..=256)"),
        ("min_p", json!(1.1), "min_p", "range(0.0..=1.0)"),
        ("repetition_penalty", json!(0), "repetition_penalty", "range(0.0<..=2.0)"),
        ("presence_penalty", json!(-2.1), "presence_penalty", "range(-2.0..=2.0)"),
        ("presence_penalty", json!(2.1), "presence_penalty", "range(-2.0..=2.0)"),
        ("frequency_penalty", json!(2.1), "frequency_penalty", "range(-2.0..=2.0)"),
        ("frequency_penalty", json!(true), "frequency_penalty", "type(number)"),
        ("logit_bias", json!([1]), "logit_bias", "type(object)"),
        ("logit_bias", json!({"0": 1, "x": 1}), "logit_bias[1]", "token_id(0..256)"),
        ("logit_bias", json!({"256": 1}), "logit_bias[0]", "token_id(0..256)"),
        ("logit_bias", json!({"0": 101}), "logit_bias[0]", "range(-100.0..=100.0)"),
        ("logit_bias", json!({"0": "1"}), "logit_bias[0]", "range(-100.0..=100.0)"),
        ("logit_bias", json!({"1": 1, "01": 1}), "logit_bias[1]", "unique"),
        ("logit_bias", many(2000), "logit_bias", "length(0..=1024)"),
        ("seed", json!(1.5), "seed", "range(-9223372036854775808..=18446744073709551615)"),
        ("seed", json!(1e20), "seed", "range(-9223372036854775808..=18446744073709551615)"),
        ("stop", json!(7), "stop", "type(array)"),
        ("stop", json!(""), "stop[0]", "non_empty"),
        ("stop", json!(["a", "b", "c", "d", "e"]), "stop", "length(0..=4)"),
        ("stop", json!(["a", "x".repeat(33)]), "stop[1]", "tokens(1..=32)"),
        ("max_tokens", json!(0), "max_tokens", "range(1..=2048)"),
        ("max_tokens", json!(2049), "max_tokens", "range(1..=2048)"),
        ("min_tokens", json!(2049), "min_tokens", "range(0..=2048)"),
        ("ignore_eos", json!(1), "ignore_eos", "type(boolean)"),
        ("user", json!(7), "user", "unsupported"),
        ("stop_token_ids", json!([1]), "stop_token_ids", "unsupported"),
        ("use_beam_search", json!(true), "use_beam_search", "unsupported"),
        ("length_penalty", json!(0.5), "length_penalty", "unsupported"),
        ("skip_special_tokens", json!(false), "skip_special_tokens", "unsupported"),
        ("include_stop_str_in_output", json!(true), "include_stop_str_in_output", "unsupported"),
        ("guided_json", json!({}), "guided_json", "known_field"),
        ("colour", json!(null), "colour", "known_field"),
    ]
}

/// Each alone, then all those of different fields at once.
async fn check_broken(path: &str, cases: Vec<Broken>) {
    let server = serve(Config::default(), nothing).await;
    let mut all = json!({});
    let mut expected = Vec::new();
    for (name, value, field, rule) in cases {
        let told = faults(&server, path, &json!({name: value})).await;
        assert_eq!(told, [(field.to_owned(), rule.to_owned())], "{path} {name}: {value:.100}");
        if all.get(name).is_none() {
            all[name] = value;
            expected.extend(told);
        }
    }
    let mut told = faults(&server, path, &all).await;
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
}

#[tokio::test]
async fn each_broken_rule_of_a_completion_is_named() {
    let mut cases = broken();
    cases.extend([
        ("prompt", json!(null), "prompt", "required"),
        ("prompt", json!(""), "prompt", "non_empty"),
        ("prompt", json!(7), "prompt", "type(string or array)"),
        ("prompt", json!([]), "prompt", "length(1..=64)"),
        ("prompt", json!(vec!["p"; 65]), "prompt", "length(1..=64)"),
        ("prompt", json!(["p", ""]), "prompt[1]", "non_empty"),
        ("prompt", json!([[1], []]), "prompt[1]", "non_empty"),
        ("prompt", json!([[1], {}]), "prompt[1]", "type(string or array)"),
        ("prompt", json!([1, 256]), "prompt[1]", "token_id(0..256)"),
        ("prompt", json!([-1]), "prompt[0]", "token_id(0..256)"),
        ("prompt", json!([1, "p"]), "prompt[1]", "token_id(0..256)"),
        ("prompt", json!(["p", [0, 1.5]]), "prompt[1][1]", "token_id(0..256)"),
        ("logprobs", json!(21), "logprobs", "range(0..=20)"),
        ("logprobs", json!(true), "logprobs", "type(integer)"),
        ("echo", json!(1), "echo", "type(boolean)"),
        ("suffix", json!("s"), "suffix", "unsupported"),
        ("messages", json!([]), "messages", "known_field"),
    ]);
    check_broken(COMPLETIONS, cases).await;
    let server = serve(Config::default(), nothing).await;
    for (fields, field, rule) in [
        (json!({"echo": true, "logprobs": 1}), "echo", "unsupported"),
        (json!({"min_tokens": 8, "max_tokens": 7}), "max_tokens", "at_least(min_tokens)"),
        (json!({"n": 2, "best_of": 3}), "best_of", "unsupported"),
        // More than the queue can hold.
        (json!({"prompt": ["p", "q"], "n": 9}), "n", "choices(1..=16)"),
    ] {
        let told = faults(&server, COMPLETIONS, &fields).await;
        assert_eq!(told, [(field.to_owned(), rule.to_owned())], "{fields}");
    }
}

#[tokio::test]
async fn each_broken_rule_of_a_chat_is_named() {
    let message = |message: Value| json!([{"role": "user", "content": "c"}, message]);
    let mut cases = broken();
    cases.extend([
        ("messages", json!(null), "messages", "required"),
        ("messages", json!([]), "messages", "non_empty"),
        ("messages", json!("hello"), "messages", "type(array)"),
        ("messages", message(json!("hello")), "messages[1]", "type(object)"),
        ("messages", message(json!({"content": "c"})), "messages[1].role", "required"),
        ("messages", message(json!({"role": 7, "content": "c"})), "messages[1].role", "type(string)"),
        ("messages", message(json!({"role": "user"})), "messages[1].content", "required"),
        ("messages", message(json!({"role": "user", "content": 7})), "messages[1].content", "type(string)"),
        (
            "messages",
            message(json!({"role": "user", "content": [{"type": "text", "text": "c"},
                {"type": "image_url", "image_url": {"url": "data:,"}}]})),
            "messages[1].content[1]",
            "unsupported",
        ),
        (
            "messages",
            message(json!({"role": "assistant", "content": "c", "tool_calls": [{"id": "1"}]})),
            "messages[1].tool_calls",
            "known_field",
        ),
        // Only the template knows what it understands.
        ("messages", message(json!({"role": "tool", "content": "c"})), "messages", "chat_template"),
        ("top_logprobs", json!(1), "top_logprobs", "needs(logprobs)"),
        ("top_logprobs", json!(21), "top_logprobs", "range(0..=20)"),
        ("logprobs", json!(1), "logprobs", "type(boolean)"),
        ("max_completion_tokens", json!(0), "max_completion_tokens", "range(1..=2048)"),
        ("add_generation_prompt", json!(1), "add_generation_prompt", "type(boolean)"),
        (
            "messages",
            message(json!({"role": "assistant", "content": "c", "reasoning_content": 7})),
            "messages[1].reasoning_content",
            "type(string)",
        ),
        (
            "messages",
            message(json!({"role": "assistant", "content": "c", "thinking": ["t"]})),
            "messages[1].thinking",
            "type(string)",
        ),
        (
            "messages",
            message(json!({"role": "a", "content": "c", "reasoning": {}})),
            "messages[1].reasoning",
            "type(string)",
        ),
        ("tools", json!({"type": "function"}), "tools", "type(array)"),
        ("tools", json!(["f"]), "tools[0]", "type(object)"),
        ("tools", json!([{"function": {"name": "f"}}]), "tools[0].type", "unsupported"),
        ("tools", json!([{"type": "web_search"}]), "tools[0].type", "unsupported"),
        ("tools", json!([{"type": "function"}]), "tools[0].function.name", "required"),
        (
            "tools",
            json!([{"type": "function", "function": {"name": ""}}]),
            "tools[0].function.name",
            "required",
        ),
        (
            "tools",
            json!([{"type": "function", "function": {"name": 7}}]),
            "tools[0].function.name",
            "required",
        ),
        ("functions", json!([{"name": "f"}]), "functions", "unsupported"),
        ("tool_choice", json!("required"), "tool_choice", "unsupported"),
        ("tool_choice", json!({"type": "function"}), "tool_choice", "unsupported"),
        ("function_call", json!({"name": "f"}), "function_call", "unsupported"),
        ("parallel_tool_calls", json!(1), "parallel_tool_calls", "unsupported"),
        ("response_format", json!({"type": "json_object"}), "response_format", "unsupported"),
        ("modalities", json!(["text", "audio"]), "modalities", "unsupported"),
        ("service_tier", json!("priority"), "service_tier", "unsupported"),
        ("store", json!(true), "store", "unsupported"),
        ("metadata", json!("m"), "metadata", "unsupported"),
        ("audio", json!({"voice": "alloy"}), "audio", "known_field"),
        ("prompt", json!("p"), "prompt", "known_field"),
        ("echo", json!(false), "echo", "known_field"),
        ("suffix", json!(""), "suffix", "known_field"),
    ]);
    check_broken(CHAT, cases).await;
    let server = serve(Config::default(), nothing).await;
    let stream = |options: Value| json!({"stream": true, "stream_options": options});
    for (fields, field, rule) in [
        (json!({"max_tokens": 7, "max_completion_tokens": 8}), "max_tokens", "equals(max_completion_tokens)"),
        (json!({"max_tokens": 8, "max_completion_tokens": 7}), "max_tokens", "equals(max_completion_tokens)"),
        (
            json!({"min_tokens": 8, "max_completion_tokens": 7}),
            "max_completion_tokens",
            "at_least(min_tokens)",
        ),
        (json!({"logprobs": false, "top_logprobs": 3}), "top_logprobs", "needs(logprobs)"),
        (stream(json!({"include_usage": 1})), "stream_options.include_usage", "type(boolean)"),
        (
            stream(json!({"continuous_usage_stats": true})),
            "stream_options.continuous_usage_stats",
            "unsupported",
        ),
        (stream(json!({"more": 1})), "stream_options.more", "known_field"),
    ] {
        let told = faults(&server, CHAT, &fields).await;
        assert_eq!(told, [(field.to_owned(), rule.to_owned())], "{fields}");
    }
}

#[tokio::test]
async fn no_error_echoes_text() {
    let server = serve(Config::default(), nothing).await;
    let secret = "s3cret";
    let bodies = [
        json!({"prompt": [secret, {}], "stop": {}, "model": "tiny", "suffix": secret, "user": [secret]}),
        json!({"prompt": secret, "model": secret}),
        json!({"prompt": "p", "logit_bias": {secret: 1}, "seed": secret}),
        json!({"messages": [{"role": "user", "content": [{"type": secret, "text": secret}]}], "tools": [secret]}),
        json!({"messages": [{"role": "user", "content": "c"}], "tools": [{"type": secret}, {"type": "function", "function": {secret: secret}}]}),
        json!({"messages": [{"role": "tool", "content": secret}]}),
    ];
    for body in bodies {
        let path = if body.get("prompt").is_some() { COMPLETIONS } else { CHAT };
        let answer = server.post(path, &body).await;
        assert!(answer.status().is_client_error(), "{body}");
        let told = answer.text().await.unwrap();
        assert!(!told.contains(secret), "{told}");
    }
}

/// An error in OpenAI's shape.
async fn expect_error(
    answer: reqwest::Response,
    status: u16,
    kind: &str,
    param: Value,
    code: &str,
) -> String {
    assert_eq!(answer.status(), status, "{code}");
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert!(answer.headers().contains_key("x-correlation-id"), "{code}");
    let body: Value = answer.text().await.unwrap().parse().unwrap();
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    let error = &body["error"];
    assert_eq!((&error["type"], &error["param"], &error["code"]), (&json!(kind), &param, &json!(code)));
    error["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_refusal_has_openais_shape() {
    const INVALID: &str = "invalid_request_error";
    let keys = vec!["key".to_owned()];
    let (mut server, load) =
        loading(Config { api_keys: keys, body_limit: 10_000, ..Config::default() }).await;
    let keyless = server.client.clone();
    let headers = [("authorization".parse().unwrap(), "Bearer key".parse().unwrap())].into_iter().collect();
    server.client = reqwest::Client::builder().default_headers(headers).build().unwrap();

    for path in KINDS {
        let answer = server.post(path, &with(path, &json!({}))).await;
        assert_eq!(answer.headers()["retry-after"], "5");
        expect_error(answer, 503, "server_error", Value::Null, "model_loading").await;
    }
    expect_error(server.get("/v1/models").await, 503, "server_error", Value::Null, "model_loading").await;
    assert!(load.send(server.worker(bytes, nothing)).is_ok());
    while server.get("/ready").await.status() != 200 {
        tokio::task::yield_now().await;
    }

    for path in KINDS {
        let answer = keyless.post(server.url(path)).body("{}").send().await.unwrap();
        assert_eq!(answer.headers()["www-authenticate"], "Bearer");
        expect_error(answer, 401, "authentication_error", Value::Null, "invalid_api_key").await;

        let answer = server.post(path, &with(path, &json!({"model": "gpt-4o"}))).await;
        let message = expect_error(answer, 404, INVALID, json!("model"), "model_not_found").await;
        assert!(message.contains("tiny") && !message.contains("gpt-4o"), "{message}");

        let answer = server.get(path).await;
        assert_eq!(answer.headers()["allow"], "POST");
        expect_error(answer, 405, INVALID, Value::Null, "method_not_allowed").await;

        let answer = server.post(path, &with(path, &json!({"user": "x".repeat(10_000)}))).await;
        expect_error(answer, 413, INVALID, Value::Null, "payload_too_large").await;
    }
    let answer = keyless.get(server.url("/v1/models")).send().await.unwrap();
    expect_error(answer, 401, "authentication_error", Value::Null, "invalid_api_key").await;
    expect_error(server.get("/v1/embeddings").await, 404, INVALID, Value::Null, "not_found").await;
    expect_error(
        server.post("/v1/models", &json!({})).await,
        405,
        INVALID,
        Value::Null,
        "method_not_allowed",
    )
    .await;

    let long = "x".repeat(LIMITS.context - 10);
    let answer = server.post(COMPLETIONS, &json!({"prompt": long, "max_tokens": 11})).await;
    expect_error(answer, 400, INVALID, Value::Null, "context_length_exceeded").await;
    // user: x, and the beginning of an answer, are 19 tokens; in the second case nothing is left for the answer.
    for length in [LIMITS.context, LIMITS.context - 18] {
        let messages = json!([{"role": "user", "content": "x".repeat(length)}]);
        let answer = server.post(CHAT, &json!({"messages": messages})).await;
        expect_error(answer, 400, INVALID, Value::Null, "context_length_exceeded").await;
    }

    let answer = server.client.post(server.url(CHAT)).body("{").send().await.unwrap();
    assert_eq!(answer.status(), 400);
    let told: Value = answer.text().await.unwrap().parse().unwrap();
    assert_eq!(
        (&told["error"]["param"], &told["errors"][0]["constraint"]),
        (&json!("body"), &json!("valid_json"))
    );

    server.engine.not_resident();
    let answer = server.post(CHAT, &with(CHAT, &json!({}))).await;
    expect_error(answer, 500, "server_error", Value::Null, "vram_residency_failed").await;
}
