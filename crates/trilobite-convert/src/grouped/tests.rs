use serde_json::json;
use trilobite_format::{Gguf, Outlier, TensorType};
use trilobite_kernels::{DenseMatrix, Kernels};

use crate::blocks::blocks;
use crate::testing::*;
use crate::{Checkpoint, Options, Type};

/// The width of the model.
const WIDTH: u64 = 256;

/// Name, rows and columns of the matrices.
const MATRICES: [(&str, &str, u64, u64); 9] = [
    ("model.embed_tokens", "token_embd", 20, WIDTH),
    ("model.layers.0.self_attn.q_proj", "blk.0.attn_q", 128, WIDTH),
    ("model.layers.0.self_attn.k_proj", "blk.0.attn_k", 64, WIDTH),
    ("model.layers.0.self_attn.v_proj", "blk.0.attn_v", 64, WIDTH),
    ("model.layers.0.self_attn.o_proj", "blk.0.attn_output", WIDTH, 128),
    ("model.layers.0.mlp.gate_proj", "blk.0.ffn_gate", 384, WIDTH),
    ("model.layers.0.mlp.up_proj", "blk.0.ffn_up", 384, WIDTH),
    ("model.layers.0.mlp.down_proj", "blk.0.ffn_down", WIDTH, 384),
    ("lm_head", "output", 20, WIDTH),
];

fn f16s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect()
}

/// The scale of a group: any F16.
fn scale_of(group: usize) -> f32 {
    half::f16::from_f32(0.01 + (group * 37 % 101) as f32 / 300.0).to_f32()
}

/// The trits of a matrix, with a scale for so many columns.
fn weights(matrix: usize, group: u64) -> Vec<f32> {
    let (.., rows, cols) = MATRICES[matrix];
    let trits = trits(matrix as u64 + 1, rows * cols);
    let group = group.min(cols) as usize;
    trits.iter().enumerate().map(|(i, trit)| f32::from(*trit) * scale_of(i / group)).collect()
}

/// A checkpoint whose matrices have these F16 weights.
fn tiny(weights: impl Fn(usize) -> Vec<f32>) -> Tiny {
    let mut tiny = Tiny::qwen3();
    for (key, value) in
        [("hidden_size", WIDTH), ("intermediate_size", 384), ("head_dim", 64), ("vocab_size", 20)]
    {
        tiny.config[key] = json!(value);
    }
    tiny.tensors.clear();
    for (name, len) in [
        ("model.layers.0.input_layernorm", WIDTH),
        ("model.layers.0.post_attention_layernorm", WIDTH),
        ("model.layers.0.self_attn.q_norm", 64),
        ("model.layers.0.self_attn.k_norm", 64),
        ("model.norm", WIDTH),
    ] {
        tiny.set(format!("{name}.weight"), "F16", &[len], f16s(&vec![1.0; len as usize]));
    }
    for (i, (name, _, rows, cols)) in MATRICES.into_iter().enumerate() {
        tiny.set(format!("{name}.weight"), "F16", &[rows, cols], f16s(&weights(i)));
    }
    tiny
}

/// The type of a matrix, its weights with outliers, and the number of those.
fn stored(file: &[u8], matrix: usize) -> (TensorType, Vec<f32>, usize) {
    let gguf = Gguf::parse(file).unwrap();
    let (_, name, rows, cols) = MATRICES[matrix];
    let (rows, cols) = (rows as usize, cols as usize);
    let info = gguf.tensor(&format!("{name}.weight")).unwrap();
    if info.ty == TensorType::F16 {
        let halves = info.bytes(file).as_chunks().0.iter();
        let weights = halves.map(|&b| half::f16::from_le_bytes(b).to_f32()).collect();
        return (info.ty, weights, 0);
    }
    let packed = DenseMatrix::new(blocks(info.ty).unwrap(), info.bytes(file), rows, cols).unwrap();
    let mut weights = vec![0.0; rows * cols];
    for (row, out) in weights.chunks_mut(cols).enumerate() {
        Kernels::best().dense_row(&packed, row, out);
    }
    let outliers = gguf.tensor(&format!("{name}.outliers"));
    let outliers =
        outliers.map_or(Vec::new(), |info| Outlier::read(info.bytes(file), rows, cols).unwrap());
    for outlier in &outliers {
        let weight = &mut weights[outlier.row as usize * cols + outlier.col as usize];
        assert_eq!(*weight, 0.0);
        *weight = outlier.value;
    }
    (info.ty, weights, outliers.len())
}

#[test]
fn matrices_with_scales_for_groups_are_packed_exactly() {
    use TensorType::{F16, Pq2_0, Q1_0, Q2_0};
    for (group, ty) in [(128, Pq2_0), (64, Q2_0), (384, Pq2_0), (32, F16)] {
        let file = tiny(|i| weights(i, group)).converted();
        for matrix in 0..MATRICES.len() {
            let (found, values, outliers) = stored(&file, matrix);
            // The rows of some matrices are no longer than 128 or 256.
            assert_eq!((found, outliers), (ty, 0), "{group}: {matrix}");
            assert_eq!(values, weights(matrix, group), "{group}: {matrix}");
        }
    }
    let signs = |i: usize| -> Vec<f32> {
        let sign = |(at, weight): (usize, &f32)| {
            let scale = scale_of(at / 128);
            if *weight > 0.0 { scale } else { -scale }
        };
        weights(i, 128).iter().enumerate().map(sign).collect()
    };
    let file = tiny(signs).converted();
    assert_eq!(stored(&file, 3), (Q1_0, signs(3), 0));
}

#[test]
fn outliers_are_kept_beside() {
    let mut changed = tiny(|i| weights(i, 128));
    let mut expected = weights(2, 128);
    (expected[0], expected[300], expected[301]) = (7.5, -0.001, -2.0 * scale_of(2));
    (expected[5], expected[6]) = (-0.0, 2.0 * scale_of(0));
    let expected: Vec<f32> = expected.iter().map(|w| half::f16::from_f32(*w).to_f32()).collect();
    changed.get(&format!("{}.weight", MATRICES[2].0)).2 = f16s(&expected);
    // A matrix of anything stays as it is.
    let other: Vec<f32> = (0..64 * WIDTH).map(|i| (i * i % 997) as f32 / 256.0).collect();
    changed.get(&format!("{}.weight", MATRICES[3].0)).2 = f16s(&other);
    let (file, report) = changed.convert(&Options::default()).unwrap();
    assert_eq!(stored(&file, 2), (TensorType::Pq2_0, expected.clone(), 3));
    assert_eq!(stored(&file, 3).0, TensorType::F16);
    for note in ["8 matrices have a scale", "3 of their weights are no", "1 other matrices"] {
        assert!(report.notes.iter().any(|found| found.starts_with(note)), "{:?}", report.notes);
    }
    // A file with outliers can be converted again.
    let of_gguf = |file: &[u8]| {
        let files = vec![("m.gguf".to_owned(), file.to_vec().into())];
        run(&Checkpoint::from_files(files).unwrap(), &Options::default())
    };
    assert_eq!(stored(&of_gguf(&file).unwrap().0, 2), (TensorType::Pq2_0, expected, 3));
    // Outliers out of order.
    let gguf = Gguf::parse(&file).unwrap();
    let place = gguf.tensor("blk.0.attn_k.outliers").unwrap().range.clone();
    let mut damaged = file.clone();
    damaged[place.start] = 2;
    let error = of_gguf(&damaged).map(|_| ()).unwrap_err();
    contains(&error.to_string(), "outlier 1 of blk.0.attn_k.outliers");
}

#[test]
fn other_models_and_types_that_are_asked_for_are_left_alone() {
    // Too few matrices fit.
    let of_two = |i: usize| match i {
        0 | 1 => weights(i, 128),
        _ => weights(i, 128).iter().enumerate().map(|(at, w)| w * (at % 91) as f32).collect(),
    };
    let file = tiny(of_two).converted();
    assert!((0..MATRICES.len()).all(|i| stored(&file, i).0 == TensorType::F16));
    let asked = Options { ty: Some(Type::F16), ..Options::default() };
    let file = tiny(|i| weights(i, 128)).convert(&asked).unwrap().0;
    assert!((0..MATRICES.len()).all(|i| stored(&file, i).0 == TensorType::F16));
}

/// A checkpoint of MLX with random codes, 3 among them, and what its weights are.
fn mlx(group: u64) -> (Tiny, Vec<Vec<f32>>) {
    let mut tiny = tiny(|i| weights(i, 128));
    tiny.config["quantization"] = json!({"group_size": group, "bits": 2});
    tiny.config["quantization_config"] = tiny.config["quantization"].clone();
    let mut all = Vec::new();
    for (i, (name, _, rows, cols)) in MATRICES.into_iter().enumerate() {
        let codes: Vec<u8> =
            (0..rows * cols).map(|at| (at * at % 11 % 4) as u8 ^ i as u8 & 1).collect();
        let bytes = codes.chunks(4).map(|c| c[0] | c[1] << 2 | c[2] << 4 | c[3] << 6).collect();
        let scales: Vec<f32> = (0..(rows * cols / group) as usize).map(scale_of).collect();
        let biases: Vec<f32> = scales.iter().map(|scale| -scale).collect();
        tiny.set(format!("{name}.weight"), "U32", &[rows, cols / 16], bytes);
        tiny.set(format!("{name}.scales"), "F16", &[rows, cols / group], f16s(&scales));
        tiny.set(format!("{name}.biases"), "F16", &[rows, cols / group], f16s(&biases));
        let weight =
            |(at, code): (usize, &u8)| (f32::from(*code) - 1.0) * scales[at / group as usize];
        all.push(codes.iter().enumerate().map(weight).collect());
    }
    (tiny, all)
}

#[test]
fn matrices_of_mlx_keep_their_codes() {
    for (group, ty) in [(64, TensorType::Q2_0), (128, TensorType::Pq2_0)] {
        let (tiny, expected) = mlx(group);
        let file = tiny.converted();
        for (matrix, expected) in expected.into_iter().enumerate() {
            assert_eq!(stored(&file, matrix), (ty, expected, 0), "{group}: {matrix}");
        }
    }
    let (good, _) = mlx(64);
    let mut bad = good.clone();
    bad.get("model.layers.0.mlp.up_proj.biases").2[2..4].copy_from_slice(&[0, 0x38]);
    contains(&bad.error(), "group 1 of model.layers.0.mlp.up_proj.scales has the scale");
    let mut bad = good.clone();
    bad.config["quantization"]["bits"] = json!(4);
    contains(&bad.error(), "`quantization.bits` is 4, expected 2");
    let mut bad = good.clone();
    bad.config["quantization"]["group_size"] = json!(32);
    contains(&bad.error(), "`quantization.group_size` is 32");
    let mut bad = good;
    bad.tensors.retain(|(name, _)| name != "lm_head.biases");
    contains(&bad.error(), "lm_head.biases is missing");
}
