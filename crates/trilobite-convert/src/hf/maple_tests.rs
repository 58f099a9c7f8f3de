use serde_json::{Value, json};
use trilobite_format::{Gguf, TensorType};
use trilobite_kernels::{DenseMatrix, DenseType, Kernels};

use crate::testing::*;
use crate::{Checkpoint, Head, HeadScan, Options, Quantize, Type};

/// The type, the shape and the weights of a tensor.
fn tensor(file: &[u8], name: &str) -> (TensorType, Vec<u64>, Vec<f32>) {
    let gguf = Gguf::parse(file).unwrap();
    let info = gguf.tensor(name).unwrap();
    let ty = match info.ty {
        TensorType::Tq2_0 => DenseType::TQ2_0,
        TensorType::Bf16 => DenseType::BF16,
        TensorType::Q8_0 => DenseType::Q8_0,
        other => panic!("{other}"),
    };
    let cols = *info.shape.last().unwrap() as usize;
    let rows = info.count() as usize / cols;
    let matrix = DenseMatrix::new(ty, info.bytes(file), rows, cols).unwrap();
    let mut weights = vec![0.0; rows * cols];
    for (row, out) in weights.chunks_exact_mut(cols).enumerate() {
        Kernels::best().dense_row(&matrix, row, out);
    }
    (info.ty, info.shape.clone(), weights)
}

#[test]
fn experts_are_stacked_and_ternary_rows_are_packed_exactly() {
    let mut tiny = Tiny::maple();
    // Experts are in the order of their numbers, not of their names.
    tiny.config["num_experts"] = json!(11);
    for expert in 2..11 {
        for name in ["gate_proj", "up_proj", "down_proj"] {
            let mut weights = Tiny::maple_rows(256, 256);
            weights.rotate_left(256 * expert);
            let name = block(&format!("mlp.experts.{expert}.{name}.weight"));
            tiny.set(name, "BF16", &[256, 256], bf16s(&weights));
        }
    }
    let router: Vec<f32> = (0..11 * 256).map(|i| i as f32 / 8.0).collect();
    tiny.set(block("mlp.gate.weight"), "BF16", &[11, 256], bf16s(&router));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.gguf");
    let options = Options { head_scan: HeadScan::Always, ..Options::default() };
    let progress = &mut crate::ignore_progress;
    crate::convert_file(&tiny.checkpoint(), &options, &path, false, progress).unwrap();
    let file = std::fs::read(path).unwrap();
    for (name, rows) in [("attn_q", 256), ("attn_k", 64), ("attn_v", 64), ("attn_output", 256)] {
        let found = tensor(&file, &format!("blk.0.{name}.weight"));
        let expected = (TensorType::Tq2_0, vec![rows, 256], Tiny::maple_rows(rows, 256));
        assert!(found == expected, "{name}");
    }
    for name in ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"] {
        let (ty, shape, weights) = tensor(&file, &format!("blk.0.{name}.weight"));
        assert_eq!((ty, shape), (TensorType::Tq2_0, vec![11, 256, 256]), "{name}");
        for (expert, weights) in weights.chunks_exact(256 * 256).enumerate() {
            let mut expected = Tiny::maple_rows(256, 256);
            expected.rotate_left(if expert < 2 { 0 } else { 256 * expert });
            assert!(weights == expected, "{name} {expert}");
        }
    }
    let (ty, shape, weights) = tensor(&file, "blk.0.ffn_gate_inp.weight");
    assert_eq!((ty, shape, weights[2815]), (TensorType::Bf16, vec![11, 256], 352.0));
    let gguf = Gguf::parse(&file).unwrap();
    for part in ["output_scan.weight", "output_scan.refine", "output_scan.bounds"] {
        assert!(gguf.tensor(part).is_some(), "{part}");
    }
    let metadata = gguf.metadata();
    for (key, value) in [
        ("maple.attention.sliding_window", 8),
        ("maple.rope.dimension_count", 32),
        ("maple.expert_count", 11),
        ("maple.expert_used_count", 1),
        ("maple.expert_feed_forward_length", 256),
        ("general.file_type", 37),
    ] {
        assert_eq!(metadata.u32(key).unwrap(), Some(value), "{key}");
    }
    assert_eq!(metadata.f32s("maple.swiglu_clamp_exp").unwrap(), Some(&[7.0][..]));
}

/// The type of the tensor `blk.0.{name}.weight` and the notes about floats, with one weight of a projection changed.
fn changed(module: &str, element: usize, weight: f32, name: &str) -> (TensorType, Vec<String>) {
    let mut tiny = Tiny::maple();
    let mut weights = Tiny::maple_rows(256, 256);
    weights[element] = weight;
    tiny.set(block(module) + ".weight", "BF16", &[256, 256], bf16s(&weights));
    let (file, report) = tiny.convert(&Options::default()).unwrap();
    let (ty, _, found) = tensor(&file, &format!("blk.0.{name}.weight"));
    let last = found.len() - weights.len();
    assert!(found[last..] == weights, "{module}");
    let notes = report.notes.into_iter().filter(|note| note.contains("stored as floats"));
    (ty, notes.collect())
}

#[test]
fn weights_that_are_not_ternary_stay_floats() {
    let zero = Tiny::maple_rows(1, 256).iter().position(|x| *x == 0.0).unwrap();
    let (ty, notes) = changed("mlp.experts.1.up_proj", zero, 0.5, "ffn_up_exps");
    assert_eq!((ty, notes.len()), (TensorType::Bf16, 1));
    assert!(notes[0].starts_with("1 projections are stored as floats"), "{notes:?}");
    assert_eq!(changed("self_attn.q_proj", zero, -0.5, "attn_q").0, TensorType::Bf16);
    // The scale of row 0 is 1/64.
    let (ty, notes) = changed("self_attn.q_proj", zero, -1.0 / 64.0, "attn_q");
    assert_eq!((ty, notes.len()), (TensorType::Tq2_0, 0));

    // A scale that f16 rounds to zero, and one beyond its range.
    for scale in [1e-30, 1e5] {
        let mut tiny = Tiny::maple();
        let weights: Vec<f32> = trits(3, 64 * 256).iter().map(|x| f32::from(*x) * scale).collect();
        tiny.set(block("self_attn.k_proj.weight"), "BF16", &[64, 256], bf16s(&weights));
        assert_eq!(tensor(&tiny.converted(), "blk.0.attn_k.weight").0, TensorType::Bf16, "{scale}");
    }
}

#[test]
fn a_requested_type_is_that_of_all_matrices_but_the_router() {
    let options = Options { ty: Some(Type::Q8_0), ..Options::default() };
    let (file, _) = Tiny::maple().convert(&options).unwrap();
    for (name, ty) in [
        ("attn_q", TensorType::Q8_0),
        ("ffn_gate_exps", TensorType::Q8_0),
        ("ffn_gate_inp", TensorType::Bf16),
    ] {
        assert_eq!(tensor(&file, &format!("blk.0.{name}.weight")).0, ty, "{name}");
    }
}

#[test]
fn an_embedding_of_four_bits_keeps_its_type() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/golden/maple_mlx");
    let checkpoint = Checkpoint::open(folder).unwrap();
    let error = |options| run(&checkpoint, &options).unwrap_err().to_string();
    let ty = Options { ty: Some(Type::Q4_0), ..Options::default() };
    contains(&error(ty), "is Q4_1; only F32, F16 and BF16 are stored as Q");
    contains(&error(Options { head: Head::F32, ..ty }), "Q4_1");
    contains(
        &error(Options { head: Head::F32, ..Options::default() }),
        "the source has it as Q4_1",
    );
}

#[test]
fn a_damaged_or_uncertain_checkpoint_is_refused() {
    let missing = |name: &str| {
        let mut tiny = Tiny::maple();
        tiny.tensors.retain(|(tensor, _)| *tensor != block(name));
        tiny.error()
    };
    contains(&missing("mlp.experts.1.down_proj.weight"), "experts.1.down_proj.weight is missing");
    contains(&missing("mlp.gate.weight"), "mlp.gate.weight is missing");
    let mut tiny = Tiny::maple();
    let name = block("mlp.experts.2.up_proj.weight");
    tiny.set(name, "BF16", &[256, 256], bf16s(&Tiny::maple_rows(256, 256)));
    contains(&tiny.error(), "unexpected tensor model.layers.0.mlp.experts.2.up_proj.weight");
    let mut tiny = Tiny::maple();
    let name = block("mlp.experts.1.up_proj.weight");
    tiny.set(name, "F32", &[256, 256], f32s(&Tiny::maple_rows(256, 256)));
    contains(&tiny.error(), "experts.1.up_proj.weight has type F32, expected BF16");

    let quantise = Options { quantize: Some(Quantize::Absmean), ..Options::default() };
    let error = Tiny::maple().convert(&quantise).unwrap_err();
    contains(&error.to_string(), "quantising a mixture of experts is not supported");
}

#[test]
fn a_configuration_that_would_be_computed_otherwise_is_refused() {
    for (key, value, part) in [
        ("layer_types", Value::Null, "`layer_types` is missing"),
        ("layer_types", json!(["chunked_attention"]), "`layer_types` is"),
        ("sliding_window", Value::Null, "`sliding_window` is missing"),
        ("sliding_window", json!(0), "`sliding_window` is 0"),
        ("use_qk_norm", json!(false), "`use_qk_norm`: false is not supported"),
        ("norm_topk_prob", json!(false), "`norm_topk_prob`: false is not supported"),
        ("nope_on_global_attention", json!(false), "`nope_on_global_attention`: false"),
        ("use_bias", json!(true), "`use_bias`: true is not supported"),
        ("num_shared_experts", json!(1), "`num_shared_experts`: 1 is not supported"),
        ("moe_router_enable_expert_bias", json!(true), "is not supported"),
        ("routed_scaling_factor", json!(2.5), "is not supported"),
        ("router_dtype", json!("bf16"), "is not supported"),
        ("swiglu_limit", json!(6.0), "is not supported"),
        ("hidden_act", json!("gelu"), "`hidden_act` is \"gelu\""),
        ("num_experts", json!(0), "`num_experts` is 0"),
        (
            "num_experts_per_tok",
            json!(3),
            "`num_experts_per_tok` is 3, expected an integer from 1 to 2",
        ),
        (
            "partial_rotary_factor",
            json!(0.05),
            "`partial_rotary_factor` is 0.05, which means 3, expected an even",
        ),
        (
            "partial_rotary_factor",
            json!(1.5),
            "`partial_rotary_factor` is 1.5, which means 96, expected an even",
        ),
        ("rope_scaling", json!({"rope_type": "linear", "factor": 2.0}), "is not supported"),
        ("quantization_config", json!({"quant_method": "bitnet"}), "is not supported"),
    ] {
        let mut tiny = Tiny::maple();
        tiny.config[key] = value;
        contains(&tiny.error(), part);
    }
    // What has no effect, and what other programs write.
    let mut tiny = Tiny::maple();
    for (key, value) in [
        ("swiglu_limit", json!(7.0)),
        ("intermediate_size", json!(5120)),
        ("partial_rotary_factor", json!(0.25)),
        ("router_dtype", json!("fp32")),
        ("quantize", json!(true)),
        ("head_dim", json!(null)),
    ] {
        tiny.config[key] = value;
    }
    let file = tiny.converted();
    let metadata = Gguf::parse(&file).unwrap().metadata().clone();
    assert_eq!(metadata.u32("maple.rope.dimension_count").unwrap(), Some(16));
}
