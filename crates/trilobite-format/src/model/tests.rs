use super::*;
use crate::{Metadata, Value};

pub(super) fn llama() -> Hyperparameters {
    Hyperparameters {
        arch: Architecture::Llama,
        vocab: 20,
        context: 64,
        hidden: 16,
        ffn: 24,
        layers: 3,
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
        rope_dim: 8,
        norm_eps: 1e-5,
        projection_norm_eps: None,
        rope: Rope::unscaled(10_000.0),
        window: None,
        experts: None,
        attention_scale: None,
        softcap: None,
        scales: Scales::NONE,
        pooling: None,
    }
}

pub(super) fn maple() -> Hyperparameters {
    let layers = vec![true, true, false];
    Hyperparameters {
        arch: Architecture::Maple,
        rope_dim: 4,
        window: Some(Window { tokens: 9, layers, rope_theta: 1e4 }),
        experts: Some(Experts { count: 6, used: 2, ffn: 12, clamp: vec![7.0, 6.5, 7.0] }),
        ..llama()
    }
}

fn yarn() -> Yarn {
    Yarn { factor: 4.0, original: 16, beta_fast: 32.0, beta_slow: 1.0, truncate: true }
}

/// The metadata of a file with this model.
fn metadata(model: &Hyperparameters) -> Metadata {
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", model.arch.name());
    model.describe(&mut metadata);
    metadata
}

/// Reads the metadata of the model above with the value of one key replaced or removed.
fn read(key: &str, value: Option<Value>) -> Result<Hyperparameters, String> {
    let mut metadata = metadata(&llama());
    match value {
        Some(value) => metadata.insert(format!("llama.{key}"), value),
        None => metadata.remove(&format!("llama.{key}")),
    }
    Hyperparameters::read(&metadata, None).map_err(|error| error.to_string())
}

#[track_caller]
fn refuses(key: &str, value: impl Into<Value>, part: &str) {
    let message = read(key, Some(value.into())).unwrap_err();
    assert!(message.contains(part), "{message:?} lacks {part:?}");
}

/// A hyperparameter that follows from a value is not shown in its place.
#[test]
fn an_error_shows_the_value_that_the_file_has() {
    refuses("attention.head_count", 0u32, "llama.attention.head_count is 0, expected an integer");
    let error = |model: &Hyperparameters, changes: &[(&str, Option<Value>)]| {
        let mut file = metadata(model);
        for (key, value) in changes {
            let key = format!("{}.{key}", model.arch.name());
            match value {
                Some(value) => file.insert(key, value.clone()),
                None => file.remove(&key),
            }
        }
        Hyperparameters::read(&file, None).unwrap_err().to_string()
    };
    let window = [("attention.sliding_window", Some(4_000_000_000u32.into()))];
    let found = error(&maple(), &window);
    assert!(found.contains("window is 4000000000, which means 4000000001, expected"), "{found}");
    let widths = ["attention.key_length", "attention.value_length"].map(|key| (key, None));
    let rotated = ("rope.dimension_count", Some(7u32.into()));
    let found = error(&llama(), &[widths[0].clone(), widths[1].clone(), rotated]);
    assert!(found.contains("llama.rope.dimension_count is 7, expected an even"), "{found}");
    let heads = ("attention.head_count", Some(Value::from(vec![0u32, 0, 0])));
    let found = error(&llama(), &[heads]);
    assert!(found.contains("which means 0, expected an integer from 1"), "{found}");
}

#[test]
fn what_is_described_is_read() {
    let scaled = |scaling, attention_factor| {
        let rope = Rope { theta: 5e5, scaling, attention_factor };
        Hyperparameters { rope, ..llama() }
    };
    let window = |layers: [bool; 3]| Window { tokens: 9, layers: layers.into(), rope_theta: 1e4 };
    let gemma = |layers| Hyperparameters {
        arch: Architecture::Gemma3,
        window: Some(window(layers)),
        attention_scale: Some(0.25),
        softcap: Some(30.0),
        ..llama()
    };
    let models = [
        llama(),
        Hyperparameters { arch: Architecture::BitNetB158, norm_eps: 0.0, ..llama() },
        scaled(Scaling::Linear { factor: 8.0 }, 1.0),
        scaled(Scaling::Yarn(yarn()), 1.25),
        scaled(Scaling::Yarn(Yarn { beta_fast: 8.0, truncate: false, ..yarn() }), 1.0),
        scaled(Scaling::LongRope { original: 16 }, 1.1),
        Hyperparameters { arch: Architecture::Qwen2, window: Some(window([true; 3])), ..llama() },
        Hyperparameters { arch: Architecture::Qwen3, pooling: Some(Pooling::Last), ..llama() },
        Hyperparameters {
            arch: Architecture::MiniCpm,
            projection_norm_eps: Some(1e-6),
            scales: Scales { embedding: 12.0, residual: 0.25, logits: 9.0 },
            ..llama()
        },
        Hyperparameters { arch: Architecture::Qwen3, ..scaled(Scaling::Yarn(yarn()), 1.25) },
        gemma([true, true, false]),
        gemma([true, false, true]),
        gemma([true; 3]),
        maple(),
        Hyperparameters { window: None, ..maple() },
        llama(),
    ];
    // Describing a model removes the keys of another.
    let mut file = Metadata::new();
    for model in models {
        file.insert("general.architecture", model.arch.name());
        model.describe(&mut file);
        assert_eq!(Hyperparameters::read(&file, None).unwrap(), model);
    }
}

#[test]
fn defaults_are_llama_cpp_s() {
    assert_eq!(read("rope.freq_base", None).unwrap().rope.theta, 10_000.0);
    assert_eq!(read("attention.head_count_kv", None).unwrap().kv_heads, 4);
    // The head width defaults to that of RoPE, then to the hidden width per head.
    assert_eq!(read("attention.key_length", None).unwrap().head_dim, 8);
    let mut narrow = metadata(&llama());
    for key in ["attention.key_length", "attention.value_length", "rope.dimension_count"] {
        narrow.remove(&format!("llama.{key}"));
    }
    assert_eq!(Hyperparameters::read(&narrow, None).unwrap().head_dim, 4);
    narrow.remove("llama.vocab_size");
    assert_eq!(Hyperparameters::read(&narrow, Some(7)).unwrap().vocab, 7);
    assert!(Hyperparameters::read(&narrow, None).is_err());
    narrow.insert("tokenizer.ggml.tokens", vec!["a".to_owned(), "b".to_owned()]);
    assert_eq!(Hyperparameters::read(&narrow, None).unwrap().vocab, 2);

    assert_eq!(read("attention.sliding_window", Some(0u32.into())).unwrap().window, None);
    assert_eq!(read("attention.sliding_window", Some(4u32.into())).unwrap().window, None);
    for key in ["rope.scaling.factor", "rope.scale_linear"] {
        assert_eq!(read(key, Some(0f32.into())).unwrap(), llama());
        let scaling = read(key, Some(2f32.into())).unwrap().rope.scaling;
        assert_eq!(scaling, Scaling::Linear { factor: 2.0 });
    }
    let mut unscaled = metadata(&llama());
    unscaled.insert("llama.rope.scaling.type", "none");
    unscaled.insert("llama.rope.scaling.factor", 2f32);
    assert_eq!(Hyperparameters::read(&unscaled, None).unwrap(), llama());
    // The original context defaults to the whole context.
    unscaled.insert("llama.rope.scaling.type", "yarn");
    let yarn = Yarn { factor: 2.0, original: 64, ..yarn() };
    let read = Hyperparameters::read(&unscaled, None).unwrap();
    assert_eq!(read.rope.scaling, Scaling::Yarn(yarn));
}

/// Reads the metadata of a Maple with the values of some keys replaced, or removed if `None`.
fn read_maple(changes: &[(&str, Option<Value>)]) -> Result<Hyperparameters, String> {
    let mut metadata = metadata(&maple());
    for (key, value) in changes {
        let key = format!("maple.{key}");
        match value {
            Some(value) => metadata.insert(key, value.clone()),
            None => metadata.remove(&key),
        }
    }
    Hyperparameters::read(&metadata, None).map_err(|error| error.to_string())
}

#[test]
fn both_dialects_of_maple_s_keys_are_read() {
    let (zero, four) = (Some(Value::from(0u32)), Some(Value::from(4u32)));
    let other = [
        ("rope.dimension_count", zero.clone()),
        ("rope.dimension_count_swa", four),
        ("expert_gating_func", Some(1u32.into())),
        ("expert_weights_norm", Some(true.into())),
        ("expert_weights_scale", Some(1f32.into())),
        ("expert_shared_count", zero.clone()),
        ("expert_group_count", Some(1u32.into())),
        ("expert_feed_forward_length", Some(vec![12u32; 3].into())),
        ("attention.sliding_window_pattern", Some(vec![1u32, 1, 0].into())),
    ];
    assert_eq!(read_maple(&other).unwrap(), maple());
    let clamps = |value| read_maple(&[("swiglu_clamp_exp", value)]).unwrap().experts.unwrap().clamp;
    assert_eq!(clamps(None), [7.0; 3]);
    assert_eq!(clamps(Some(5f32.into())), [5.0; 3]);
    for width in [None, zero] {
        assert_eq!(read_maple(&[("feed_forward_length", width)]).unwrap().ffn, 12);
    }
    // The number in the file does not count the current token.
    assert_eq!(metadata(&maple()).u32("maple.attention.sliding_window").unwrap(), Some(8));
}

#[test]
fn a_maple_that_would_be_computed_otherwise_is_refused() {
    for (key, value, part) in [
        ("rope.dimension_count", None, "maple.rope.dimension_count"),
        ("rope.dimension_count", Some(10u32.into()), "is 10, expected an even number from 2 to"),
        ("rope.dimension_count_swa", Some(6u32.into()), "is 6, expected 4, as in rope.dimension"),
        ("attention.sliding_window_pattern", None, "maple.attention.sliding_window_pattern"),
        ("attention.sliding_window_pattern", Some(3u32.into()), "sliding_window_pattern"),
        ("attention.sliding_window", None, "maple.attention.sliding_window"),
        ("attention.sliding_window", Some(0u32.into()), "maple.attention.sliding_window"),
        ("expert_count", None, "maple.expert_count"),
        ("expert_count", Some(0u32.into()), "is 0, expected an integer from 1 to"),
        ("expert_used_count", Some(7u32.into()), "is 7, expected an integer from 1 to 6"),
        ("expert_feed_forward_length", None, "maple.expert_feed_forward_length"),
        ("expert_gating_func", Some(2u32.into()), "is 2, expected 1, which is softmax"),
        ("expert_weights_norm", Some(false.into()), "is false, expected true"),
        ("expert_weights_scale", Some(2.5f32.into()), "is 2.5, expected 1"),
        ("expert_shared_count", Some(1u32.into()), "is 1, expected at most 0"),
        ("expert_group_count", Some(2u32.into()), "is 2, expected at most 1"),
        ("leading_dense_block_count", Some(1u32.into()), "is 1, expected at most 0"),
        ("expert_bias_count", Some(1u32.into()), "maple.expert_bias_count"),
        ("swiglu_clamp_exp", Some(vec![7f32; 2].into()), "is a list of 2, expected an entry"),
        ("swiglu_clamp_exp", Some(0f32.into()), "is 0, expected a positive number"),
    ] {
        let message = read_maple(&[(key, value)]).unwrap_err();
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

#[test]
fn a_size_may_be_listed_for_every_layer() {
    for (key, size) in
        [("attention.head_count", 4), ("attention.head_count_kv", 2), ("feed_forward_length", 24)]
    {
        assert_eq!(read(key, Some(vec![size; 3].into())).unwrap(), llama());
        assert_eq!(read(key, Some(vec![size as u64; 3].into())).unwrap(), llama());
        refuses(key, vec![size, size, 2 * size], "in layer 2, expected the same for all layers");
        refuses(key, vec![size; 2], "is a list of 2, expected an entry for each of 3 layers");
        refuses(key, vec![1.0f32; 3], "is array of 3 f32");
    }
    refuses("embedding_length", vec![16; 3], "is array of 3 i32");
    let mut windows = metadata(&llama());
    windows.insert("llama.attention.sliding_window", 4u32);
    windows.insert("llama.attention.sliding_window_pattern", vec![1u32, 0, 1]);
    let window = Hyperparameters::read(&windows, None).unwrap().window.unwrap();
    assert_eq!((window.tokens, window.layers), (4, vec![true, false, true]));
    windows.insert("llama.attention.sliding_window_pattern", 0u32);
    assert_eq!(Hyperparameters::read(&windows, None).unwrap().window.unwrap().layers, [true; 3]);
}

#[test]
fn numbers_that_cannot_be_run_are_refused() {
    for key in ["block_count", "embedding_length", "attention.head_count", "context_length"] {
        refuses(key, 0u32, "is 0, expected an integer from 1");
        refuses(key, u32::MAX, "is 4294967295, expected an integer from 1");
    }
    refuses("attention.head_count_kv", 3u32, "is 3, expected a divisor of the 4 query heads");
    for head_dim in [0, 7, 1 << 21] {
        let fault = Hyperparameters { head_dim, ..llama() }.check().unwrap_err();
        assert_eq!((fault.key, fault.found), ("attention.key_length", head_dim.to_string()));
    }
    refuses("attention.value_length", 4u32, "is 4, expected the head width 8");
    refuses("rope.dimension_count", 4u32, "is 4, expected the head width 8");
    refuses("attention.layer_norm_rms_epsilon", -1f32, "is -1, expected a finite number");
    refuses("attention.layer_norm_rms_epsilon", f32::NAN, "is NaN, expected a finite number");
    refuses("rope.freq_base", 0f32, "is 0, expected a positive number");
    refuses("rope.freq_base", 1e-38f32, "expected a base whose angles are finite");
    refuses("rope.scaling.factor", -1f32, "is -1, expected a positive number");
    refuses("attention.scale", f32::INFINITY, "is inf, expected a positive number");
    let message = read("context_length", None).unwrap_err();
    assert_eq!(message, "metadata key llama.context_length is missing");
}

#[test]
fn no_key_of_rope_is_ignored() {
    refuses("rope.scaling.type", "dynamic", "is \"dynamic\", expected none, linear, yarn or");
    refuses("rope.scaling.alpha", 2f32, "metadata key llama.rope.scaling.alpha is not supported");
    refuses("rope.dimension_sections", vec![1u32], "dimension_sections is not supported");
    refuses("rope.scaling.yarn_ext_factor", 0.5f32, "is 0.5, expected -1 or 1");
    refuses("rope.scaling.yarn_attn_factor", 2f32, "is 2, expected 1");
    refuses("rope.scaling.yarn_log_multiplier", 0.1f32, "is 0.1, expected 0");
    assert_eq!(read("rope.scaling.finetuned", Some(true.into())).unwrap(), llama());
    assert_eq!(read("rope.scaling.yarn_ext_factor", Some(1f32.into())).unwrap(), llama());
    let longrope = Rope { scaling: Scaling::LongRope { original: 16 }, ..llama().rope };
    let mut longrope = metadata(&Hyperparameters { rope: longrope, ..llama() });
    longrope.insert("llama.rope.scaling.factor", 4f32);
    let message = Hyperparameters::read(&longrope, None).unwrap_err().to_string();
    assert_eq!(message, "metadata key llama.rope.scaling.factor is 4, expected 1 for longrope");
    let yarn = Rope { theta: 1.0, scaling: Scaling::Yarn(yarn()), attention_factor: 1.0 };
    let fault = Hyperparameters { rope: yarn, ..llama() }.check().unwrap_err();
    assert_eq!((fault.key, fault.expected.as_str()), ("rope.freq_base", "above 1 for yarn"));
    let message = check_divisors("rope_freqs.weight", &[1.0, 0.0]).unwrap_err().to_string();
    assert!(message.contains("\"rope_freqs.weight\" holds 0 at element 1"), "{message}");
}

#[test]
fn special_ids_that_are_no_tokens_count_as_absent() {
    let mut metadata = Metadata::new();
    metadata.insert("tokenizer.ggml.bos_token_id", 1u32);
    metadata.insert("tokenizer.ggml.eos_token_id", u32::MAX);
    metadata.insert("tokenizer.ggml.padding_token_id", -1i32);
    metadata.insert("tokenizer.ggml.eot_token_id", 2u32);
    let ids = |metadata: &Metadata| {
        ["bos", "eos", "padding", "eot", "unknown"].map(|name| special_id(metadata, name).unwrap())
    };
    assert_eq!(ids(&metadata), [Some(1), None, None, Some(2), None]);
    metadata.insert("tokenizer.ggml.tokens", vec!["a".to_owned(), "b".to_owned()]);
    assert_eq!(ids(&metadata), [Some(1), None, None, None, None]);
    let stray: Vec<_> = stray_ids(&metadata).collect();
    assert_eq!(
        stray,
        [
            ("tokenizer.ggml.eos_token_id", 4_294_967_295),
            ("tokenizer.ggml.padding_token_id", -1),
            ("tokenizer.ggml.eot_token_id", 2),
        ]
    );
    metadata.insert("tokenizer.ggml.bos_token_id", "a");
    assert!(special_id(&metadata, "bos").is_err());
}

#[test]
fn token_kinds_have_their_numbers() {
    for (number, kind) in (1..).zip(TokenKind::ALL) {
        assert_eq!((kind.number(), TokenKind::of(number)), (number, kind));
    }
    assert_eq!(TokenKind::of(0), TokenKind::Normal);
    assert_eq!(TokenKind::of(7), TokenKind::Normal);
}

#[test]
fn the_outdated_template_of_bitnet_is_replaced_and_no_other() {
    let outdated = "{% for m in messages %}BITNETAssistant: {% endfor %}";
    assert_eq!(template_instead(outdated), Some(BITNET_TEMPLATE));
    assert_eq!(template_instead(BITNET_TEMPLATE), None);
}

#[test]
fn scores_are_divided_by_the_root_of_a_heads_width_but_for_gemma_27b() {
    let widths = |arch, layers| Hyperparameters { arch, layers, ..llama() }.scale_width();
    assert_eq!(widths(Architecture::Gemma3, 3), 8);
    assert_eq!(widths(Architecture::Gemma3, 62), 4);
    assert_eq!(widths(Architecture::Llama, 62), 8);
}

#[test]
fn pooling_is_one_of_four_kinds_or_unstated() {
    let pooling = |value: Value| read("pooling_type", Some(value)).map(|model| model.pooling);
    assert_eq!(pooling(3u32.into()), Ok(Some(Pooling::Last)));
    assert_eq!(pooling(0u32.into()), Ok(Some(Pooling::None)));
    assert_eq!(pooling(Value::I32(-1)), Ok(None));
    refuses("pooling_type", 4u32, "expected 0 (none), 1 (mean), 2 (cls) or 3 (last)");
    for pooling in Pooling::ALL {
        assert_eq!(pooling.name().parse::<Pooling>().ok(), Some(*pooling));
    }
}

#[test]
fn a_file_of_minicpm_without_factors_has_those_of_the_first_model() {
    let mut metadata = metadata(&Hyperparameters { arch: Architecture::MiniCpm, ..llama() });
    for key in ["embedding_scale", "residual_scale", "logit_scale"] {
        metadata.remove(&format!("minicpm.{key}"));
    }
    let scales = Hyperparameters::read(&metadata, None).unwrap().scales;
    let layers = 3.0f32;
    let expected = Scales { embedding: 12.0, residual: 1.4 / layers.sqrt(), logits: 16.0 / 256.0 };
    assert_eq!(scales, expected);
}
