//! Defaults, RoPE and windows of config.json.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use trilobite_format::model::{Hyperparameters, Scaling, Yarn};
use trilobite_format::{Gguf, Metadata};

use super::defaults::{BITNET, Defaults, GEMMA3, LLAMA, QWEN2, QWEN3};
use crate::Options;
use crate::testing::*;

/// The defaults of transformers' classes, recorded by `models/golden/configs.py`.
const RECORDED: &str = include_str!("../../../../../models/golden/configs/defaults.json");

fn recorded() -> BTreeMap<String, Map<String, Value>> {
    serde_json::from_str(RECORDED).unwrap()
}

fn metadata(tiny: &Tiny) -> Metadata {
    Gguf::parse(&tiny.converted()).unwrap().metadata().clone()
}

fn read(tiny: &Tiny) -> Hyperparameters {
    Hyperparameters::read(&metadata(tiny), None).unwrap()
}

fn notes(tiny: &Tiny) -> String {
    tiny.convert(&Options::default()).unwrap().1.notes.join("\n")
}

fn set(tiny: &mut Tiny, keys: Value) {
    tiny.config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
}

#[test]
fn defaults_are_those_that_transformers_has() {
    let classes: [(&str, &Defaults); 5] = [
        ("Llama", &LLAMA),
        ("BitNet", &BITNET),
        ("Qwen2", &QWEN2),
        ("Qwen3", &QWEN3),
        ("Gemma3Text", &GEMMA3),
    ];
    let recorded = recorded();
    assert_eq!(recorded.len(), classes.len());
    for (name, defaults) in classes {
        let Defaults { hidden, heads, kv_heads, head_dim, .. } = *defaults;
        let ours = json!({
            "vocab_size": defaults.vocab,
            "hidden_size": hidden,
            "intermediate_size": defaults.ffn,
            "num_hidden_layers": defaults.layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads.unwrap_or(heads),
            "max_position_embeddings": defaults.context,
            "activation": defaults.activation,
            "tie_word_embeddings": defaults.tied,
        });
        let theirs = &recorded[name];
        for (key, value) in ours.as_object().unwrap() {
            assert_eq!(&theirs[key], value, "{name} {key}");
        }
        // One side is f32, the other f64.
        for (key, value) in
            [("rms_norm_eps", defaults.norm_eps), ("rope_theta", defaults.rope_theta)]
        {
            assert_eq!(theirs[key].as_f64().unwrap() as f32, value, "{name} {key}");
        }
        let width = head_dim.unwrap_or(hidden / heads);
        assert!(theirs["head_dim"].is_null() || theirs["head_dim"] == json!(width), "{name}");
    }
}

/// An absent key gives the same file, or the same error, as a key with the default value.
#[test]
fn a_key_that_is_absent_or_null_has_its_default() {
    for (tiny, name) in [
        (Tiny::llama(), "Llama"),
        (Tiny::bitnet(), "BitNet"),
        (Tiny::qwen2(), "Qwen2"),
        (Tiny::qwen3(), "Qwen3"),
        (Tiny::gemma3(), "Gemma3Text"),
    ] {
        let mut converted = 0;
        // Llama's head width is derived from the other sizes.
        let derived = |key: &str| name == "Llama" && key == "head_dim";
        for (key, default) in recorded()[name].iter().filter(|(key, _)| !derived(key)) {
            let key = match (key.as_str(), name) {
                ("activation", "Gemma3Text") => "hidden_activation",
                ("activation", _) => "hidden_act",
                (key, _) => key,
            };
            let with = |value: Option<&Value>| {
                let mut tiny = tiny.clone();
                match value {
                    Some(value) => tiny.config[key] = value.clone(),
                    None => drop(tiny.config.as_object_mut().unwrap().remove(key)),
                }
                tiny.convert(&Options::default()).map(|(file, _)| file)
            };
            let (without, stated) = (with(None), with(Some(default)));
            converted += usize::from(stated.is_ok());
            match (without, stated) {
                (Ok(without), Ok(stated)) => assert!(without == stated, "{name} {key}"),
                (without, stated) => assert!(without.is_err() && stated.is_err(), "{name} {key}"),
            }
            // null means as many key and value heads as heads, and no window.
            if !matches!(key, "num_key_value_heads" | "sliding_window" | "tie_word_embeddings") {
                assert_eq!(with(Some(&Value::Null)).ok(), with(None).ok(), "{name} {key}");
            }
        }
        assert!(converted >= 5, "{name}: {converted}");
    }
}

#[test]
fn null_is_none_where_that_is_something_else_than_the_default() {
    let mut heads = Tiny::bitnet();
    heads.config["num_attention_heads"] = json!(1);
    heads.config["head_dim"] = json!(8);
    heads.config["num_key_value_heads"] = json!(null);
    contains(&heads.error(), "q_proj.weight has shape [4, 16], expected [2, 16]");
    heads.config.as_object_mut().unwrap().remove("num_key_value_heads");
    contains(
        &heads.error(),
        "`num_key_value_heads` is 5 where it is not stated, expected a divisor of the 1 query heads",
    );

    let mut qwen2 = Tiny::qwen2();
    set(&mut qwen2, json!({"use_sliding_window": true, "max_window_layers": 0}));
    assert_eq!(read(&qwen2).window.unwrap().tokens, 4096);
    qwen2.config["sliding_window"] = json!(null);
    assert_eq!(read(&qwen2).window, None);
    qwen2.config["layer_types"] = json!(["sliding_attention"]);
    contains(&qwen2.error(), "`sliding_window` is missing, expected a number of tokens");
    set(&mut qwen2, json!({"use_sliding_window": false, "sliding_window": 8}));
    contains(&qwen2.error(), "`use_sliding_window` is false, expected true");
    let mut gemma3 = Tiny::gemma3();
    gemma3.config["sliding_window"] = json!(null);
    contains(&gemma3.error(), "`sliding_window` is missing, expected a number of tokens");
}

/// A hyperparameter that follows from a value is not shown in its place.
#[test]
fn an_error_shows_the_value_that_the_file_has() {
    let maple = json!({"sliding_window": 4_000_000_000u32});
    let norm = json!({"quantization_config": {"quant_method": "bitnet", "use_rms_norm": true,
        "rms_norm_eps": -1e-6}});
    for (mut tiny, keys, part) in [
        (
            Tiny::maple(),
            json!({"partial_rotary_factor": 0.05}),
            "`partial_rotary_factor` is 0.05, which means 3, expected an even number from 2 to",
        ),
        (
            Tiny::maple(),
            maple,
            "`sliding_window` is 4000000000, which means 4000000001, expected an integer",
        ),
        (
            Tiny::llama(),
            json!({"num_attention_heads": 0}),
            "`num_attention_heads` is 0, expected an integer from 1 to 65536",
        ),
        (Tiny::bitnet(), norm, "`quantization_config.rms_norm_eps` is -1e-6, expected a finite"),
        (
            Tiny::llama(),
            json!({"rope_parameters": {"rope_theta": 1e-38}, "rope_theta": 5.0}),
            "`rope_parameters.rope_theta` is 1e-38, expected a base whose angles are finite",
        ),
        (Tiny::llama(), json!({"head_dim": 7}), "`head_dim` is 7, expected an even number"),
    ] {
        set(&mut tiny, keys);
        contains(&tiny.error(), part);
    }
}

#[test]
fn sub_norms_go_with_either_activation() {
    let mut tiny = Tiny::bitnet();
    for (activation, name) in [("relu2", "bitnet-b1.58"), ("silu", "bitnet"), ("swish", "bitnet")] {
        tiny.config["hidden_act"] = json!(activation);
        assert_eq!(metadata(&tiny).str("general.architecture").unwrap(), Some(name));
    }
}

#[test]
fn both_dialects_of_rope_are_read() {
    let mut tiny = Tiny::llama();
    let plain = tiny.converted();
    set(&mut tiny, json!({"rope_scaling": null, "rope_parameters": {}}));
    assert_eq!(tiny.converted(), plain);
    tiny.config.as_object_mut().unwrap().remove("rope_theta");
    tiny.config["rope_parameters"] = json!({"rope_theta": 10000, "rope_type": "default"});
    assert_eq!(tiny.converted(), plain);

    tiny.config["rope_parameters"] = json!({"rope_theta": 10000.0, "rope_type": "llama3",
        "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 1024});
    let file = tiny.converted();
    // Wavelengths of 2 pi * 10000^(i / 4): 6.3 and 62.8 are kept (below 256), 628 is interpolated,
    // 6283 is divided by the factor.
    let smooth = (1024.0 / 628.3185 - 1.0) / 3.0;
    let expected = [1.0, 1.0, 1.0 / ((1.0 - smooth) / 8.0 + smooth), 8.0];
    for (found, expected) in dense(&file, "rope_freqs.weight").into_iter().zip(expected) {
        assert!((found - expected as f32).abs() < 1e-5, "{found} {expected}");
    }
}

/// The keys are llama.cpp's, so it computes the same.
#[test]
fn yarn_is_written_as_llama_cpp_reads_it() {
    let mut tiny = Tiny::llama();
    tiny.config["rope_scaling"] =
        json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16});
    let file = metadata(&tiny);
    assert_eq!(file.str("llama.rope.scaling.type").unwrap(), Some("yarn"));
    assert_eq!(file.f32("llama.rope.scaling.factor").unwrap(), Some(4.0));
    assert_eq!(file.u32("llama.rope.scaling.original_context_length").unwrap(), Some(16));
    let scaling = file.iter().filter(|(key, _)| key.contains("rope.scaling")).count();
    assert_eq!(scaling, 3, "the usual betas and factor are not written");
    // transformers states the whole attention factor; the output states it relative to
    // 1 + 0.1 ln 4.
    set(
        &mut tiny,
        json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "beta_fast": 16,
            "attention_factor": 1.5, "truncate": false, "original_max_position_embeddings": 16}}),
    );
    let rope = read(&tiny).rope;
    assert!((rope.attention_factor - 1.5 / 1.138_629_4).abs() < 1e-6);
    let (beta_fast, beta_slow, truncate) = (16.0, 1.0, false);
    let yarn = Yarn { factor: 4.0, original: 16, beta_fast, beta_slow, truncate };
    assert_eq!(rope.scaling, Scaling::Yarn(yarn));
    // The original context length, where it is stated.
    assert_eq!(read(&tiny).context, 64);
    tiny.config["max_position_embeddings"] = json!(16);
    assert_eq!(read(&tiny).context, 64);
    set(&mut tiny, json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}));
    assert_eq!(read(&tiny).context, 16);
}

#[test]
fn longrope_is_two_tensors() {
    let mut tiny = Tiny::llama();
    tiny.config["rope_scaling"] = json!({"type": "longrope", "short_factor": [1, 1.5, 2, 2.5],
        "long_factor": [1, 2, 3, 4.5], "original_max_position_embeddings": 16});
    let (file, rope) = (tiny.converted(), read(&tiny).rope);
    assert_eq!(dense(&file, "rope_factors_short.weight"), [1.0, 1.5, 2.0, 2.5]);
    assert_eq!(dense(&file, "rope_factors_long.weight"), [1.0, 2.0, 3.0, 4.5]);
    assert_eq!(rope.scaling, Scaling::LongRope { original: 16 });
    // sqrt(1 + ln(64 / 16) / ln 16)
    assert!((rope.attention_factor - 1.5f32.sqrt()).abs() < 1e-6);
}

#[test]
fn what_has_no_effect_is_said() {
    let mut tiny = Tiny::llama();
    let plain = tiny.converted();
    tiny.config["rope_scaling"] = json!({"type": "dynamic", "factor": 4.0, "alpha": 1000});
    assert_eq!(tiny.converted(), plain);
    let said = notes(&tiny);
    contains(&said, "dynamic RoPE scaling begins beyond 64 tokens, where the context ends");
    contains(&said, "config.json: `rope_scaling.alpha` has no effect on RoPE of type dynamic");
    tiny.config["rope_scaling"] = json!({"rope_type": "default", "factor": 4.0});
    contains(&notes(&tiny), "`rope_scaling.factor` has no effect on RoPE of type default");
    tiny.config["rope_parameters"] = json!({"rope_theta": 5e5});
    contains(&notes(&tiny), "config.json: `rope_parameters` has no effect beside `rope_scaling`");
    assert_eq!(read(&tiny).rope.theta, 10_000.0);
}

#[test]
fn rope_that_cannot_be_honoured_is_refused() {
    let yarn = |more: Value| {
        let mut yarn = json!({"rope_type": "yarn", "factor": 4.0});
        yarn.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"rope_scaling": yarn})
    };
    for (keys, part) in [
        (json!({"rope_scaling": {"type": "su"}}), "`rope_scaling.type`: \"su\" is not supported"),
        (json!({"rope_scaling": {"type": "yarn"}}), "`rope_scaling.factor` is missing"),
        (json!({"rope_scaling": {"type": "dynamic"}}), "`rope_scaling.factor` is missing"),
        (json!({"rope_scaling": {"factor": 2}}), "`rope_scaling.factor`: 2 is not supported"),
        (json!({"rope_scaling": {"type": "linear", "factor": 0}}), "`rope_scaling.factor` is 0"),
        (json!({"partial_rotary_factor": 0.5}), "`partial_rotary_factor`: 0.5 is not supported"),
        (
            json!({"rope_parameters": {"full_attention": {"rope_theta": 5.0}}}),
            "`rope_parameters.full_attention`: {\"rope_theta\":5.0} is not supported",
        ),
        (yarn(json!({"attention_factor": -1})), "attention_factor` is -1"),
        (yarn(json!({"beta_fast": -1})), "`rope_scaling.beta_fast` is -1, expected a positive"),
        (yarn(json!({"original_max_position_embeddings": 0})), "embeddings` is 0, expected an"),
        (
            json!({"rope_theta": 1.0, "rope_scaling": {"type": "yarn", "factor": 2}}),
            "`rope_theta` is 1.0, expected above 1 for yarn",
        ),
        (json!({"rope_scaling": {"type": "longrope"}}), "expected a list of 4 positive numbers"),
        (
            json!({"rope_scaling": {"type": "longrope", "short_factor": [1, 1, 1, 0]}}),
            "short_factor` is [1,1,1,0], expected a list of 4 positive numbers",
        ),
    ] {
        let mut tiny = Tiny::llama();
        set(&mut tiny, keys);
        contains(&tiny.error(), part);
    }
    for (keys, part) in [
        (
            json!({"rope_parameters": {"rope_theta": 5.0}}),
            "`rope_parameters.rope_theta` is 5.0, expected parameters within full_attention",
        ),
        (
            json!({"rope_parameters": {"sliding_attention": {"rope_type": "linear"}}}),
            "`sliding_attention.rope_type`: \"linear\" is not supported",
        ),
        (yarn(json!({"truncate": false})), "`rope_scaling.truncate`: false is not supported"),
    ] {
        let mut tiny = Tiny::gemma3();
        set(&mut tiny, keys);
        contains(&tiny.error(), part);
    }
    // Parameters without effect are accepted if they repeat the other values.
    let mut tiny = Tiny::gemma3();
    set(&mut tiny, json!({"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}));
    assert_eq!(tiny.converted(), Tiny::gemma3().converted());
}
