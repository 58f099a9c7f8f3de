//! config.json, generation_config.json and tokenizer_config.json of a listed model.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::models::{Shape, Weights};

/// config.json in the form of the published repository, for a shape.
pub(crate) fn config(shape: &Shape, weights: Weights) -> Value {
    let mut config = json!({
        "architectures": [shape.class],
        "model_type": shape.model_type,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.num_hidden_layers,
        "num_attention_heads": shape.num_attention_heads,
        "num_key_value_heads": shape.num_key_value_heads,
        "vocab_size": shape.vocab_size,
        "max_position_embeddings": shape.max_position_embeddings,
        "rms_norm_eps": shape.rms_norm_eps,
        "rope_theta": shape.rope_theta,
        "tie_word_embeddings": shape.tie_word_embeddings,
        "torch_dtype": match weights {
            Weights::F32 => "float32",
            Weights::Groups => "float16",
            _ => "bfloat16",
        },
        "bos_token_id": shape.bos_token_id,
        "eos_token_id": shape.eos_token_id.first(),
    });
    if shape.head_dim * shape.num_attention_heads != shape.hidden_size {
        config["head_dim"] = json!(shape.head_dim);
    }
    if let Some(activation) = &shape.hidden_act {
        config["hidden_act"] = json!(activation);
    }
    let mode = if weights == Weights::Packed { "offline" } else { "online" };
    if shape.class == "MapleForCausalLM" {
        // Every fourth layer attends to all tokens.
        let slides = |layer: usize| {
            ["sliding_attention", "full_attention"][usize::from(layer.is_multiple_of(4))]
        };
        config["layer_types"] = (1..=shape.num_hidden_layers).map(slides).collect();
    }
    for (key, value) in &shape.config {
        config[key] = value.clone();
    }
    match shape.class.as_str() {
        _ if matches!(weights, Weights::Dense | Weights::Rows | Weights::Groups) => {}
        _ if is_base(&config) => {}
        "BitNetForCausalLM" => {
            config["quantization_config"] = json!({
                "quant_method": "bitnet",
                "linear_class": "autobitlinear",
                "quantization_mode": mode,
            });
        }
        "BitnetForCausalLM" => {
            config["weight_bits"] = json!(1);
            config["input_bits"] = json!(8);
        }
        _ => {
            config["quantization_config"] =
                json!({ "quant_method": "bitnet", "modules_to_not_convert": null });
        }
    }
    config
}

/// Whether a checkpoint is one of a model without a head. Its projections are BitNet's, with norms of
/// their own.
pub(super) fn is_base(config: &Value) -> bool {
    config["architectures"][0].as_str().is_some_and(|class| class.ends_with("Model"))
}

/// The files that make a model without a head one of embeddings, by name.
pub(super) fn embedding_files(shape: &Shape) -> Vec<(&'static str, Value)> {
    if !shape.class.ends_with("Model") {
        return Vec::new();
    }
    let modules = json!([
        { "idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer" },
        { "idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling" },
    ]);
    vec![
        ("modules.json", modules),
        ("1_Pooling/config.json", json!({ "pooling_mode_lasttoken": true })),
    ]
}

/// generation_config.json: the ids that begin and end a text, and the sampling defaults.
pub(crate) fn generation_config(shape: &Shape) -> Value {
    let mut config: Map<String, Value> = shape.generation.clone().into_iter().collect();
    if let Some(bos) = shape.bos_token_id {
        config.insert("bos_token_id".to_owned(), json!(bos));
    }
    config.insert("eos_token_id".to_owned(), json!(shape.eos_token_id));
    Value::Object(config)
}

/// tokenizer_config.json: the names of the special tokens and the chat template.
pub(crate) fn tokenizer_config(shape: &Shape) -> Result<Value> {
    let special = shape.special_tokens()?;
    let name =
        |id: &u32| special.get(id).with_context(|| format!("special token {id} has no name"));
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": false,
        "model_max_length": shape.max_position_embeddings,
    });
    if let Some(bos) = &shape.bos_token_id {
        config["bos_token"] = json!(name(bos)?);
    }
    if let Some(eos) = shape.eos_token_id.first() {
        config["eos_token"] = json!(name(eos)?);
    }
    if let Some(template) = &shape.chat_template {
        config["chat_template"] = json!(template.source());
    }
    Ok(config)
}
