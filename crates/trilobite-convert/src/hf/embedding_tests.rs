//! Embedding models.

use serde_json::{Value, json};
use trilobite_format::{Gguf, Metadata};

use crate::testing::*;
use crate::{Checkpoint, Options};

/// The norm of the input of each projection: all its weights are `1 + index / 8`.
fn norm(index: usize) -> f32 {
    1.0 + index as f32 / 8.0
}

/// A base model without a head, whose projections norm their input.
fn normed(mut tiny: Tiny, class: &str) -> Tiny {
    tiny.config["architectures"] = json!([class]);
    tiny.tensors.retain(|(name, _)| name != "lm_head.weight");
    for (i, (name, _, cols)) in PROJECTIONS.into_iter().enumerate() {
        let norm = f32s(&vec![norm(i); cols as usize]);
        tiny.set(block(&format!("{name}.norm.weight")), "F32", &[cols], norm);
    }
    tiny.tensors.iter_mut().for_each(|(name, _)| *name = name.replacen("model.", "", 1));
    tiny
}

fn with_pooling(mut tiny: Tiny, pooling: Value) -> Tiny {
    tiny.file(
        "modules.json",
        json!([
            {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        ]),
    );
    tiny.file("1_Pooling/config.json", pooling);
    tiny
}

fn metadata(file: &[u8]) -> Metadata {
    Gguf::parse(file).unwrap().metadata().clone()
}

#[test]
fn a_base_model_with_input_norms_is_ternary_and_embeds() {
    for (tiny, class, arch) in
        [(Tiny::qwen3(), "Qwen3Model", "qwen3"), (Tiny::gemma3(), "Gemma3TextModel", "gemma3")]
    {
        let tiny = normed(tiny, class);
        let (file, report) = tiny.convert(&Options::default()).unwrap();
        assert_eq!(metadata(&file).u32(&format!("{arch}.pooling_type")).unwrap(), Some(3));
        assert!(report.notes.iter().any(|note| note.contains("there is no modules.json")));
        let names = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
        for (i, name) in names.into_iter().enumerate() {
            // Master weights, rounded by their mean magnitude; plain norms, also in Gemma.
            ternary(&file, &format!("blk.0.{name}.weight"));
            let weights = dense(&file, &format!("blk.0.{name}_norm_in.weight"));
            assert!(weights.iter().all(|weight| *weight == norm(i)), "{name}: {weights:?}");
        }
        assert!(Gguf::parse(&file).unwrap().tensor("output.weight").is_none());
        let mut lacking = tiny.clone();
        lacking.tensors.retain(|(name, _)| !name.ends_with("up_proj.norm.weight"));
        lacking.converted();
    }
}

#[test]
fn pooling_is_as_the_checkpoint_says() {
    let pooling = |json: Value| {
        let tiny = with_pooling(normed(Tiny::qwen3(), "Qwen3Model"), json);
        let file = tiny.convert(&Options::default()).map_err(|error| error.to_string())?.0;
        Ok::<_, String>(metadata(&file).u32("qwen3.pooling_type").unwrap())
    };
    let mode =
        |name: &str| json!({format!("pooling_mode_{name}"): true, "pooling_mode_other": false});
    assert_eq!(pooling(mode("mean_tokens")), Ok(Some(1)));
    assert_eq!(pooling(mode("cls_token")), Ok(Some(2)));
    assert_eq!(pooling(mode("lasttoken")), Ok(Some(3)));
    assert_eq!(pooling(json!({"pooling_mode": "mean"})), Ok(Some(1)));
    for (wrong, part) in [
        (mode("max_tokens"), "`pooling_mode_max_tokens`: true is not supported"),
        (json!({"pooling_mode": "max"}), "`pooling_mode`: \"max\" is not supported"),
        (json!({}), "`pooling_mode` is missing, expected a kind of pooling"),
        (
            json!({"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true}),
            "more than one kind of pooling is not supported",
        ),
        (
            json!({"pooling_mode_mean_tokens": true, "include_prompt": false}),
            "`include_prompt`: false is not supported",
        ),
    ] {
        contains(&pooling(wrong).unwrap_err(), part);
    }
}

#[test]
fn modules_that_change_the_vectors_are_refused() {
    let modules = |json: Value| {
        let mut tiny = normed(Tiny::qwen3(), "Qwen3Model");
        tiny.file("modules.json", json);
        tiny.error()
    };
    let module = |kind: &str, path: &str| json!([{"type": format!("a.b.{kind}"), "path": path}]);
    contains(&modules(module("Dense", "2_Dense")), "the module \"a.b.Dense\" is not supported");
    contains(&modules(module("Pooling", "../x")), "expected a folder of the checkpoint");
    let absent = modules(module("Pooling", "1_Pooling"));
    contains(&absent, "modules.json names 1_Pooling/config.json, which is missing");
    for wrong in [json!({}), json!([])] {
        contains(&modules(wrong), "expected a list of modules");
    }
    let wrong = "`0` is 5, expected an object with `type` and `path`";
    contains(&modules(json!([5])), wrong);
}

#[test]
fn prompts_are_kept() {
    let settings = |json: Value| {
        let pooling = json!({"pooling_mode_mean_tokens": true});
        let mut tiny = with_pooling(normed(Tiny::qwen3(), "Qwen3Model"), pooling);
        tiny.file("config_sentence_transformers.json", json);
        tiny
    };
    let both = json!({"query": "Query: ", "document": ""});
    let file = settings(json!({"prompts": both, "default_prompt_name": "query"})).converted();
    let metadata = metadata(&file);
    assert_eq!(metadata.str("trilobite.prompts.query").unwrap(), Some("Query: "));
    assert_eq!(metadata.str("trilobite.prompts.document").unwrap(), Some(""));
    assert_eq!(metadata.str("trilobite.default_prompt").unwrap(), Some("query"));
    let wrong = settings(json!({"prompts": both, "default_prompt_name": "other"})).error();
    contains(&wrong, "`default_prompt_name` is \"other\"");
    contains(&settings(json!({"prompts": {"query": 3}})).error(), "`prompts.query` is 3");
    let list = settings(json!([1])).error();
    contains(&list, "config_sentence_transformers.json: `content` is [1], expected an object");
}

#[test]
fn files_that_hold_no_object_are_refused() {
    for name in ["generation_config.json", "tokenizer_config.json", "special_tokens_map.json"] {
        let mut tiny = Tiny::llama();
        tiny.file(name, json!([1]));
        contains(&tiny.error(), &format!("{name}: `content` is [1], expected an object"));
    }
    let mut tiny = Tiny::llama();
    tiny.config = json!("llama");
    contains(&tiny.error(), "config.json: `content` is \"llama\", expected an object");
}

#[test]
fn a_model_with_a_head_generates_whatever_its_projections_norm() {
    // The name that transformers gives norms which it adds (`use_rms_norm`).
    let mut tiny = Tiny::bitnet();
    tiny.config["quantization_config"]["use_rms_norm"] = json!(true);
    contains(&tiny.error(), "self_attn.q_proj.rms_norm.weight is missing");
    for (name, _, cols) in PROJECTIONS {
        let norm = f32s(&vec![0.5; cols as usize]);
        tiny.set(block(&format!("{name}.rms_norm.weight")), "F32", &[cols], norm);
    }
    let file = metadata(&tiny.converted());
    let eps = "bitnet-b1.58.attention.projection_norm_rms_epsilon";
    assert_eq!(file.f32(eps).unwrap(), Some(1e-6));
    assert_eq!(file.get("bitnet-b1.58.pooling_type"), None);
    tiny.config["quantization_config"]["rms_norm_eps"] = json!(1e-5);
    assert_eq!(metadata(&tiny.converted()).get(eps), None);
    // Modules that are not converted have none.
    tiny.config["quantization_config"]["modules_to_not_convert"] = json!(["lm_head", "v_proj"]);
    let value = (0..8 * HIDDEN).map(|i| i as f32).collect::<Vec<_>>();
    tiny.set(block("self_attn.v_proj.weight"), "F32", &[8, HIDDEN], f32s(&value));
    tiny.tensors.retain(|(name, _)| {
        !name.ends_with("v_proj.rms_norm.weight") && !name.ends_with("v_proj.weight_scale")
    });
    let file = tiny.converted();
    assert!(Gguf::parse(&file).unwrap().tensor("blk.0.attn_v_norm_in.weight").is_none());
    // A list means exactly that list, and the head has no such norm in a file.
    tiny.config["quantization_config"]["modules_to_not_convert"] = json!(["v_proj"]);
    contains(&tiny.error(), "a norm of the head's input (`use_rms_norm`");
}

#[test]
fn layers_may_differ_in_the_projections_that_norm_their_input() {
    let mut tiny = Tiny::bitnet();
    tiny.config["num_hidden_layers"] = json!(2);
    tiny.config["quantization_config"]["use_rms_norm"] = json!(true);
    for (name, _, cols) in PROJECTIONS {
        let norm = f32s(&vec![0.5; cols as usize]);
        tiny.set(block(&format!("{name}.rms_norm.weight")), "F32", &[cols], norm);
    }
    let first = tiny.tensors.iter().filter(|(name, _)| name.starts_with("model.layers.0."));
    let rename =
        |(name, tensor): &(String, Tensor)| (name.replace("layers.0", "layers.1"), tensor.clone());
    let second: Vec<_> = first.map(rename).collect();
    tiny.tensors.extend(second);
    for layer in [0, 1] {
        let mut tiny = tiny.clone();
        let down = format!("model.layers.{layer}.mlp.down_proj");
        tiny.config["quantization_config"]["modules_to_not_convert"] = json!([down, "lm_head"]);
        tiny.tensors.retain(|(name, _)| !name.starts_with(&down));
        let weights = bf16s(&[0.5; (HIDDEN * FFN) as usize]);
        tiny.set(format!("{down}.weight"), "BF16", &[HIDDEN, FFN], weights);
        let file = tiny.converted();
        let gguf = Gguf::parse(&file).unwrap();
        let normed = |layer| gguf.tensor(&format!("blk.{layer}.ffn_down_norm_in.weight")).is_some();
        assert_eq!([normed(0), normed(1)], [layer != 0, layer != 1]);
        let files = vec![("m.gguf".to_owned(), file.clone().into())];
        let again = Checkpoint::from_files(files).unwrap();
        assert!(run(&again, &Options::default()).unwrap().0 == file);
        let norm = format!("model.layers.{}.mlp.down_proj.rms_norm.weight", 1 - layer);
        tiny.tensors.retain(|(name, _)| *name != norm);
        contains(&tiny.error(), &format!("tensor {norm} is missing"));
    }
}
