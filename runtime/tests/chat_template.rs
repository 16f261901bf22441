//! Chat templates against Jinja2, and templates that mean harm. Tests whose files are not on this machine are reported as
//! ignored.

mod cached;
#[allow(dead_code, reason = "tensors are for the tests of the reader")]
mod draft;

use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use cached::{cached, trial};
use draft::{Draft, golden, string};
use libtest_mimic::{Arguments, Failed, Trial};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use runtime::chat_template::{Chat, ChatTemplate, ChatTemplateError};
use runtime::gguf::Gguf;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn main() {
    let mut trials = vec![
        Trial::test("own_templates_render_as_in_jinja2", || {
            as_in_jinja2(&golden("chat-templates.json"), &[])
        }),
        Trial::test("a_file_names_its_template_and_tokens", a_file_names_its_template_and_tokens),
        Trial::test("a_file_without_a_template_has_none", a_file_without_a_template_has_none),
        Trial::test("a_broken_template_says_so_and_loads", a_broken_template_says_so_and_loads),
        Trial::test("what_a_template_raises_is_the_error", what_a_template_raises_is_the_error),
        Trial::test("nothing_is_loaded_by_name", nothing_is_loaded_by_name),
        Trial::test("what_does_not_end_is_ended", what_does_not_end_is_ended),
        Trial::test("what_steps_do_not_measure_is_ended_and_not_begun_again", not_begun_again),
        Trial::test("what_is_nested_deep_breaks_nothing", what_is_nested_deep_breaks_nothing),
        Trial::test("any_text_is_a_template_or_an_error", any_text_is_a_template_or_an_error),
        Trial::test("any_messages_render_or_are_an_error", any_messages_render_or_are_an_error),
    ];
    let smollm2 = cached("WORKER_ORCD_SMOLLM2", "models/SmolLM2-135M-Instruct.Q4_1.gguf");
    trials.push(trial(
        "smollm2_renders_as_it_was_trained",
        "model",
        smollm2,
        smollm2_renders_as_it_was_trained,
    ));
    let real = cached("WORKER_ORCD_CHAT_TEMPLATES", "tokenizer-vectors/chat-templates/transformers.json");
    trials.push(trial("real_templates_render_as_in_jinja2", "vectors", real, |real| {
        as_recorded(real)?;
        as_in_jinja2(real, &GO_ON)
    }));
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// They iterate over `tools` or a content that is none, or write down as JSON what cannot be: Jinja2 fails, and here there is
/// nothing to iterate over, and all can be.
const GO_ON: [&str; 5] = [
    "LFM2.5-8B-A1B.jinja",
    "llama-cpp-deepseek-r1.jinja",
    "CohereForAI-c4ai-command-r-plus-tool_use.jinja",
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use.jinja",
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use.jinja",
];

fn one_message() -> Value {
    json!([{"role": "user", "content": "Hello"}])
}

fn render(template: &str) -> Result<String, ChatTemplateError> {
    ChatTemplate::new(template, Vec::new()).render(&one_message(), true)
}

/// Every case of a document that scripts/chat-template-reference.py wrote. What Jinja2 refuses is refused, though in other
/// words, but for the messages of templates; those `but` may do.
fn as_in_jinja2(path: &Path, but: &[&str]) -> Result<(), Failed> {
    let document: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let special = ["bos_token", "eos_token"].map(|name| (name, text(&document["special"][name])));
    let now = UNIX_EPOCH + Duration::from_secs(document["now"].as_u64().unwrap());
    let cases = document["cases"].as_array().unwrap();
    assert!(cases.len() > 100);
    let mut wrong = Vec::new();
    for case in cases {
        let name = case["template"].as_str().unwrap();
        let template = ChatTemplate::new(&text(&document["templates"][name]), special.to_vec());
        let conversation = case["conversation"].as_str().unwrap();
        let messages = &document["conversations"][conversation];
        let tools = Some(&document["tools"][conversation]).filter(|tools| !tools.is_null());
        let add_generation_prompt = case["add_generation_prompt"] == true;
        let rendered = template.render_at(now, Chat { messages, tools, add_generation_prompt });
        let right = match (&rendered, case["prompt"].as_str()) {
            // Text that is added to a `safe` one is escaped as HTML there; here `safe` means nothing.
            (Ok(prompt), Some(expected)) if name == "meetkai-functionary-medium-v3.1.jinja" => {
                *prompt == unescaped(expected)
            }
            (Ok(prompt), Some(expected)) => prompt == expected,
            (Err(ChatTemplateError::Refused(message)), None) => case["error"] == **message,
            (Err(_), None) => true,
            (Ok(_), None) => but.contains(&name),
            (Err(_), Some(_)) => false,
        };
        if !right {
            wrong.push(format!("{case}\nhere: {rendered:?}"));
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(format!("{} differ:\n{}", wrong.len(), wrong.join("\n")).into())
    }
}

fn unescaped(html: &str) -> String {
    let entities = [("&#34;", "\""), ("&#39;", "'"), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")];
    entities.iter().fold(html.to_owned(), |text, (entity, character)| text.replace(entity, character))
}

/// What was rendered on this machine is what was rendered when the hashes were recorded.
fn as_recorded(path: &Path) -> Result<(), Failed> {
    let hashes: Value = serde_json::from_slice(&std::fs::read(golden("chat-template-hashes.json"))?)?;
    let document: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let cases = document["cases"].as_array().unwrap();
    let recorded = hashes.as_object().unwrap().values().map(|of_one| of_one.as_object().unwrap().len());
    assert_eq!(recorded.sum::<usize>(), cases.len());
    for case in cases {
        let with_start = if case["add_generation_prompt"] == true { "+" } else { "" };
        let key = format!("{}{with_start}", case["conversation"].as_str().unwrap());
        let hash = case["prompt"].as_str().map_or("error".to_owned(), |prompt| {
            Sha256::digest(prompt).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
        });
        assert_eq!(hashes[case["template"].as_str().unwrap()][&key], *hash, "{key} of {}", case["template"]);
    }
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// A file of three tokens, the first of which begins and the last ends.
fn file(keys: &[(&str, &str)]) -> Result<Gguf, Failed> {
    let draft = Draft::default()
        .array("tokenizer.ggml.tokens", 8, &["<s>", "a", "</s>"].map(string))
        .u32("tokenizer.ggml.bos_token_id", 0)
        .u32("tokenizer.ggml.eos_token_id", 2)
        .u32("tokenizer.ggml.padding_token_id", 3);
    Ok(keys.iter().fold(draft, |draft, (key, value)| draft.text(key, value)).open()?)
}

fn a_file_names_its_template_and_tokens() -> Result<(), Failed> {
    const TEMPLATE: &str =
        "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ pad_token is defined }}";
    for keys in [
        &[("tokenizer.chat_template", TEMPLATE), ("tokenizer.chat_template.tool_use", "no")][..],
        &[("tokenizer.chat_template.default", TEMPLATE), ("tokenizer.chat_template.rag", "no")],
    ] {
        let template = ChatTemplate::from_gguf(&file(keys)?)?.ok_or("no template")?;
        // Token 3 is outside of the vocabulary.
        assert_eq!(template.render(&one_message(), false), Ok("<s>Hello</s>False".to_owned()));
    }
    Ok(())
}

fn a_file_without_a_template_has_none() -> Result<(), Failed> {
    assert!(ChatTemplate::from_gguf(&file(&[])?)?.is_none());
    assert!(ChatTemplate::from_gguf(&file(&[("tokenizer.chat_template.rag", "for documents")])?)?.is_none());
    Ok(())
}

fn a_broken_template_says_so_and_loads() -> Result<(), Failed> {
    let template =
        ChatTemplate::from_gguf(&file(&[("tokenizer.chat_template", "a\n{% if %}")])?)?.ok_or("none")?;
    let broken = template.broken().ok_or("it is not broken")?;
    assert!(
        matches!(broken, ChatTemplateError::Broken(why) if why.starts_with("line 2: syntax error")),
        "{broken}"
    );
    assert_eq!(template.render(&one_message(), true).as_ref(), Err(broken));
    assert!(ChatTemplate::new("{{ messages }}", Vec::new()).broken().is_none());
    let long = ChatTemplate::new(&"x".repeat(65_536), Vec::new());
    assert!(long.broken().is_some_and(|why| why.to_string().contains("65535 bytes")));
    assert_eq!(render(&"x".repeat(65_535)).map(|prompt| prompt.len()), Ok(65_535));
    Ok(())
}

fn what_a_template_raises_is_the_error() -> Result<(), Failed> {
    let refused = |template| match render(template) {
        Err(ChatTemplateError::Refused(message)) => message,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused("{{ raise_exception('no ' ~ messages[0].role) }}"), "no user");
    assert_eq!(refused("{% macro m() %}{{ raise_exception('deep') }}{% endmacro %}{{ m() }}"), "deep");
    assert_eq!(
        refused("{% for m in messages %}{% set x %}{{ raise_exception('set') }}{% endset %}{% endfor %}"),
        "set"
    );
    let failed = render("\n{{ nowhere.deeper }}").unwrap_err();
    assert_eq!(failed.to_string(), "the model's chat template fails: line 2: undefined value");
    Ok(())
}

fn nothing_is_loaded_by_name() -> Result<(), Failed> {
    for template in [
        "{% include '/etc/hostname' %}",
        "{% include ['x', 'chat_template'] ignore missing %}",
        "{% import 'chat_template' as x %}",
        "{% from '/etc/hostname' import x %}",
        "{% extends 'chat_template' %}",
    ] {
        let error = render(template).unwrap_err();
        assert!(matches!(error, ChatTemplateError::Broken(_)), "{template}: {error:?}");
    }
    for template in [
        "{{ open('/etc/hostname') }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ debug() }}",
    ] {
        let error = render(template).unwrap_err();
        assert!(matches!(error, ChatTemplateError::Failed(_)), "{template}: {error:?}");
    }
    Ok(())
}

/// A loop that builds on what it has built before.
fn growing(start: &str, step: &str, after: &str) -> String {
    format!(
        "{{% set ns = namespace(x={start}) %}}{{% for i in range(99999) %}}{{% set ns.x = {step} %}}{{% endfor %}}{after}"
    )
}

fn what_does_not_end_is_ended() -> Result<(), Failed> {
    let endless = [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}".to_owned(),
        growing("'ab'", "ns.x ~ ns.x", ""),
        growing("'ab'", "ns.x + ns.x", ""),
        growing("'ab'", "(ns.x * 1000)", ""),
        growing("'ab'", "ns.x.replace('a', ns.x)", ""),
        growing("'ab' * 1000000", "ns.x | upper", ""),
        growing("['ab' * 1000000]", "(ns.x | tojson)[1:-1] and ns.x", ""),
        "{{ 'a' * 10 ** 9 }}".to_owned(),
        "{{ '%999999999d' | format(1) }}".to_owned(),
        "{{ 'a' | indent(999999999, true) }}".to_owned(),
        "{% for i in range(99999) %}{% set x = strftime_now('%Y' * 10000) %}{% endfor %}".to_owned(),
    ];
    for template in &endless {
        let start = Instant::now();
        assert_eq!(render(template), Err(ChatTemplateError::Endless), "{template}");
        assert!(start.elapsed() < Duration::from_secs(30));
    }
    let too_long = [
        "{% for i in range(99999) %}0123456789{{ '0123456789' }}{% endfor %}",
        "{{ 'a' * 2000000 }}",
        "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
    ];
    for template in too_long {
        assert_eq!(render(template), Err(ChatTemplateError::TooLong(1 << 20)), "{template}");
    }
    let refused = [
        "{% for a in range(10 ** 9) %}x{% endfor %}",
        "{{ '{:999999999}'.format(1) }}",
        "{{ '{:{}}'.format(1, 999999999) }}",
        "{{ 10 ** 100000000 }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{% macro m() %}{{ caller() }}{% endmacro %}{% macro n() %}{% call m() %}{{ n() }}{% endcall %}{% endmacro %}{{ n() }}",
    ];
    for template in refused {
        assert!(matches!(render(template), Err(ChatTemplateError::Failed(_))), "{template}");
    }
    // What is ended says nothing about the next time.
    let template = ChatTemplate::new(
        "{% for m in messages %}{% for i in range(99999) %}{% for i in range(m.n) %}{% endfor %}{% endfor %}{% endfor %}.",
        Vec::new(),
    );
    assert_eq!(template.render(&json!([{"n": 1000}]), false), Err(ChatTemplateError::Endless));
    assert_eq!(template.render(&json!([{"n": 0}]), false), Ok(".".to_owned()));
    Ok(())
}

/// Comparing these two lists takes 2^60 steps of one instruction.
fn not_begun_again() -> Result<(), Failed> {
    const PAIRS: &str = "{% for m in messages %}{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(m.n) %}\
                         {% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}{% endfor %}";
    let template = ChatTemplate::new(PAIRS, Vec::new());
    assert_eq!(template.render(&json!([{"n": 3}]), false), Ok("True".to_owned()));
    let start = Instant::now();
    assert_eq!(template.render(&json!([{"n": 60}]), false), Err(ChatTemplateError::Endless));
    assert_eq!(template.render(&json!([{"n": 3}]), false), Err(ChatTemplateError::Endless));
    assert!(start.elapsed() < Duration::from_secs(30));
    Ok(())
}

fn what_is_nested_deep_breaks_nothing() -> Result<(), Failed> {
    let long = |part: &str| part.repeat(65_000 / part.len());
    for template in [
        format!("{{{{ {}1 }}}}", long("(")),
        format!("{{{{ {}1 }}}}", long("[")),
        format!("{{{{ {}1 }}}}", long("-")),
        format!("{{{{ {}1 }}}}", long("not ")),
        format!("{{{{ 1{} }}}}", long("+1")),
        format!("{{{{ x{} }}}}", long(".a")),
        format!("{{{{ x{} }}}}", long("|e")),
        format!("{{{{ x{} }}}}", long("()")),
        format!("{{{{ {} 1 }}}}", long("1 if x else ")),
        format!("{{% if x %}}{}{{% endif %}}", long("{% elif x %}")),
        long("{% if x %}"),
        long("{% for x in [1] %}"),
        long("{#"),
        long("{% raw %}"),
        long("{{ '"),
        growing("1", "[ns.x]", ""),
        growing("1", "{'a': ns.x}", ""),
        growing("1", "[ns.x]", "{{ ns.x }}"),
        growing("1", "[ns.x]", "{{ ns.x == [ns.x] }}"),
        growing("1", "[ns.x]", "{{ ns.x | tojson }}"),
        growing("1", "[ns.x]", "{{ [ns.x, [ns.x]] | sort | unique | list | length }}"),
    ] {
        // Whatever it says: a stack that overflows ends this process.
        let _ = render(&template);
    }
    Ok(())
}

fn check<S: Strategy>(
    strategy: S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) -> Result<(), Failed> {
    let config = Config { cases: 1000, failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(&strategy, test).map_err(|error| error.to_string().into())
}

fn expect_no_panic(rendered: Result<String, ChatTemplateError>) -> Result<(), TestCaseError> {
    // A panic in the engine is caught, and is then this error.
    let panicked = rendered.is_err_and(|error| error.to_string().contains("a fault of the template engine"));
    prop_assert!(!panicked);
    Ok(())
}

fn any_text_is_a_template_or_an_error() -> Result<(), Failed> {
    let parts = [
        "{{ ",
        " }}",
        "{% ",
        " %}",
        "{%- ",
        " -%}",
        "{# ",
        " #}",
        "for m in messages",
        "endfor",
        "if ",
        "else",
        "endif",
        "set x = ",
        "m.content",
        "messages",
        "[0]",
        "[::-1]",
        "[-1:]",
        ".role",
        "|",
        "tojson",
        "trim",
        "(",
        ")",
        "'a'",
        "1",
        "loop.index0",
        "+",
        "~",
        "in",
        "not ",
        "is ",
        "defined",
        "string",
        "macro f(a=1)",
        "endmacro",
        "f(",
        "namespace(x=1)",
        "generation",
        "endgeneration",
        "raw",
        "endraw",
        ".split('",
        ".items()",
        ".format(",
        "'{:5}'",
        ", ",
        "**",
        "//",
        "%",
        "range(9)",
        "=",
        "é",
        "\n",
        "{",
        "}",
    ];
    let piece = prop_oneof![
        6 => prop::sample::select(parts.map(String::from).to_vec()),
        1 => any::<char>().prop_map(String::from),
    ];
    let texts = prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat());
    check(texts, |template| expect_no_panic(render(&template)))
}

fn any_messages_render_or_are_an_error() -> Result<(), Failed> {
    let template = ChatTemplate::new(
        "{% for m in messages %}{{ m.role }}{{ m | tojson(indent=1) }}{{ m.content | trim }}{{ m['content'][:3] }}{{ m.content.split() }}\
         {% if m.content is string %}{{ m.content.strip('a') }}{% endif %}{% endfor %}",
        Vec::new(),
    );
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let json = leaf.prop_recursive(4, 30, 5, |inner| {
        let name = prop_oneof![Just("role".to_owned()), Just("content".to_owned()), any::<String>()];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    });
    check(json, |messages| expect_no_panic(template.render(&messages, true)))
}

/// ChatML, with a system message of its own where there is none.
fn smollm2_renders_as_it_was_trained(path: &Path) -> Result<(), Failed> {
    let template = ChatTemplate::from_gguf(&Gguf::open(path)?)?.ok_or("no template")?;
    let hello = one_message();
    let default = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n";
    let turn = "<|im_start|>user\nHello<|im_end|>\n";
    assert_eq!(template.render(&hello, false)?, format!("{default}{turn}"));
    assert_eq!(template.render(&hello, true)?, format!("{default}{turn}<|im_start|>assistant\n"));
    let briefly = json!([{"role": "system", "content": "Be brief."}, hello[0]]);
    assert_eq!(template.render(&briefly, false)?, format!("<|im_start|>system\nBe brief.<|im_end|>\n{turn}"));
    Ok(())
}
