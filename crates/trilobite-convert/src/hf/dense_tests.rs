use serde_json::json;
use trilobite_format::{Array, Gguf, Metadata, TensorType, Value};

use crate::testing::*;
use crate::{Head, HeadScan, Layout, Options, Type};

fn metadata(file: &[u8]) -> Metadata {
    Gguf::parse(file).unwrap().metadata().clone()
}

fn types(file: &[u8]) -> Vec<(String, TensorType)> {
    let gguf = Gguf::parse(file).unwrap();
    gguf.tensors().iter().map(|info| (info.name.clone(), info.ty)).collect()
}

#[test]
fn biases_are_kept_and_permuted_like_the_rows_that_they_belong_to() {
    let count_from = |start: f32, n: usize| (0..n).map(move |r| start + r as f32 / 8.0);
    let qwen2 = Tiny::qwen2();
    let file = qwen2.converted();
    assert_eq!(metadata(&file).str("general.architecture").unwrap(), Some("qwen2"));
    for (i, name, len) in [(0, "attn_q", 16), (1, "attn_k", 8), (2, "attn_v", 8)] {
        let bias = dense(&file, &format!("blk.0.{name}.bias"));
        assert_eq!(bias, count_from(i as f32, len).collect::<Vec<_>>());
    }
    assert_eq!(dense(&file, "blk.0.attn_q.weight")[17], 17.0 / 64.0);

    let mut llama = qwen2;
    llama.config["architectures"] = json!(["LlamaForCausalLM"]);
    contains(&llama.error(), "unexpected tensor model.layers.0.self_attn.k_proj.bias");
    llama.config["attention_bias"] = json!(true);
    contains(&llama.error(), "o_proj.bias is missing");
    llama.set(block("self_attn.o_proj.bias"), "F32", &[HIDDEN], f32s(&[3.5; 16]));
    let file = llama.converted();
    let q: Vec<f32> = [0, 4, 1, 5, 2, 6, 3, 7].map(|r| r as f32 / 8.0).into();
    assert_eq!(dense(&file, "blk.0.attn_q.bias")[..8], q);
    assert_eq!(dense(&file, "blk.0.attn_v.bias"), count_from(2.0, 8).collect::<Vec<_>>());
    assert_eq!(dense(&file, "blk.0.attn_output.bias"), [3.5; 16]);
}

#[test]
fn gemmas_norms_are_stored_as_what_they_multiply_by() {
    let file = Tiny::gemma3().converted();
    let metadata = metadata(&file);
    assert_eq!(metadata.str("general.architecture").unwrap(), Some("gemma3"));
    for name in ["output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"] {
        assert_eq!(dense(&file, &format!("{name}.weight")), [1.25; 16]);
    }
    for name in ["attn_q_norm", "attn_k_norm"] {
        assert_eq!(dense(&file, &format!("blk.0.{name}.weight")), [1.25; 8]);
    }
    for name in ["post_attention_norm", "post_ffw_norm"] {
        assert_eq!(dense(&file, &format!("blk.0.{name}.weight")), [1.25; 16]);
    }
    // Absent keys have the defaults of transformers. llama.cpp has the same defaults for the keys
    // absent here.
    assert_eq!(metadata.f32("gemma3.rope.freq_base").unwrap(), Some(1e6));
    assert_eq!(metadata.f32("gemma3.rope.freq_base_swa").unwrap(), Some(1e4));
    assert_eq!(metadata.f32("gemma3.attention.layer_norm_rms_epsilon").unwrap(), Some(1e-6));
    assert_eq!(metadata.u32("gemma3.context_length").unwrap(), Some(131_072));
    assert_eq!(metadata.u32("gemma3.attention.sliding_window").unwrap(), Some(32));
    assert!(metadata.get("gemma3.attention.sliding_window_pattern").is_none());
    assert!(metadata.get("gemma3.attention.scale").is_none());
}

#[test]
fn qwen_3_has_norms_of_heads_and_biases_where_they_are_stated() {
    let tiny = Tiny::qwen3();
    let file = tiny.converted();
    assert_eq!(metadata(&file).str("general.architecture").unwrap(), Some("qwen3"));
    assert_eq!(metadata(&file).u32("qwen3.attention.key_length").unwrap(), Some(8));
    for (name, len) in [("attn_norm", 16), ("attn_q_norm", 8), ("attn_k_norm", 8)] {
        assert_eq!(dense(&file, &format!("blk.0.{name}.weight")), vec![0.25; len]);
    }
    // The order of rows is unchanged.
    assert_eq!(dense(&file, "blk.0.attn_q.weight")[17], 17.0 / 64.0);

    let mut biased = tiny.clone();
    biased.set(block("self_attn.q_proj.bias"), "F32", &[16], f32s(&[1.5; 16]));
    contains(&biased.error(), "unexpected tensor model.layers.0.self_attn.q_proj.bias");
    biased.config["attention_bias"] = json!(true);
    contains(&biased.error(), "k_proj.bias is missing");
    for (name, len) in [("k_proj", 8), ("v_proj", 8), ("o_proj", HIDDEN)] {
        let bias = f32s(&vec![1.5; len as usize]);
        biased.set(block(&format!("self_attn.{name}.bias")), "F32", &[len], bias);
    }
    assert_eq!(dense(&biased.converted(), "blk.0.attn_output.bias"), [1.5; 16]);

    for name in ["q_norm", "k_norm"] {
        let mut tiny = tiny.clone();
        tiny.rename(&block(&format!("self_attn.{name}.weight")), "model.other");
        contains(&tiny.error(), &format!("{name}.weight is missing"));
    }
    for (key, value, part) in [
        (
            "quantization_config",
            json!({"quant_method": "bitnet"}),
            "q_proj.weight_scale is missing",
        ),
        ("quantization_config", json!({"quant_method": "fp8"}), "expected \"bitnet\""),
    ] {
        let mut tiny = tiny.clone();
        tiny.config[key] = value;
        contains(&tiny.error(), part);
    }
}

#[test]
fn windows_are_read_in_every_dialect() {
    let window = |change: &dyn Fn(&mut Tiny)| {
        let mut tiny = Tiny::gemma3();
        change(&mut tiny);
        let metadata = metadata(&tiny.converted());
        let pattern = metadata.get("gemma3.attention.sliding_window_pattern").cloned();
        (pattern, metadata.f32("gemma3.rope.freq_base_swa").unwrap())
    };
    let sliding = |types: &[&str]| {
        let types = json!(types);
        move |tiny: &mut Tiny| tiny.config["layer_types"] = types.clone()
    };
    assert_eq!(window(&|tiny| tiny.config["sliding_window_pattern"] = json!(1)), (None, None));
    assert_eq!(window(&sliding(&["full_attention"])), (None, None));
    assert_eq!(window(&sliding(&["sliding_attention"])), (None, Some(1e4)));
    let both = json!({
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5},
        "sliding_attention": {"rope_type": "default", "rope_theta": 2e4},
    });
    assert_eq!(window(&|tiny| tiny.config["rope_parameters"] = both.clone()), (None, Some(2e4)));
    let mut tiny = Tiny::gemma3();
    tiny.config["rope_parameters"] = both.clone();
    let file = metadata(&tiny.converted());
    assert_eq!(file.f32("gemma3.rope.freq_base").unwrap(), Some(5e5));
    assert_eq!(file.str("gemma3.rope.scaling.type").unwrap(), Some("linear"));
    assert_eq!(file.f32("gemma3.rope.scaling.factor").unwrap(), Some(8.0));

    for (mut qwen, name) in [(Tiny::qwen2(), "qwen2"), (Tiny::qwen3(), "qwen3")] {
        let key = |key: &str| format!("{name}.{key}");
        qwen.config["sliding_window"] = json!(4);
        qwen.config["max_window_layers"] = json!(0);
        qwen.config["use_sliding_window"] = json!(false);
        assert!(metadata(&qwen.converted()).get(&key("attention.sliding_window")).is_none());
        qwen.config["use_sliding_window"] = json!(true);
        let file = metadata(&qwen.converted());
        let pattern = Value::Array(Array::Bool(vec![true]));
        assert_eq!(file.get(&key("attention.sliding_window_pattern")), Some(&pattern));
        assert_eq!(file.f32(&key("rope.freq_base_swa")).unwrap(), Some(1e4));
    }
}

#[test]
fn what_does_not_fit_is_named() {
    type Change = fn(&mut Tiny);
    let cases: [(Change, &str); 8] = [
        (|t| t.config["hidden_activation"] = json!("gelu"), "`hidden_activation` is \"gelu\""),
        (
            |t| t.config["attn_logit_softcapping"] = json!(50.0),
            "`attn_logit_softcapping`: 50.0 is not supported",
        ),
        (
            |t| t.config["use_bidirectional_attention"] = json!(true),
            "`use_bidirectional_attention`: true is not supported",
        ),
        (|t| t.config["sliding_window"] = json!(0), "`sliding_window` is 0"),
        (|t| t.config["layer_types"] = json!(["full"]), "`layer_types` is [\"full\"]"),
        (|t| t.config["layer_types"] = json!([]), "for each of 1 layers"),
        (
            |t| t.config["rope_scaling"] = json!({"rope_type": "su", "factor": 2.0}),
            "`rope_scaling.rope_type`: \"su\" is not supported",
        ),
        (
            |t| t.config["query_pre_attn_scalar"] = json!(0),
            "`query_pre_attn_scalar` is 0, expected a positive number",
        ),
    ];
    for (change, expected) in cases {
        let mut tiny = Tiny::gemma3();
        change(&mut tiny);
        contains(&tiny.error(), expected);
    }
}

#[test]
fn softcaps_and_scales_are_written_down() {
    let mut tiny = Tiny::gemma3();
    tiny.config["final_logit_softcapping"] = json!(30.0);
    tiny.config["query_pre_attn_scalar"] = json!(16);
    let file = metadata(&tiny.converted());
    assert_eq!(file.f32("gemma3.final_logit_softcapping").unwrap(), Some(30.0));
    assert_eq!(file.f32("gemma3.attention.scale").unwrap(), Some(0.25));
}

#[test]
fn matrices_are_stored_in_the_type_asked_for() {
    let tiny = Tiny::qwen2();
    let source = types(&tiny.converted());
    for (ty, chosen) in [
        (Type::F16, TensorType::F16),
        (Type::Bf16, TensorType::Bf16),
        // Rows of 16 and 24 are not whole blocks of 32.
        (Type::Q8_0, TensorType::F16),
        (Type::Q4_0, TensorType::F16),
    ] {
        let options = Options { ty: Some(ty), ..Options::default() };
        let (file, report) = tiny.convert(&options).unwrap();
        for ((name, ty), (_, before)) in types(&file).into_iter().zip(&source) {
            let matrix = !name.ends_with("bias") && !name.contains("norm");
            assert_eq!(ty, if matrix { chosen } else { *before }, "{name}");
        }
        let fell_back = report.notes.iter().any(|note| note.contains("no whole blocks of q"));
        assert_eq!(fell_back, matches!(ty, Type::Q8_0 | Type::Q4_0));
        let head = Options { head: Head::F32, ..options };
        let (file, _) = tiny.convert(&head).unwrap();
        let head = types(&file).into_iter().find(|(name, _)| name == "output.weight");
        assert_eq!(head.unwrap().1, TensorType::F32);
        let (file, _) = tiny.convert(&Options { head: Head::Source, ..options }).unwrap();
        assert_eq!(types(&file).last(), source.last());
    }
}

#[test]
fn dense_and_ternary_models_have_their_own_options() {
    let ty = Options { ty: Some(Type::F16), ..Options::default() };
    let message = Tiny::bitnet().convert(&ty).unwrap_err().to_string();
    contains(&message, "the model is ternary: its matrices cannot be stored as f16");
    for layout in [Layout::I2S, Layout::T5_3] {
        let layout = Options { layout, ..Options::default() };
        let message = Tiny::gemma3().convert(&layout).unwrap_err().to_string();
        contains(&message, "the model is dense: its matrices cannot be stored in the layout");
    }
    let scan = Options { head_scan: HeadScan::Always, ..Options::default() };
    let (file, _) = Tiny::gemma3().convert(&scan).unwrap();
    assert!(Gguf::parse(&file).unwrap().tensor("output_scan.weight").is_some());
}

#[test]
fn added_tokens_without_a_row_are_left_out() {
    let mut tiny = Tiny::gemma3();
    let added = |id: u64, text: &str| json!({"id": id, "content": text, "special": true});
    let vocab: serde_json::Map<_, _> =
        (0..VOCAB - 1).map(|id| (format!("t{id}"), json!(id))).collect();
    tiny.file(
        "tokenizer.json",
        json!({
            "model": {"type": "BPE", "vocab": vocab, "merges": []},
            "added_tokens": [added(VOCAB - 1, "<bos>"), added(VOCAB, "<image>")],
        }),
    );
    let (file, report) = tiny.convert(&Options::default()).unwrap();
    let metadata = metadata(&file);
    let tokenizer = metadata.str("tokenizer.huggingface.json").unwrap().unwrap();
    assert!(tokenizer.contains("<bos>") && !tokenizer.contains("<image>"));
    contains(&report.notes.join("\n"), "no rows for the added tokens \"<image>\"");
}

#[test]
fn minicpms_factors_become_keys() {
    let mut tiny = Tiny::llama().with_dense(|i, e| (i * 100 + e) as f32 / 64.0);
    tiny.config["architectures"] = json!(["MiniCPMForCausalLM"]);
    tiny.config["model_type"] = json!("minicpm");
    tiny.config["quantization_config"] = json!(null);
    let scales = |tiny: &Tiny| {
        let file = metadata(&tiny.converted());
        ["embedding_scale", "residual_scale", "logit_scale"]
            .map(|key| file.f32(&format!("minicpm.{key}")).unwrap().unwrap())
    };
    // One layer.
    assert_eq!(scales(&tiny), [1.0, 1.0, HIDDEN as f32]);
    tiny.config["scale_emb"] = json!(12);
    tiny.config["scale_depth"] = json!(1.4);
    tiny.config["dim_model_base"] = json!(4);
    assert_eq!(scales(&tiny), [12.0, 1.4, 4.0]);
    // The rows of q are permuted as in Llama.
    let mut llama = tiny.clone();
    llama.config["architectures"] = json!(["LlamaForCausalLM"]);
    let q = "blk.0.attn_q.weight";
    assert_eq!(dense(&tiny.converted(), q), dense(&llama.converted(), q));
    tiny.config["scale_depth"] = json!(0);
    contains(&tiny.error(), "`scale_depth` is 0, expected a positive number");
    tiny.config["scale_depth"] = json!(1.4);
    tiny.config["num_experts"] = json!(8);
    contains(&tiny.error(), "`num_experts`: 8 is not supported");
}
