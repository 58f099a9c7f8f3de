//! Renamed tensors, and buffers.

use serde_json::json;
use trilobite_format::Gguf;

use crate::Options;
use crate::testing::*;

fn with_names(tiny: &Tiny, rename: impl Fn(&str) -> String) -> Tiny {
    let mut tiny = tiny.clone();
    tiny.tensors.iter_mut().for_each(|(name, _)| *name = rename(name));
    tiny
}

#[test]
fn a_base_model_is_complete_where_its_head_is_the_embedding() {
    let bare = |name: &str| name.replacen("model.", "", 1);
    let bitnet = Tiny::bitnet();
    for (tiny, class) in [(&bitnet, "BitNetModel"), (&Tiny::gemma3(), "Gemma3TextModel")] {
        let mut base = with_names(tiny, bare);
        assert!(base.tensors.iter().any(|(name, _)| name == "embed_tokens.weight"));
        assert!(base.converted() == tiny.converted());
        base.config["architectures"] = json!([class]);
        assert!(base.converted() == tiny.converted());
    }
    // The head has the same name in both, and a model may be wrapped once more.
    assert!(with_names(&Tiny::llama(), bare).converted() == Tiny::llama().converted());
    let wrapped = with_names(&bitnet, |name| format!("model.{name}"));
    assert!(wrapped.converted() == bitnet.converted());

    let mut both = with_names(&bitnet, bare);
    both.set("model.embed_tokens.weight", "F32", &[1], f32s(&[0.0]));
    contains(&both.error(), "embed_tokens.weight has shape [1]");
    let mut broken = with_names(&bitnet, bare);
    broken.get("norm.weight").1 = vec![4];
    broken.get("norm.weight").2.truncate(16);
    contains(&broken.error(), "model.safetensors: tensor norm.weight has shape [4], expected [16]");
}

#[test]
fn a_head_is_missing_unless_it_is_the_embedding() {
    let mut tiny = Tiny::llama();
    let head = "lm_head.weight";
    tiny.tensors.retain(|(name, _)| name != head);
    let message =
        "tensor lm_head.weight is missing, and config.json does not say that the head is the";
    contains(&tiny.error(), message);
    // By default `LlamaConfig` unties them and `Gemma3TextConfig` ties them.
    tiny.config.as_object_mut().unwrap().remove("tie_word_embeddings");
    contains(&tiny.error(), message);
    let mut gemma3 = Tiny::gemma3();
    let plain = gemma3.converted();
    gemma3.config.as_object_mut().unwrap().remove("tie_word_embeddings");
    assert!(gemma3.converted() == plain);
    // A file with tied weights may have either.
    gemma3.config["tie_word_embeddings"] = json!(true);
    gemma3.rename("model.embed_tokens.weight", head);
    assert!(gemma3.converted() == plain);
}

#[test]
fn buffers_that_follow_from_the_configuration_are_left_out() {
    let plain = Tiny::llama().converted();
    let mask: Vec<f32> = (0..16).map(|i| f32::from(u8::from(i / 4 >= i % 4))).collect();
    let bits: Vec<u8> = mask.iter().map(|&bit| bit as u8).collect();
    let cases = [
        ("model.rotary_emb.inv_freq", "F32", vec![4], vec![0; 16]),
        ("model.rotary_emb.original_inv_freq", "BF16", vec![4], vec![0; 8]),
        ("model.rotary_emb_local.inv_freq", "F64", vec![4], vec![0; 32]),
        ("model.rotary_emb.full_attention_inv_freq", "F32", vec![4], vec![0; 16]),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", "F32", vec![4], vec![0; 16]),
        ("model.layers.0.self_attn.rotary_emb.cos_cached", "F16", vec![1, 1, 2, 4], vec![0; 16]),
        ("model.layers.7.self_attn.rotary_emb.sin_cached", "F32", vec![4], vec![0; 16]),
        ("rotary_emb.sin", "F32", vec![4], vec![0; 16]),
        ("model.layers.0.self_attn.masked_bias", "F32", vec![], vec![0; 4]),
        ("model.layers.0.attn.masked_bias", "F32", vec![1], vec![0; 4]),
        ("model.layers.0.self_attn.bias", "BOOL", vec![1, 1, 4, 4], bits.clone()),
        ("model.causal_mask", "BOOL", vec![4, 4], bits.clone()),
        ("model.layers.0.attention.bias", "U8", vec![1, 1, 4, 4], bits),
        ("model.layers.0.attn.bias", "F32", vec![1, 1, 4, 4], f32s(&mask)),
        ("model.position_ids", "I64", vec![1, 2], vec![0; 16]),
    ];
    for (name, dtype, shape, bytes) in &cases {
        let mut tiny = Tiny::llama();
        tiny.set(*name, dtype, shape, bytes.clone());
        let (file, report) = tiny.convert(&Options::default()).unwrap();
        assert!(file == plain, "{name}");
        contains(&report.notes.join("\n"), "1 buffers that follow from the configuration");
    }
    // The factor of Gemma's embeddings: the square root of 16, rounded or not.
    let mut gemma3 = Tiny::gemma3();
    gemma3.set("model.embed_tokens.embed_scale", "F32", &[], f32s(&[4.01]));
    assert!(gemma3.converted() == Tiny::gemma3().converted());
    gemma3.set("model.embed_tokens.embed_scale", "F32", &[], f32s(&[5.0]));
    contains(&gemma3.error(), "unexpected tensor model.embed_tokens.embed_scale");
}

#[test]
fn what_could_change_the_computation_is_never_left_out() {
    for (name, dtype, shape, bytes) in [
        ("model.layers.0.self_attn.q_norm.weight", "F32", vec![8], f32s(&[1.0; 8])),
        ("model.layers.0.self_attn.q_proj.bias", "F32", vec![16], f32s(&[0.0; 16])),
        ("model.layers.0.self_attn.bias", "F32", vec![16], f32s(&[0.0; 16])),
        ("model.layers.0.self_attn.bias", "F32", vec![1, 1, 2, 2], f32s(&[0.0, 0.5, 1.0, 1.0])),
        ("model.layers.0.self_attn.rotary_emb.scale", "F32", vec![4], f32s(&[1.0; 4])),
        ("model.layers.0.self_attn.inv_freq", "F32", vec![4], f32s(&[1.0; 4])),
        ("model.layers.0.self_attn.rotary_emb.cosine", "F32", vec![4], f32s(&[1.0; 4])),
        ("model.embed_tokens.embed_scale", "F32", vec![], f32s(&[4.0])),
        ("model.layers.0.self_attn.bias", "F32", vec![2, 2], f32s(&[1.0; 4])),
        ("model.position_ids", "F32", vec![1], f32s(&[1.0])),
        ("model.layers.0.self_attn.sinks", "F32", vec![2], f32s(&[1.0; 2])),
    ] {
        let mut tiny = Tiny::llama();
        tiny.set(name, dtype, &shape, bytes);
        contains(&tiny.error(), &format!("unexpected tensor {name}"));
    }
    let mut tiny = Tiny::llama();
    tiny.set(block("mlp.up_proj.weight"), "I32", &[24, 16], vec![0; 1536]);
    contains(&tiny.error(), "up_proj.weight has type I32, expected BF16, F16, F32, I8 or U8");
}

#[test]
fn special_ids_that_are_no_tokens_are_said_and_left_out() {
    let mut tiny = Tiny::bitnet();
    tiny.config["bos_token_id"] = json!(-1);
    tiny.config["eos_token_id"] = json!([2, 128_009]);
    tiny.file("generation_config.json", json!({"eos_token_id": 4_294_967_295u32}));
    let (file, report) = tiny.convert(&Options::default()).unwrap();
    let said = report.notes.join("\n");
    contains(&said, "config.json: `bos_token_id` is -1, which is no token");
    contains(&said, "config.json: `eos_token_id` is 128009, which is no token");
    contains(&said, "generation_config.json: `eos_token_id` is 4294967295, which is no token");
    let gguf = Gguf::parse(&file).unwrap();
    assert_eq!(gguf.metadata().u32s("trilobite.eos_token_ids").unwrap(), Some(vec![2]));
    assert!(gguf.metadata().get("tokenizer.ggml.bos_token_id").is_none());
}

#[test]
fn settings_of_sampling_that_nothing_can_use_are_said_and_left_out() {
    let settings = |json| {
        let mut tiny = Tiny::bitnet();
        tiny.file("generation_config.json", json);
        let (file, report) = tiny.convert(&Options::default()).unwrap();
        let metadata = Gguf::parse(&file).unwrap().metadata().clone();
        let number = |key: &str| metadata.f32(&format!("trilobite.generation.{key}")).unwrap();
        let top_k = metadata.u32("trilobite.generation.top_k").unwrap();
        let floats =
            ["temperature", "top_p", "min_p", "repetition_penalty", "loop_penalty"].map(number);
        let notes = report.notes.into_iter().filter(|note| note.contains("generation_config"));
        (floats, top_k, notes.collect::<Vec<_>>())
    };
    let (floats, top_k, notes) = settings(json!({"temperature": 0, "top_p": 0, "min_p": 0.1,
        "repetition_penalty": 1.1, "loop_penalty": 2, "top_k": 0}));
    let expected = [Some(0.0), Some(0.0), Some(0.1), Some(1.1), Some(2.0)];
    assert_eq!((floats, top_k), (expected, Some(0)));
    assert!(notes.is_empty());
    let none = settings(json!({"temperature": null, "top_p": null, "top_k": null}));
    assert_eq!(none, ([None; 5], None, vec![]));
    let (floats, top_k, notes) = settings(json!({"temperature": -1, "top_p": -0.5, "min_p": 2,
        "repetition_penalty": 0, "loop_penalty": -1, "top_k": -1}));
    assert_eq!((floats, top_k, notes.len()), ([None; 5], None, 6));
    contains(&notes[3], "generation_config.json: `repetition_penalty` is 0 and was left out");
    let (floats, top_k, notes) = settings(json!({"top_p": 1.5, "top_k": 2.5}));
    assert_eq!((floats, top_k, notes.len()), ([None; 5], None, 2));
    contains(&notes[1], "`top_k` is 2.5 and was left out");
    assert_eq!(settings(json!({"top_k": 1e12})).1, Some(u32::MAX));
}
