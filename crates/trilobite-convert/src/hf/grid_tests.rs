//! A grid over config.json: every configuration that converts can be run.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use trilobite_runtime::{CacheType, Model, Session, SessionOptions};

use crate::testing::*;

/// Values of every kind, including the edges of valid ranges.
fn values() -> Vec<Value> {
    let mut values = vec![
        json!(null),
        json!(true),
        json!(false),
        json!(""),
        json!("NaN"),
        json!("silu"),
        json!("relu2"),
        json!("swish"),
        json!("gelu"),
        json!([]),
        json!([1]),
        json!({}),
        json!({"factor": 2.0}),
        json!(1u64 << 63),
        json!(f64::MAX),
    ];
    values.extend([0, 1, 2, 3, 4, 7, 8, 12, 16, 24, 64, -1, -16].map(Value::from));
    values.extend([22, 24, 31, 32].map(|bits| json!(1u64 << bits)));
    values.extend([22, 24, 31, 32].map(|bits| json!((1u64 << bits) + 1)));
    values.extend(
        [0.0, -0.0, 1e-45, 1e-38, 1e-30, 1e-5, 0.5, 1.0, 8.0, 1e30, 3e38, 1e39].map(Value::from),
    );
    values
}

const KEYS: [&str; 31] = [
    "architectures",
    "model_type",
    "hidden_act",
    "hidden_activation",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_local_base_freq",
    "rope_scaling",
    "rope_parameters",
    "partial_rotary_factor",
    "tie_word_embeddings",
    "attention_bias",
    "mlp_bias",
    "use_sliding_window",
    "sliding_window",
    "sliding_window_pattern",
    "max_window_layers",
    "layer_types",
    "query_pre_attn_scalar",
    "final_logit_softcapping",
    "quantization_config",
    "eos_token_id",
    "pad_token_id",
];

/// Runs the converted model. Returns whether the configuration converts.
#[track_caller]
fn runs(tiny: &Tiny) -> bool {
    let Ok((file, _)) = tiny.convert(&Default::default()) else { return false };
    let model = Arc::new(
        Model::from_bytes(file).unwrap_or_else(|e| panic!("{}: {}", tiny.config, chain(&e))),
    );
    let config = model.config();
    // As few tokens as the context has room for, in the longest context whose table is cheap.
    let tokens = [1, 2, 3].map(|id| id % config.vocab as u32);
    let tokens = &tokens[..config.context.min(3)];
    let options = SessionOptions {
        threads: 1,
        context: config.context.min(64),
        batch: 2,
        cache: CacheType::F32,
        ..SessionOptions::default()
    };
    let mut session = Session::new(model, options).unwrap();
    let mut finite = true;
    let ran =
        session.each_logits(tokens, |_, logits| finite &= logits.iter().all(|l| l.is_finite()));
    ran.unwrap_or_else(|e| panic!("{}: {e}", tiny.config));
    assert!(finite, "logits that are no numbers: {}", tiny.config);
    true
}

fn checkpoints() -> [Tiny; 7] {
    let mut masters = Tiny::bitnet().with_dense(|i, e| (i + e % 7) as f32 - 3.0);
    masters.config["quantization_config"]["quantization_mode"] = json!("online");
    let mut old = masters.clone();
    old.config["architectures"] = json!(["BitnetForCausalLM"]);
    old.config["hidden_act"] = json!("silu");
    old.rename(&block("self_attn.attn_sub_norm.weight"), &block("self_attn.inner_attn_ln.weight"));
    old.rename(&block("mlp.ffn_sub_norm.weight"), &block("mlp.ffn_layernorm.weight"));
    [Tiny::bitnet(), Tiny::llama(), Tiny::qwen2(), Tiny::qwen3(), Tiny::gemma3(), masters, old]
}

fn with(tiny: &Tiny, key: &str, value: Value) -> Tiny {
    let mut changed = tiny.clone();
    changed.config[key] = value;
    changed
}

#[test]
fn what_is_converted_with_any_value_of_a_key_can_be_run() {
    for tiny in checkpoints() {
        assert!(runs(&tiny));
        for key in KEYS {
            let mut without = tiny.clone();
            without.config.as_object_mut().unwrap().remove(key);
            runs(&without);
            for value in values() {
                runs(&with(&tiny, key, value));
            }
        }
    }
}

#[test]
fn what_is_converted_with_any_heads_and_layers_can_be_run() {
    let sizes = [1, 2, 3, 4, 6, 8, 16];
    let mut ran = 0;
    for tiny in checkpoints() {
        for (heads, kv_heads) in sizes.into_iter().flat_map(|a| sizes.map(|b| (a, b))) {
            let mut tiny = tiny.clone();
            tiny.config["num_attention_heads"] = json!(heads);
            tiny.config["num_key_value_heads"] = json!(kv_heads);
            for head_dim in [json!(null), json!(2), json!(4), json!(7), json!(8), json!(16)] {
                ran += usize::from(runs(&with(&tiny, "head_dim", head_dim)));
            }
        }
        for layers in 0..3 {
            runs(&with(&tiny, "num_hidden_layers", json!(layers)));
        }
    }
    assert!(ran > 6, "{ran}");
}

#[test]
fn what_is_converted_with_any_rope_can_be_run() {
    let kinds = ["default", "linear", "dynamic", "llama3", "yarn", "longrope", "ntk"];
    let parameters = |kind: &str| {
        json!({"rope_type": kind, "rope_theta": 100.0, "factor": 4.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 16,
            "short_factor": [1.0, 1.5, 2.0, 2.5], "long_factor": [1.0, 2.0, 3.0, 4.0]})
    };
    let others =
        ["attention_factor", "beta_fast", "beta_slow", "mscale", "truncate", "type", "alpha"];
    let mut ran = 0;
    for tiny in [Tiny::llama(), Tiny::gemma3()] {
        for kind in kinds {
            let whole = parameters(kind);
            let keys: Vec<&str> = whole.as_object().unwrap().keys().map(String::as_str).collect();
            for key in keys.into_iter().chain(others) {
                let mut changed: Vec<Map<String, Value>> = Vec::new();
                let mut without = whole.as_object().unwrap().clone();
                without.remove(key);
                changed.push(without.clone());
                for value in values() {
                    without.insert(key.to_owned(), value);
                    changed.push(without.clone());
                }
                for changed in changed {
                    let old = with(&tiny, "rope_scaling", changed.clone().into());
                    let new = match tiny.config.get("rope_theta") {
                        Some(_) => changed.into(),
                        // In Gemma 3 they are grouped by kind of layer.
                        None => json!({"full_attention": changed}),
                    };
                    let new = with(&tiny, "rope_parameters", new);
                    ran += usize::from(runs(&old)) + usize::from(runs(&new));
                }
            }
        }
    }
    assert!(ran > 1000, "{ran}");
}

#[test]
fn what_is_converted_with_any_quantisation_can_be_run() {
    let keys = [
        "quant_method",
        "linear_class",
        "quantization_mode",
        "modules_to_not_convert",
        "use_rms_norm",
    ];
    let named = ["bitnet", "autobitlinear", "bitlinear", "online", "offline"].map(Value::from);
    let listed = [json!(["lm_head"]), json!(["q_proj"]), json!(["model.layers.0"]), json!([1])];
    let mut ran = 0;
    for tiny in checkpoints() {
        for key in keys {
            for value in values().into_iter().chain(named.clone()).chain(listed.clone()) {
                let mut changed = tiny.clone();
                if changed.config["quantization_config"].is_null() {
                    changed.config["quantization_config"] = json!({"quant_method": "bitnet"});
                }
                changed.config["quantization_config"][key] = value;
                ran += usize::from(runs(&changed));
            }
        }
    }
    assert!(ran > 30, "{ran}");
}
