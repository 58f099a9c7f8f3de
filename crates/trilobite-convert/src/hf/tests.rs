use serde_json::json;
use trilobite_format::{Gguf, Metadata, TensorType};
use trilobite_kernels::scan;

use crate::testing::*;
use crate::{Head, HeadScan, Layout, Options, Quantize};

const ABSMEAN: Options = Options {
    layout: Layout::Auto,
    ty: None,
    head: Head::Source,
    head_scan: HeadScan::Auto,
    quantize: Some(Quantize::Absmean),
};

/// The names in the output, in the order of `PROJECTIONS`.
const OUTPUT: [&str; 7] =
    ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];

fn output(i: usize) -> String {
    format!("blk.0.{}.weight", OUTPUT[i])
}

fn metadata(file: &[u8]) -> Metadata {
    Gguf::parse(file).unwrap().metadata().clone()
}

/// Reorders `heads x 2 x half` rows to `heads x half x 2`.
fn permuted(trits: &[i8], cols: usize, heads: usize) -> Vec<i8> {
    let rows: Vec<&[i8]> = trits.chunks(cols).collect();
    let half = rows.len() / heads / 2;
    let mut out = Vec::new();
    for head in 0..heads {
        for pair in 0..half {
            for member in 0..2 {
                out.extend(rows[head * 2 * half + member * half + pair]);
            }
        }
    }
    out
}

#[test]
fn packed_weights_are_multiplied_by_their_scale() {
    let file = Tiny::bitnet().converted();
    for (i, (_, rows, cols)) in PROJECTIONS.into_iter().enumerate() {
        let expected = (trits(i as u64, rows * cols), 0.5 + i as f32 / 8.0);
        assert_eq!(ternary(&file, &output(i)), expected, "{}", output(i));
    }
    let gguf = Gguf::parse(&file).unwrap();
    assert_eq!(gguf.tensors().len(), 13);
    assert_eq!(gguf.tensor("token_embd.weight").unwrap().ty, TensorType::Bf16);
    assert_eq!(dense(&file, "output_norm.weight"), [2.0; HIDDEN as usize]);
    assert_eq!(dense(&file, "blk.0.ffn_sub_norm.weight"), [1.0; FFN as usize]);
    let metadata = gguf.metadata();
    assert_eq!(metadata.str("general.architecture").unwrap(), Some("bitnet-b1.58"));
    for (key, value) in [("embedding_length", 16), ("attention.key_length", 8), ("vocab_size", 20)]
    {
        assert_eq!(metadata.u32(&format!("bitnet-b1.58.{key}")).unwrap(), Some(value));
    }
}

#[test]
fn the_old_linear_class_divides_and_llama_permutes() {
    let file = Tiny::llama().converted();
    for (i, (_, rows, cols)) in PROJECTIONS.into_iter().enumerate() {
        let mut expected = trits(i as u64, rows * cols);
        if i < 2 {
            expected = permuted(&expected, cols as usize, 2 - i);
        }
        let scale = 1.0 / (0.5 + i as f32 / 8.0);
        assert_eq!(ternary(&file, &output(i)), (expected, scale), "{}", output(i));
    }
    assert_eq!(dense(&file, "output.weight")[1], 3.0 - 1.0 / 16.0);
}

#[test]
fn a_scale_that_multiplies_weights_multiplies_their_bias() {
    let mut tiny = Tiny::bitnet();
    tiny.config["attention_bias"] = json!(true);
    let bias = |i: usize, rows: u64| (0..rows).map(move |r| i as f32 - r as f32 / 8.0);
    for (i, (name, rows, _)) in PROJECTIONS.into_iter().take(4).enumerate() {
        let values: Vec<f32> = bias(i, rows).collect();
        tiny.set(block(name) + ".bias", "BF16", &[rows], bf16s(&values));
    }
    let check = |tiny: &Tiny, factor: fn(usize) -> f32| {
        let file = tiny.converted();
        for (i, (name, rows, _)) in PROJECTIONS.into_iter().take(4).enumerate() {
            let expected: Vec<f32> = bias(i, rows).map(|value| value * factor(i)).collect();
            assert_eq!(dense(&file, &format!("blk.0.{}.bias", OUTPUT[i])), expected, "{name}");
        }
    };
    let scale = |i| 0.5 + i as f32 / 8.0;
    check(&tiny, scale);
    let mut large = tiny.clone();
    large.get(&block("self_attn.q_proj.weight_scale")).2 = bf16s(&[3.0]);
    large.get(&block("self_attn.q_proj.bias")).2[2..4].copy_from_slice(&bf16s(&[3e38]));
    contains(&large.error(), "at element 1, which times weight_scale 3 is beyond the range of F32");
    let mut excluded = tiny.clone();
    excluded.config["quantization_config"]["modules_to_not_convert"] = json!(["v_proj", "lm_head"]);
    excluded.set(block("self_attn.v_proj.weight"), "BF16", &[8, HIDDEN], bf16s(&[0.5; 128]));
    excluded.tensors.retain(|(name, _)| !name.ends_with("v_proj.weight_scale"));
    check(&excluded, |i| if i == 2 { 1.0 } else { 0.5 + i as f32 / 8.0 });
    // The class that divides adds the bias last, and so does the mode without a stored scale.
    let mut divided = tiny.clone();
    divided.config["quantization_config"]["linear_class"] = json!("bitlinear");
    check(&divided, |_| 1.0);
    let mut online = tiny.with_dense(|_, e| e as f32 - 50.0);
    online.config["quantization_config"]["quantization_mode"] = json!("online");
    check(&online, |_| 1.0);
}

#[test]
fn ternary_weights_may_be_stored_as_numbers() {
    let mut tiny = Tiny::bitnet();
    let weights: Vec<f32> = trits(0, 256).into_iter().map(f32::from).collect();
    tiny.set(block("self_attn.q_proj.weight"), "BF16", &[16, 16], bf16s(&weights));
    let bytes = trits(1, 128).into_iter().map(|t| t as u8).collect();
    tiny.set(block("self_attn.k_proj.weight"), "I8", &[8, 16], bytes);
    assert_eq!(tiny.converted(), Tiny::bitnet().converted());

    tiny.get(&block("self_attn.q_proj.weight")).2[2 * 35 + 1] = 0x40;
    contains(
        &tiny.error(),
        "model.safetensors: tensor model.layers.0.self_attn.q_proj.weight is said to be ternary, \
         but holds",
    );
    contains(&tiny.error(), "at row 2, column 3");
}

#[test]
fn masters_are_quantised_by_their_mean_magnitude() {
    let mut tiny = Tiny::bitnet().with_dense(|i, e| (e as f32 - 100.0) * 0.01 * (i + 1) as f32);
    tiny.config["quantization_config"]["quantization_mode"] = json!("online");
    let file = tiny.converted();
    let mean = (0..256).map(|e| ((e as f32 - 100.0) * 0.01).abs() as f64).sum::<f64>() / 256.0;
    let (trits, scale) = ternary(&file, "blk.0.attn_q.weight");
    assert!((f64::from(scale) - mean).abs() < 1e-6);
    for (e, trit) in trits.into_iter().enumerate() {
        let ratio = (e as f32 - 100.0) * 0.01 / scale;
        assert_eq!(f32::from(trit), ratio.round_ties_even().clamp(-1.0, 1.0), "{e}");
    }
}

#[test]
fn checkpoints_of_1bitllm_are_known_by_their_class() {
    let mut tiny = Tiny::bitnet().with_dense(|_, e| e as f32 - 50.0);
    tiny.config["architectures"] = json!(["BitnetForCausalLM"]);
    tiny.config["model_type"] = json!("llama");
    tiny.config["hidden_act"] = json!("silu");
    tiny.config.as_object_mut().unwrap().remove("quantization_config");
    tiny.rename(&block("self_attn.attn_sub_norm.weight"), &block("self_attn.inner_attn_ln.weight"));
    tiny.rename(&block("mlp.ffn_sub_norm.weight"), &block("mlp.ffn_layernorm.weight"));
    let file = tiny.converted();
    assert_eq!(metadata(&file).str("general.architecture").unwrap(), Some("bitnet"));
    assert_eq!(ternary(&file, "blk.0.attn_q.weight").0[0], -1);
    // As a Llama model it would lose its norms and its quantisation.
    tiny.config["architectures"] = json!(["LlamaForCausalLM"]);
    contains(&tiny.error(), "unexpected tensor model.layers.0.mlp.ffn_layernorm.weight");
}

#[test]
fn dense_llamas_are_quantised_only_when_told() {
    let mut tiny = Tiny::llama();
    tiny.config.as_object_mut().unwrap().remove("quantization_config");
    let mut ternary_dense =
        tiny.clone().with_dense(|i, e| f32::from(trits(i as u64, 400)[e]) * 0.3125);
    let masters = tiny.with_dense(|_, e| e as f32 - 50.0);
    let untouched = dense(&ternary_dense.converted(), "blk.0.ffn_up.weight");
    let weights: Vec<f32> = trits(5, 384).iter().map(|&t| f32::from(t) * 0.3125).collect();
    assert_eq!(untouched, weights);
    let mut bitnet = Tiny::bitnet().with_dense(|_, _| 1.0);
    bitnet.config.as_object_mut().unwrap().remove("quantization_config");
    let message = bitnet.error();
    contains(&message, "config.json: nothing says that the dense tensor");
    contains(&message, "model.layers.0.self_attn.q_proj.weight (F32)");
    contains(&message, "nothing says that the dense tensor");

    let (file, report) = ternary_dense.convert(&ABSMEAN).unwrap();
    assert_eq!(ternary(&file, "blk.0.ffn_up.weight"), (trits(5, 400)[..384].to_vec(), 0.3125));
    assert_eq!(report.notes.last().unwrap(), "7 dense projections were ternary and kept exactly");
    let (_, report) = masters.convert(&ABSMEAN).unwrap();
    assert_eq!(report.notes.last().unwrap(), "7 dense projections were quantised by absmean");

    ternary_dense.config["is_bitnet_config"] = json!(true);
    let (stated, report) = ternary_dense.convert(&Options::default()).unwrap();
    assert_eq!(ternary(&stated, "blk.0.ffn_up.weight"), ternary(&file, "blk.0.ffn_up.weight"));
    assert_eq!(report.notes.last().unwrap(), "7 dense projections were ternary and kept exactly");
}

#[test]
fn modules_that_are_not_to_be_converted_stay_dense() {
    let mut tiny = Tiny::llama();
    tiny.config["quantization_config"]["modules_to_not_convert"] = json!(["q_proj", "lm_head"]);
    contains(&tiny.error(), "q_proj.weight has type U8, expected BF16, F16 or F32");
    let weights: Vec<f32> = (0..256).map(|e| (e / 16) as f32).collect();
    tiny.set(block("self_attn.q_proj.weight"), "BF16", &[16, 16], bf16s(&weights));
    contains(&tiny.error(), "unexpected tensor model.layers.0.self_attn.q_proj.weight_scale");
    tiny.tensors.retain(|(name, _)| !name.ends_with("q_proj.weight_scale"));
    let (file, report) = tiny.convert(&Options::default()).unwrap();
    let first: Vec<f32> = dense(&file, "blk.0.attn_q.weight").into_iter().step_by(16).collect();
    let heads = [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15];
    assert_eq!(first, heads.map(|row| row as f32));
    contains(&report.notes[0], "modules_to_not_convert keeps 1 projections dense");
}

/// A model of eleven layers, where `dense` says which are stored dense.
fn eleven_layers(mut tiny: Tiny, dense: fn(u64) -> bool) -> Tiny {
    tiny.config["num_hidden_layers"] = json!(11);
    let rest = tiny.tensors.iter().filter(|(name, _)| !name.starts_with(&block(""))).cloned();
    let mut all: Vec<_> = rest.collect();
    for layer in 0..11 {
        let mut one = if dense(layer) { tiny.clone().with_dense(|_, _| 0.3) } else { tiny.clone() };
        one.tensors.retain(|(name, _)| name.starts_with(&block("")));
        let renamed = |(name, tensor): (String, _)| {
            (name.replacen("layers.0", &format!("layers.{layer}"), 1), tensor)
        };
        all.extend(one.tensors.into_iter().map(renamed));
    }
    tiny.tensors = all;
    tiny
}

#[test]
fn stored_weights_tell_which_layers_a_number_means() {
    let kept = |tiny: &Tiny| {
        let file = tiny.converted();
        let gguf = Gguf::parse(&file).unwrap();
        let is_dense = |layer: &u64| {
            let name = format!("blk.{layer}.ffn_up.weight");
            gguf.tensor(&name).unwrap().ty == TensorType::F32
        };
        (0..11).filter(is_dense).collect::<Vec<u64>>()
    };
    let list = |tiny: &mut Tiny, name: &str| {
        tiny.config["quantization_config"]["modules_to_not_convert"] = json!([name, "lm_head"]);
    };
    // The layer itself, and all whose numbers begin alike, as transformers reads the entry.
    let mut one = eleven_layers(Tiny::llama(), |layer| layer == 1);
    let mut both = eleven_layers(Tiny::llama(), |layer| [1, 10].contains(&layer));
    for name in ["model.layers.1", "layers.1", "model.layers.1.", "layers.1."] {
        list(&mut one, name);
        assert_eq!(kept(&one), [1], "{name}");
    }
    for name in ["model.layers.1", "layers.1"] {
        list(&mut both, name);
        assert_eq!(kept(&both), [1, 10], "{name}");
    }
    // Transformers 4 does not convert what is inside such a module, transformers 5 does.
    for (tiny, dense) in [(Tiny::llama(), false), (Tiny::llama().with_dense(|_, _| 0.3), true)] {
        let mut tiny = eleven_layers(tiny, |_| false);
        tiny.config["quantization_config"]["modules_to_not_convert"] =
            json!(["mlp", "self_attn", "lm_head"]);
        assert_eq!(kept(&tiny).len(), if dense { 11 } else { 0 });
    }
    // A packed layer that is named with a dot after it is a contradiction.
    list(&mut one, "model.layers.2");
    contains(&one.error(), "model.layers.1.self_attn.q_proj.weight_scale is missing");
    one.config["quantization_config"]["modules_to_not_convert"] =
        json!(["model.layers.1", "model.layers.2", "lm_head"]);
    contains(&one.error(), "model.layers.2.self_attn.q_proj.weight has type U8, expected BF16");
    // Master weights do not tell, but the norms of their inputs do.
    let mut online = eleven_layers(Tiny::bitnet().with_dense(|_, e| e as f32 - 50.0), |_| false);
    online.config["quantization_config"]["quantization_mode"] = json!("online");
    list(&mut online, "model.layers.1");
    assert_eq!(kept(&online), [1, 10]);
    online.config["quantization_config"]["use_rms_norm"] = json!(true);
    for layer in (0..11).filter(|layer| *layer != 1) {
        for (name, _, cols) in PROJECTIONS {
            let norm = f32s(&vec![0.5; cols as usize]);
            online.set(
                format!("model.layers.{layer}.{name}.rms_norm.weight"),
                "F32",
                &[cols],
                norm,
            );
        }
    }
    assert_eq!(kept(&online), [1]);
}

#[test]
fn a_head_that_is_not_excluded_is_ternary() {
    let mut tiny = Tiny::llama();
    tiny.config["quantization_config"]["modules_to_not_convert"] = json!([]);
    let (_, report) = tiny.convert(&Options::default()).unwrap();
    contains(&report.notes[0], "lm_head.weight is dense, though modules_to_not_convert lacks it");
    tiny.rename("lm_head.weight", "old");
    tiny.tensors.retain(|(name, _)| name != "old");
    tiny.tensors.push(("lm_head.weight".to_owned(), pack(&trits(9, 320), 20, 16)));
    tiny.set("lm_head.weight_scale", "F32", &[1], f32s(&[4.0]));
    let file = tiny.converted();
    assert_eq!(ternary(&file, "output.weight"), (trits(9, 320), 0.25));
    let q8 = Options { head: Head::Q8_0, ..Options::default() };
    let (_, report) = tiny.convert(&q8).unwrap();
    contains(&report.notes[0], "output.weight is ternary and stays so");
}

#[test]
fn a_tied_head_may_be_repeated_but_not_differ() {
    let mut tiny = Tiny::bitnet();
    let plain = tiny.converted();
    let mut head = tiny.get("model.embed_tokens.weight").clone();
    tiny.set("lm_head.weight", "BF16", &head.1, head.2.clone());
    let (file, report) = tiny.convert(&Options::default()).unwrap();
    assert_eq!(file, plain);
    contains(&report.notes[0], "lm_head.weight repeats the embedding");
    head.2[7] ^= 1;
    tiny.set("lm_head.weight", "BF16", &head.1, head.2);
    contains(&tiny.error(), "lm_head.weight differs from the embedding");
    let mut neither = Tiny::bitnet();
    neither.tensors.retain(|(name, _)| name != "model.embed_tokens.weight");
    contains(&neither.error(), "tensor model.embed_tokens.weight is missing");
    // If the file does not say, an explicit head is untied.
    tiny.config.as_object_mut().unwrap().remove("tie_word_embeddings");
    assert!(Gguf::parse(&tiny.converted()).unwrap().tensor("output.weight").is_some());
}

#[test]
fn heads_are_stored_in_the_type_asked_for() {
    let tiny = Tiny::bitnet();
    let with = |head| tiny.convert(&Options { head, ..Options::default() });
    let ty = |file: &[u8]| Gguf::parse(file).unwrap().tensor("token_embd.weight").unwrap().ty;
    let source = dense(&tiny.converted(), "token_embd.weight");
    let (file, report) = with(Head::F32).unwrap();
    assert_eq!((ty(&file), dense(&file, "token_embd.weight")), (TensorType::F32, source));
    contains(&report.notes[0], "token_embd.weight was stored as F32 exactly; it was BF16");
    let (file, report) = with(Head::F16).unwrap();
    assert_eq!(ty(&file), TensorType::F16);
    contains(&report.notes[0], "with rounding");
    // Rows of 16 are not whole blocks of Q8_0.
    contains(&with(Head::Q8_0).unwrap_err().to_string(), "cannot be stored as Q8_0");

    let mut large = Tiny::bitnet();
    large.get("model.embed_tokens.weight").2[..2].copy_from_slice(&bf16s(&[1e5]));
    let f16 = Options { head: Head::F16, ..Options::default() };
    let message = large.convert(&f16).unwrap_err().to_string();
    contains(&message, "token_embd.weight cannot be stored as F16: it holds 99840, beyond");
}

#[test]
fn shapes_that_i2_s_cannot_hold_are_padded_or_refused() {
    let mut tiny = Tiny::bitnet();
    tiny.config["num_attention_heads"] = json!(1);
    tiny.config["head_dim"] = json!(4);
    for (name, rows, cols) in
        [("q_proj", 4, 16), ("k_proj", 4, 16), ("v_proj", 4, 16), ("o_proj", 16, 4)]
    {
        let name = block(&format!("self_attn.{name}.weight"));
        *tiny.get(&name) = pack(&trits(3, rows * cols), rows, cols);
    }
    tiny.set(block("self_attn.attn_sub_norm.weight"), "F32", &[4], f32s(&[1.0; 4]));
    let file = tiny.converted();
    let info = Gguf::parse(&file).unwrap().tensor("blk.0.attn_output.weight").unwrap().clone();
    assert_eq!((info.ty, info.range.len()), (TensorType::I2R, 16 * 32 + 32));
    assert_eq!(ternary(&file, "blk.0.attn_output.weight").0, trits(3, 64));
    let strict = Options { layout: Layout::I2S, ..Options::default() };
    contains(
        &tiny.convert(&strict).unwrap_err().to_string(),
        "blk.0.attn_q.weight of shape [4, 16] cannot be stored as I2_S",
    );
}

#[test]
fn what_does_not_fit_is_named() {
    type Change = fn(&mut Tiny);
    let cases: [(Change, &str); 30] = [
        (
            |t| t.config["hidden_act"] = json!("gelu"),
            "`hidden_act` is \"gelu\", expected \"relu2\" or \"silu\"",
        ),
        (|t| t.config["architectures"] = json!(["Qwen3MoeForCausalLM"]), "Qwen3MoeForCausalLM"),
        (
            |t| t.config["hidden_size"] = json!(null),
            "embed_tokens.weight has shape [20, 16], expected [20, 2560]",
        ),
        (|t| t.config["hidden_size"] = json!(-16), "`hidden_size` is -16"),
        (|t| t.config["hidden_size"] = json!(1u64 << 40), "`hidden_size` is 1099511627776"),
        (|t| t.config["vocab_size"] = json!("many"), "`vocab_size` is \"many\""),
        (
            |t| t.config["vocab_size"] = json!(24),
            "embed_tokens.weight has shape [20, 16], expected [24, 16]",
        ),
        (
            |t| t.config["num_hidden_layers"] = json!(2),
            "model.layers.1.input_layernorm.weight is missing",
        ),
        (
            |t| t.config["num_key_value_heads"] = json!(3),
            "`num_key_value_heads` is 3, expected a divisor",
        ),
        (|t| t.config["head_dim"] = json!(7), "`head_dim` is 7"),
        (|t| t.config["rms_norm_eps"] = json!(-1), "`rms_norm_eps` is -1"),
        (|t| t.config["mlp_bias"] = json!(true), "`mlp_bias`: true is not supported"),
        (|t| t.config["attention_bias"] = json!(true), "q_proj.bias is missing"),
        (
            |t| t.config["quantization_config"]["quant_method"] = json!("gptq"),
            "quant_method` is \"gptq\"",
        ),
        (|t| t.config["quantization_config"]["use_rms_norm"] = json!(3), "use_rms_norm` is 3"),
        (
            |t| t.config["quantization_config"]["linear_class"] = json!("x"),
            "linear_class` is \"x\"",
        ),
        (
            |t| t.config["quantization_config"]["quantization_mode"] = json!("x"),
            "quantization_mode` is \"x\"",
        ),
        (
            |t| t.config["quantization_config"]["quantization_mode"] = json!("online"),
            "q_proj.weight has type U8",
        ),
        (
            |t| t.config["quantization_config"]["modules_to_not_convert"] = json!([".*"]),
            "plain module names",
        ),
        (
            |t| t.config["quantization_config"] = json!(null),
            "does not say how packed weights are scaled",
        ),
        (|t| t.config["eos_token_id"] = json!("</s>"), "`eos_token_id` is \"</s>\""),
        (
            |t| t.rename("model.norm.weight", "model.final_norm.weight"),
            "tensor model.norm.weight is missing",
        ),
        (
            |t| t.set("model.extra.weight", "F32", &[1], f32s(&[0.0])),
            "unexpected tensor model.extra.weight",
        ),
        (
            |t| t.tensors.retain(|(n, _)| !n.ends_with("k_proj.weight_scale")),
            "k_proj.weight_scale is missing",
        ),
        (
            |t| t.get(&block("mlp.up_proj.weight_scale")).2 = bf16s(&[f32::NAN]),
            "up_proj.weight_scale is NaN",
        ),
        (
            |t| t.get(&block("mlp.up_proj.weight_scale")).2 = bf16s(&[-1.0]),
            "up_proj.weight_scale is -1",
        ),
        (
            |t| t.get(&block("mlp.up_proj.weight_scale")).2 = bf16s(&[f32::INFINITY]),
            "weight_scale is inf",
        ),
        (
            |t| t.get(&block("mlp.up_proj.weight")).2[5] |= 0b1100,
            "has a code that stands for no weight at row 6, column 5",
        ),
        (
            |t| t.get("model.norm.weight").2[12..16].copy_from_slice(&f32s(&[f32::NAN])),
            "model.norm.weight holds NaN at element 3",
        ),
        (
            |t| {
                t.get("model.embed_tokens.weight").2[6..8].copy_from_slice(&bf16s(&[f32::INFINITY]))
            },
            "embed_tokens.weight holds inf at element 3",
        ),
    ];
    for (change, expected) in cases {
        let mut tiny = Tiny::bitnet();
        change(&mut tiny);
        contains(&tiny.error(), expected);
    }
    let mut masters =
        Tiny::bitnet().with_dense(|i, e| if (i, e) == (4, 33) { f32::NAN } else { 1.0 });
    masters.config["quantization_config"]["quantization_mode"] = json!("online");
    contains(&masters.error(), "mlp.gate_proj.weight holds NaN at element 33");
}

#[test]
fn a_coarse_head_is_a_copy_of_the_stored_head() {
    let with = |tiny: &Tiny, options: &Options| tiny.convert(options).unwrap();
    let always = Options { head_scan: HeadScan::Always, ..Options::default() };
    for (tiny, head) in [(Tiny::bitnet(), "token_embd.weight"), (Tiny::llama(), "output.weight")] {
        let (plain, plain_report) = with(&tiny, &Options::default());
        for options in
            [always, Options { head: Head::F32, ..always }, Options { head: Head::F16, ..always }]
        {
            let (file, report) = with(&tiny, &options);
            let gguf = Gguf::parse(&file).unwrap();
            let stored = gguf.tensor(head).unwrap();
            let stored: Vec<f32> = match options.head {
                Head::F16 => {
                    let halves = stored.bytes(&file).as_chunks().0.iter();
                    halves.map(|&b| half::f16::from_le_bytes(b).to_f32()).collect()
                }
                _ => dense(&file, head),
            };
            let cols = HIDDEN as usize;
            let part = |part: &str| {
                let tensor = gguf.tensor(&format!("output_scan.{part}")).unwrap();
                (tensor.shape.clone(), tensor.bytes(&file))
            };
            let (codes, refinements, bounds) = (part("weight"), part("refine"), part("bounds"));
            let lens = [scan::code_bytes(cols), scan::refinement_bytes(cols)];
            let rows = VOCAB as usize;
            assert_eq!(codes.0, [VOCAB, lens[0] as u64]);
            assert_eq!(refinements.0, [scan::REFINEMENTS as u64, VOCAB, lens[1] as u64]);
            assert_eq!(bounds.0, [scan::Bounds::COUNT as u64, VOCAB]);
            let bounds = scan::RowBounds::new(bounds.1);
            let factors = dense(&file, "output_scan.factors");
            assert_eq!(factors.len(), cols);
            for (r, row) in stored.chunks(cols).enumerate() {
                let expected = scan::bounds(row, &factors);
                assert_eq!(bounds.row(r), expected);
                let (mut code, mut bits) = (vec![0; lens[0]], vec![0; lens[1]]);
                scan::pack(row, &factors, expected.scale, &mut code);
                assert_eq!(&codes.1[r * lens[0]..][..lens[0]], code);
                for refinement in 0..scan::REFINEMENTS {
                    scan::pack_refinement(row, &factors, expected.scale, refinement, &mut bits);
                    let at = refinement * rows + r;
                    assert_eq!(&refinements.1[at * lens[1]..][..lens[1]], bits);
                }
            }
            let weights =
                |report: &crate::Report| report.types.iter().map(|t| t.weights).sum::<u64>();
            assert_eq!(weights(&report), weights(&plain_report));
        }
        // Converting the file again recomputes the copy or leaves it out.
        let (file, _) = with(&tiny, &always);
        let files = vec![("model.gguf".to_owned(), file.clone().into())];
        let again = crate::Checkpoint::from_files(files).unwrap();
        assert!(run(&again, &always).unwrap().0 == file);
        assert!(run(&again, &Options::default()).unwrap().0 == plain);
    }
}
