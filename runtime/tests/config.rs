//! What metadata make of a model, and which of them are refused by name.

#[allow(dead_code, reason = "other tests use the rest of it")]
mod draft;

use draft::Draft;
use runtime::model::config::{Mixture, ModelConfig, Pairing, Scaling};

/// A header with all that an architecture needs, and no tensor but the embedding.
fn header(architecture: &str) -> Draft {
    let key = |name: &str| format!("{architecture}.{name}");
    let norm = if architecture == "gpt2" { "layer_norm_epsilon" } else { "layer_norm_rms_epsilon" };
    let mut draft = Draft::default()
        .text("general.architecture", architecture)
        .key(&key(&format!("attention.{norm}")), 6, 1e-5f32.to_le_bytes())
        .tensor("token_embd.weight", &[32, 4], 0, 0)
        .data(32 * 4 * 4);
    for (name, value) in [
        ("block_count", 1),
        ("embedding_length", 32),
        ("feed_forward_length", 64),
        ("attention.head_count", 2),
        ("context_length", 4096),
    ] {
        draft = draft.u32(&key(name), value);
    }
    draft
}

/// A value of metadata.
#[derive(Clone, Copy)]
enum Field {
    Flag(bool),
    Size(u32),
    Number(f32),
    Text(&'static str),
}

/// Fields by their names.
type Fields<'a> = &'a [(&'a str, Field)];

use Field::{Flag, Number, Size, Text};

/// The configuration with these fields beside the others, or why there is none.
fn config(architecture: &str, fields: Fields<'_>) -> Result<ModelConfig, String> {
    let mut draft = header(architecture);
    for &(name, field) in fields {
        let key = format!("{architecture}.{name}");
        draft = match field {
            Flag(flag) => draft.key(&key, 7, [u8::from(flag)]),
            Size(size) => draft.u32(&key, size),
            Number(number) => draft.key(&key, 6, number.to_le_bytes()),
            Text(text) => draft.text(&key, text),
        };
    }
    ModelConfig::from_gguf(&draft.open()?).map_err(|error| error.to_string())
}

#[test]
fn an_architecture_says_how_its_heads_turn() {
    for (architecture, pairing, rotated) in [
        ("llama", Pairing::Interleaved, 16),
        ("qwen2", Pairing::SplitHalf, 16),
        ("qwen3", Pairing::SplitHalf, 16),
        ("phi3", Pairing::SplitHalf, 16),
        ("gpt2", Pairing::SplitHalf, 0),
    ] {
        let config = config(architecture, &[]).expect(architecture);
        assert_eq!((config.rope.pairing, config.rope.rotated), (pairing, rotated), "{architecture}");
        assert_eq!((config.window, config.epsilon), (0, 1e-5), "{architecture}");
    }
}

#[test]
fn an_unknown_architecture_is_refused_with_those_that_are_known() {
    let error = config("mamba", &[]).expect_err("a refusal");
    let parts = ["\"mamba\"", "llama, qwen2, qwen3, phi3, gpt2"];
    assert!(parts.iter().all(|part| error.contains(part)), "{error}");
}

#[test]
fn scalings_of_rope_are_read() {
    let scaled = |fields: Fields<'_>| {
        let rope = config("qwen2", fields).expect("a configuration").rope;
        (rope.scaling, rope.magnitude)
    };
    let (kind, factor) = ("rope.scaling.type", "rope.scaling.factor");
    assert_eq!(scaled(&[]), (Scaling::Linear { factor: 1.0 }, 1.0));
    assert_eq!(scaled(&[(factor, Number(4.0))]), (Scaling::Linear { factor: 4.0 }, 1.0));
    assert_eq!(
        scaled(&[(kind, Text("none")), (factor, Number(4.0))]),
        (Scaling::Linear { factor: 1.0 }, 1.0)
    );
    assert_eq!(
        scaled(&[(kind, Text("linear")), ("rope.scale_linear", Number(2.0))]),
        (Scaling::Linear { factor: 2.0 }, 1.0)
    );
    let original = ("rope.scaling.original_context_length", Size(1024));
    let magnitude = ("rope.scaling.attn_factor", Number(1.25));
    assert_eq!(
        scaled(&[(kind, Text("longrope")), original, magnitude]),
        (Scaling::Long { original: 1024 }, 1.25)
    );
    let (yarn, magnitude) = scaled(&[(kind, Text("yarn")), (factor, Number(4.0)), original]);
    let of =
        |truncate| Scaling::Yarn { factor: 4.0, original: 1024.0, beta_fast: 32.0, beta_slow: 1.0, truncate };
    assert_eq!(yarn, of(true));
    let exact = ("rope.scaling.yarn_truncate", Flag(false));
    assert_eq!(scaled(&[(kind, Text("yarn")), (factor, Number(4.0)), original, exact]).0, of(false));
    assert!((magnitude - 1.138_629_436_111_989).abs() < 1e-15, "{magnitude}");
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    let yarn = ("rope.scaling.type", Text("yarn"));
    let cases: &[(&str, Fields<'_>, &str)] = &[
        ("llama", &[("rope.scaling.type", Text("cubic"))], "llama.rope.scaling.type: \"cubic\""),
        ("qwen2", &[yarn, ("rope.scaling.yarn_ext_factor", Number(0.5))], "yarn_ext_factor: 0.5"),
        ("qwen2", &[yarn, ("rope.scaling.yarn_truncate", Size(0))], "yarn_truncate"),
        ("qwen2", &[yarn, ("rope.scaling.yarn_log_multiplier", Number(0.1))], "yarn_log_multiplier: 0.1"),
        ("qwen2", &[("rope.scaling.factor", Number(-2.0))], "qwen2.rope.scaling.factor: -2"),
        ("phi3", &[("rope.scaling.attn_factor", Number(0.0))], "phi3.rope.scaling.attn_factor: 0"),
        ("phi3", &[("rope.freq_base", Number(f32::NAN))], "phi3.rope.freq_base: NaN"),
        ("llama", &[("rope.dimension_count", Size(7))], "llama.rope.dimension_count: 7"),
        ("qwen3", &[("expert_count", Size(8))], "qwen3.expert_count: a mixture of 8"),
        (
            "qwen2",
            &[("attention.sliding_window", Size(64))],
            "qwen2.attention.sliding_window: a window of 64",
        ),
        ("llama", &[("residual_scale", Number(0.5))], "llama.residual_scale: is not supported"),
        ("qwen3", &[("attention.causal", Flag(false))], "qwen3.attention.causal: only causal"),
        (
            "llama",
            &[("attention.sliding_window", Size(64)), ("attention.sliding_window_pattern", Size(2))],
            "llama.attention.sliding_window_pattern: is not supported",
        ),
        ("gpt2", &[("attention.sliding_window", Size(64))], "gpt2.attention.sliding_window: a window of 64"),
    ];
    for (architecture, fields, part) in cases {
        let error = config(architecture, fields).expect_err(part);
        assert!(error.contains(part) && !error.contains('\n'), "{error}");
    }
}

/// What a gpt-oss needs beside what all do.
const MIXTURE: [(&str, Field); 4] = [
    ("expert_count", Size(8)),
    ("expert_used_count", Size(4)),
    ("expert_feed_forward_length", Size(48)),
    ("attention.sliding_window", Size(64)),
];

#[test]
fn a_mixture_is_read_with_its_windows() {
    let config = |fields: Fields<'_>| config("gpt-oss", &[&MIXTURE, fields].concat());
    for fields in
        [&[][..], &[("attention.sliding_window_pattern", Size(2))], &[("expert_gating_func", Size(3))]]
    {
        let config = config(fields).expect("a configuration");
        assert_eq!(config.mixture, Some(Mixture { experts: 8, used: 4, feed_forward: 48 }));
        assert_eq!([0, 1, 2, 3].map(|layer| config.window_of(layer)), [Some(64), None, Some(64), None]);
        assert_eq!((config.rope.pairing, config.rope.rotated), (Pairing::SplitHalf, 16));
    }
    for (field, part) in [
        (("expert_shared_count", Size(1)), "gpt-oss.expert_shared_count: 1"),
        (("expert_gating_func", Size(2)), "gpt-oss.expert_gating_func: 2"),
        (("attention.sliding_window_pattern", Size(3)), "gpt-oss.attention.sliding_window_pattern: 3"),
    ] {
        let error = config(&[field]).expect_err(part);
        assert!(error.contains(part) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_mixture_lacks_nothing_and_uses_no_more_than_there_is() {
    for (i, (name, _)) in MIXTURE.into_iter().enumerate() {
        let mut fields = MIXTURE.to_vec();
        fields.remove(i);
        let error = config("gpt-oss", &fields).expect_err(name);
        assert!(error.contains(&format!("gpt-oss.{name}")), "{error}");
        fields.insert(i, (name, Size(0)));
        let error = config("gpt-oss", &fields).expect_err(name);
        assert!(error.contains(&format!("gpt-oss.{name}: 0 is no size")), "{error}");
    }
    for (at, value, part) in [(1, 9, "expert_used_count: 9 of 8"), (0, 513, "expert_count: 513; up to 512")] {
        let mut fields = MIXTURE.to_vec();
        fields[at].1 = Size(value);
        let error = config("gpt-oss", &fields).expect_err(part);
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_window_is_that_of_every_layer_or_none_that_a_position_reaches() {
    let window = |architecture, size| {
        config(architecture, &[("attention.sliding_window", Size(size))]).map(|config| config.window)
    };
    for architecture in ["llama", "phi3"] {
        assert_eq!([0, 64, 4095, 4096].map(|size| window(architecture, size)), [0, 64, 4095, 0].map(Ok));
    }
    assert_eq!(window("qwen2", 4096), Ok(0));
    config("qwen3", &[("attention.causal", Flag(true))]).expect("what all do");
}

/// The configuration of a header with one field of another value.
fn altered(architecture: &str, field: &str, ty: u32, value: [u8; 4]) -> Result<ModelConfig, String> {
    let key = format!("{architecture}.{field}");
    let draft = header(architecture).with(&key, ty, value);
    ModelConfig::from_gguf(&draft.open()?).map_err(|error| error.to_string())
}

#[test]
fn a_context_has_a_size_that_its_angles_have_room_for() {
    let context = |size: u32| altered("llama", "context_length", 4, size.to_le_bytes());
    assert_eq!(context(1 << 24).expect("the greatest").context, 1 << 24);
    for size in [(1 << 24) + 1, u32::MAX] {
        let error = context(size).expect_err("a refusal");
        assert!(error.contains(&format!("llama.context_length: {size} is over 16777216")), "{error}");
    }
}

#[test]
fn an_epsilon_is_a_number_above_zero() {
    for (architecture, field) in
        [("llama", "attention.layer_norm_rms_epsilon"), ("gpt2", "attention.layer_norm_epsilon")]
    {
        for (value, problem) in [
            (f32::NAN, "NaN is not a number to use"),
            (f32::INFINITY, "inf is not a number to use"),
            (-1e-5, "is not above zero"),
            (0.0, "0 is not above zero"),
        ] {
            let error = altered(architecture, field, 6, value.to_le_bytes()).expect_err(problem);
            assert!(
                error.contains(&format!("{architecture}.{field}: ")) && error.contains(problem),
                "{error}"
            );
        }
    }
}

#[test]
fn a_part_of_a_model_is_told_to_be_merged() {
    let split = |draft: Draft, no: u16, count: u16| {
        let draft = draft.key("split.no", 2, no.to_le_bytes()).key("split.count", 2, count.to_le_bytes());
        ModelConfig::from_gguf(&draft.open()?).map_err(|error| error.to_string())
    };
    // Only the first part says what the model is.
    for (draft, no) in [(header("llama"), 0), (Draft::default(), 2)] {
        let error = split(draft, no, 3).expect_err("a refusal");
        let told = format!("split.count: this is part {} of 3; merge the parts", no + 1);
        assert!(error.contains(&told) && error.contains("llama-gguf-split --merge"), "{error}");
    }
    split(header("llama"), 0, 1).expect("a whole model");
}
