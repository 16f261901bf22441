use runtime::request::Sampling;
use uuid::Uuid;

use crate::fields::{Bounds, Fields};
use crate::wire::Fault;

/// A body of `/execute` in which everything that can be checked without the engine is right.
#[derive(Debug)]
pub(crate) struct Execute {
    pub(crate) job_id: String,
    pub(crate) prompt: String,
    pub(crate) max_tokens: Option<u32>,
    pub(crate) sampling: Sampling,
    pub(crate) stop: Vec<String>,
}

const JOB_ID_CHARS: usize = 128;
pub(crate) const PROMPT_CHARS: usize = 32768;
pub(crate) const STOPS: usize = 4;
/// What `/execute` may be asked for, however much the operator allows.
pub(crate) const MAX_TOKENS: u32 = 2048;
const STOP_TOKENS: usize = 32;
/// Below it every logit that it divides is far above all others anyway, and soon infinite.
pub(crate) const LEAST_PENALTY: f32 = 1e-6;
/// More text than 32 tokens hold; keeps a hostile string from the tokenizer.
pub(crate) const STOP_CHARS: usize = 4096;

/// Checks a body of `/execute` against a vocabulary of `vocab` tokens and a completion of `most` at most; `encode` counts
/// the tokens of stop strings.
///
/// # Errors
/// All faults of the body.
pub(crate) fn execute(
    body: &[u8],
    vocab: usize,
    most: u32,
    encode: impl Fn(&str) -> Vec<u32>,
) -> Result<Execute, Vec<Fault>> {
    let mut fields = Fields::parse(body)?;
    let job_id = fields.text("job_id", JOB_ID_CHARS);
    let prompt = fields.text("prompt", PROMPT_CHARS);
    let max_tokens = fields.integer("max_tokens", 1..=u64::from(most));
    let temperature = fields.real("temperature", Bounds { min: 0.0, max: 2.0, open: false });
    let top_p = fields.real("top_p", Bounds { min: 0.0, max: 1.0, open: true });
    let top_k = fields.integer("top_k", 0..=u64::from(u32::try_from(vocab).unwrap_or(u32::MAX)));
    let min_p = fields.real("min_p", Bounds { min: 0.0, max: 1.0, open: false });
    let repetition_penalty = fields.real("repetition_penalty", Bounds { min: 0.0, max: 2.0, open: true });
    let seed = fields.integer("seed", 0..=u64::MAX);
    let stop = fields.texts("stop", STOPS, STOP_CHARS);
    check_stop(&mut fields, &stop, encode);
    fields.finish()?;

    let narrow = |value: u64| u32::try_from(value).expect("its range was checked");
    let sampling = Sampling {
        temperature: temperature.unwrap_or(1.0),
        top_p: top_p.unwrap_or(1.0),
        top_k: top_k.map_or(0, narrow),
        min_p: min_p.unwrap_or(0.0),
        repetition_penalty: repetition_penalty.map_or(1.0, |penalty| penalty.max(LEAST_PENALTY)),
        seed: seed.unwrap_or_else(draw_seed),
        ..Sampling::GREEDY
    };
    Ok(Execute { job_id, prompt, max_tokens: max_tokens.map(narrow), sampling, stop })
}

/// Notes stop strings of too many tokens.
pub(crate) fn check_stop(fields: &mut Fields, stop: &[String], encode: impl Fn(&str) -> Vec<u32>) {
    // Some tokenizers put tokens around every text; a stop string is matched without them.
    let around = encode("").len();
    for (index, text) in stop.iter().enumerate() {
        let tokens = encode(text).len().saturating_sub(around);
        if tokens > STOP_TOKENS {
            let message = format!("stop[{index}] has {tokens} tokens; at most {STOP_TOKENS} are allowed");
            fields.fault(Fault::new(format!("stop[{index}]"), format!("tokens(1..={STOP_TOKENS})"), message));
        }
    }
}

/// Checks a body of `/cancel` and returns its job id.
///
/// # Errors
/// All faults of the body.
pub(crate) fn cancel(body: &[u8]) -> Result<String, Vec<Fault>> {
    let mut fields = Fields::parse(body)?;
    let job_id = fields.text("job_id", JOB_ID_CHARS);
    fields.finish()?;
    Ok(job_id)
}

/// Below 2^53, so that a client which keeps numbers as doubles can send it back exactly.
pub(crate) fn draw_seed() -> u64 {
    // The low 53 bits of a UUID v4 are random; its version and variant lie above them.
    Uuid::new_v4().as_u128() as u64 & ((1 << 53) - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    const VOCAB: usize = 49152;
    const MOST: u32 = 2048;

    /// One token a character.
    fn check(body: &Value) -> Result<Execute, Vec<Fault>> {
        execute(body.to_string().as_bytes(), VOCAB, MOST, |text| text.chars().map(u32::from).collect())
    }

    /// A valid request with one more field.
    fn with(name: &str, value: Value) -> Value {
        let mut body = json!({"job_id": "j", "prompt": "p"});
        body[name] = value;
        body
    }

    fn constraints(body: &Value) -> Vec<(String, String)> {
        let faults = check(body).err().unwrap_or_default();
        faults.into_iter().map(|fault| (fault.field, fault.constraint)).collect()
    }

    #[test]
    fn absent_fields_and_nulls_take_the_defaults() {
        let full = json!({"job_id": "j", "prompt": "p", "max_tokens": null, "temperature": null, "top_p": null,
            "top_k": null, "min_p": null, "repetition_penalty": null, "stop": null, "seed": null});
        for body in [json!({"job_id": "j", "prompt": "p"}), full] {
            let execute = check(&body).unwrap();
            assert_eq!((execute.max_tokens, execute.stop.len()), (None, 0));
            let seed = execute.sampling.seed;
            assert!(seed < 1 << 53);
            assert_eq!(execute.sampling, Sampling { temperature: 1.0, seed, ..Sampling::GREEDY });
        }
    }

    #[test]
    fn a_penalty_that_would_make_logits_infinite_is_the_least_that_does_not() {
        for (given, taken) in [(1e-30, LEAST_PENALTY), (1e-6, LEAST_PENALTY), (0.5, 0.5), (2.0, 2.0)] {
            let execute = check(&with("repetition_penalty", json!(given))).unwrap();
            assert_eq!(execute.sampling.repetition_penalty, taken);
        }
    }

    #[test]
    fn a_drawn_seed_differs_from_request_to_request() {
        let body = json!({"job_id": "j", "prompt": "p"});
        assert_ne!(check(&body).unwrap().sampling.seed, check(&body).unwrap().sampling.seed);
    }

    #[test]
    fn each_broken_rule_is_named() {
        let cases = [
            ("job_id", json!(""), "job_id", "non_empty"),
            ("job_id", json!("é".repeat(129)), "job_id", "length(1..=128)"),
            ("job_id", json!(7), "job_id", "type(string)"),
            ("job_id", json!(null), "job_id", "required"),
            ("prompt", json!(""), "prompt", "non_empty"),
            ("prompt", json!("é".repeat(32769)), "prompt", "length(1..=32768)"),
            ("prompt", json!([1, 2]), "prompt", "type(string)"),
            ("max_tokens", json!(0), "max_tokens", "range(1..=2048)"),
            ("max_tokens", json!(2049), "max_tokens", "range(1..=2048)"),
            ("max_tokens", json!(-1), "max_tokens", "range(1..=2048)"),
            ("max_tokens", json!(1.5), "max_tokens", "range(1..=2048)"),
            ("max_tokens", json!("9"), "max_tokens", "type(integer)"),
            ("temperature", json!(-0.1), "temperature", "range(0.0..=2.0)"),
            ("temperature", json!(2.1), "temperature", "range(0.0..=2.0)"),
            ("temperature", json!("NaN"), "temperature", "type(number)"),
            ("top_p", json!(0), "top_p", "range(0.0<..=1.0)"),
            ("top_p", json!(1e-300), "top_p", "range(0.0<..=1.0)"),
            ("top_p", json!(1.01), "top_p", "range(0.0<..=1.0)"),
            ("top_k", json!(49153), "top_k", "range(0..=49152)"),
            ("min_p", json!(1.5), "min_p", "range(0.0..=1.0)"),
            ("repetition_penalty", json!(0), "repetition_penalty", "range(0.0<..=2.0)"),
            ("repetition_penalty", json!(2.5), "repetition_penalty", "range(0.0<..=2.0)"),
            ("seed", json!(-1), "seed", "range(0..=18446744073709551615)"),
            ("seed", json!(true), "seed", "type(integer)"),
            ("stop", json!("x"), "stop", "type(array)"),
            ("stop", json!(["a", "b", "c", "d", "e"]), "stop", "length(0..=4)"),
            ("stop", json!(["a", ""]), "stop[1]", "non_empty"),
            ("stop", json!([1]), "stop[0]", "type(string)"),
            ("stop", json!(["x".repeat(33)]), "stop[0]", "tokens(1..=32)"),
            ("stop", json!(["x".repeat(4097)]), "stop[0]", "length(1..=4096)"),
            ("max_token", json!(3), "max_token", "known_field"),
        ];
        for (name, value, field, constraint) in cases {
            let found = constraints(&with(name, value.clone()));
            assert_eq!(found, [(field.to_owned(), constraint.to_owned())], "{name}: {value}");
        }
    }

    #[test]
    fn a_stop_string_is_named_by_its_own_index() {
        let faults = constraints(&with("stop", json!(["", "fine", "x".repeat(33)])));
        assert_eq!(
            faults.iter().map(|(field, _)| field.as_str()).collect::<Vec<_>>(),
            ["stop[0]", "stop[2]"]
        );
    }

    #[test]
    fn tokens_around_a_text_do_not_count_against_stop_strings() {
        let marked = |text: &str| [0].into_iter().chain(text.chars().map(u32::from)).collect();
        let body = |length| with("stop", json!(["x".repeat(length)])).to_string();
        assert!(execute(body(32).as_bytes(), VOCAB, MOST, marked).is_ok());
        assert!(execute(body(33).as_bytes(), VOCAB, MOST, marked).is_err());
    }

    #[test]
    fn the_ends_of_each_range_are_allowed() {
        let cases = [
            ("job_id", json!("é".repeat(128))),
            ("prompt", json!("é".repeat(32768))),
            ("max_tokens", json!(1)),
            ("max_tokens", json!(2048)),
            ("temperature", json!(0)),
            ("temperature", json!(2)),
            ("top_p", json!(1e-9)),
            ("top_p", json!(1)),
            ("top_k", json!(0)),
            ("top_k", json!(49152)),
            ("min_p", json!(1)),
            ("repetition_penalty", json!(2)),
            ("seed", json!(u64::MAX)),
            ("stop", json!(["x".repeat(32), "b", "c", "d"])),
        ];
        for (name, value) in cases {
            assert_eq!(constraints(&with(name, value.clone())), [], "{name}: {value}");
        }
    }

    #[test]
    fn what_is_not_a_json_object_is_a_fault_of_the_body() {
        let deep = "[".repeat(100_000);
        for text in [
            "",
            "{",
            "NaN",
            r#"{"temperature": NaN}"#,
            r#"{"seed": 1e999}"#,
            r#"{"prompt": "\ud800"}"#,
            &deep,
        ] {
            let faults = execute(text.as_bytes(), VOCAB, MOST, |_| vec![]).unwrap_err();
            assert_eq!((faults[0].field.as_str(), faults[0].constraint.as_str()), ("body", "valid_json"));
        }
        let faults = execute(b"\"\xff\"", VOCAB, MOST, |_| vec![]).unwrap_err();
        assert_eq!(faults[0].constraint, "valid_json");
        assert_eq!(constraints(&json!([1])), [("body".to_owned(), "type(object)".to_owned())]);
    }

    #[test]
    fn no_fault_echoes_text() {
        let secret = "s3cret".repeat(6000);
        let body =
            json!({"job_id": 1, "prompt": &secret, "promt": &secret, "seed": &secret, "stop": [&secret]});
        let told = serde_json::to_string(&check(&body).unwrap_err()).unwrap();
        assert!(!told.contains("s3cret"), "{told:.300}");
    }

    /// Any JSON, a few levels deep.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            (-1.0..3.0f64).prop_map(Value::from),
            (0..3000u64).prop_map(Value::from),
            ".{0,40}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::hash_map(".{0,8}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// An object under the names that the request knows, and some that it does not.
    fn any_request() -> impl Strategy<Value = Map<String, Value>> {
        let name = prop::sample::select(vec![
            "job_id",
            "prompt",
            "max_tokens",
            "temperature",
            "top_p",
            "top_k",
            "min_p",
            "repetition_penalty",
            "stop",
            "seed",
            "n",
        ]);
        prop::collection::vec((name, any_json()), 0..11).prop_map(|fields| {
            let mut body = Map::new();
            body.insert("job_id".to_owned(), json!("j"));
            body.insert("prompt".to_owned(), json!("p"));
            body.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
            body
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(body in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Err(faults) = execute(&body, VOCAB, MOST, |_| vec![]) {
                prop_assert!(!faults.is_empty());
            }
        }

        #[test]
        fn an_accepted_request_is_within_its_ranges(body in any_request()) {
            if let Ok(request) = check(&Value::Object(body)) {
                prop_assert!((1..=128).contains(&request.job_id.chars().count()));
                prop_assert!((1..=32768).contains(&request.prompt.chars().count()));
                prop_assert!(request.max_tokens.is_none_or(|n| (1..=2048).contains(&n)));
                let Sampling { temperature, top_p, top_k, min_p, repetition_penalty, .. } = request.sampling;
                prop_assert!((0.0..=2.0).contains(&temperature));
                prop_assert!(top_p > 0.0 && top_p <= 1.0);
                prop_assert!(top_k as usize <= VOCAB);
                prop_assert!((0.0..=1.0).contains(&min_p));
                prop_assert!(repetition_penalty > 0.0 && repetition_penalty <= 2.0);
                prop_assert!(request.stop.len() <= 4);
                prop_assert!(request.stop.iter().all(|text| (1..=32).contains(&text.chars().count())));
            }
        }

        // The faults of a whole are the faults of its fields, each taken alone.
        #[test]
        fn no_fault_hides_another(body in any_request()) {
            let mut alone: Vec<_> =
                body.iter().flat_map(|(name, value)| constraints(&with(name, value.clone()))).collect();
            let mut together = constraints(&Value::Object(body));
            alone.sort();
            together.sort();
            prop_assert_eq!(together, alone);
        }
    }
}
