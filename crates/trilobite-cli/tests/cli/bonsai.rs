//! Tests of models with weights of one and two bits and a scale for each group of columns.

use std::path::Path;

use trilobite_format::{Gguf, Metadata, TensorType, Writer};
use trilobite_kernels::{DenseMatrix, DenseType, Kernels};

use crate::npy::Array;
use crate::trilobite::{command, convert, logits};

/// Name, rows and columns of the matrices.
const MATRICES: [(&str, usize, usize); 9] = [
    ("token_embd", 48, 256),
    ("blk.0.attn_q", 128, 256),
    ("blk.0.attn_k", 64, 256),
    ("blk.0.attn_v", 64, 256),
    ("blk.0.attn_output", 256, 128),
    ("blk.0.ffn_gate", 384, 256),
    ("blk.0.ffn_up", 384, 256),
    ("blk.0.ffn_down", 256, 384),
    ("output", 48, 256),
];
const NORMS: [(&str, usize); 5] = [
    ("output_norm", 256),
    ("blk.0.attn_norm", 256),
    ("blk.0.ffn_norm", 256),
    ("blk.0.attn_q_norm", 64),
    ("blk.0.attn_k_norm", 64),
];
const TOKENS: [u32; 9] = [1, 2, 3, 40, 5, 47, 0, 8, 9];
/// Tolerance of logits: the order of float sums and the precision of activations differ.
const FLOAT: f32 = 2e-4;

/// The bytes of a matrix of random codes in a type.
fn packed(ty: DenseType, matrix: usize) -> Vec<u8> {
    let (_, rows, cols) = MATRICES[matrix];
    let mut out = vec![0; rows * ty.row_len(cols).unwrap()];
    let mut state = matrix as u64 + 1;
    for byte in &mut out {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = (state >> 56) as u8;
    }
    let (block, at) = match ty {
        DenseType::Q1_0 | DenseType::Q2_0 => (18, 0),
        DenseType::PQ2_0 => (34, 0),
        _ => (28, 26),
    };
    for (i, block) in out.chunks_mut(block).enumerate() {
        if ty == DenseType::PTQ1_0 {
            // Bytes that encode five trits, then bytes that encode four.
            for (at, byte) in block[..26].iter_mut().enumerate() {
                let number = u32::from(*byte) % if at < 24 { 243 } else { 81 };
                let number = if at < 24 { number } else { 3 * number };
                *byte = (number * 256).div_ceil(243) as u8;
            }
        }
        let mut step = [0; 2];
        DenseType::F16.pack_row(&[0.02 + (i % 13) as f32 / 200.0], &mut step).unwrap();
        block[at..at + 2].copy_from_slice(&step);
    }
    out
}

/// The same weights in F16.
fn widened(ty: DenseType, matrix: usize) -> Vec<u8> {
    let (_, rows, cols) = MATRICES[matrix];
    let bytes = packed(ty, matrix);
    let matrix = DenseMatrix::new(ty, &bytes, rows, cols).unwrap();
    let mut out = vec![0; 2 * rows * cols];
    for (row, out) in out.chunks_mut(2 * cols).enumerate() {
        let mut wide = vec![0.0; cols];
        Kernels::best().dense_row(&matrix, row, &mut wide);
        DenseType::F16.pack_row(&wide, out).unwrap();
    }
    out
}

fn write(path: &Path, ty: TensorType, tied: bool, bytes: impl Fn(usize) -> Vec<u8>) {
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", "qwen3");
    for (key, value) in [
        ("block_count", 1u32),
        ("context_length", 64),
        ("embedding_length", 256),
        ("feed_forward_length", 384),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
        ("attention.key_length", 64),
        ("attention.value_length", 64),
    ] {
        metadata.insert(format!("qwen3.{key}"), value);
    }
    metadata.insert("qwen3.attention.layer_norm_rms_epsilon", 1e-6f32);
    metadata.insert("qwen3.rope.freq_base", 1e6f32);
    let matrices = || MATRICES.iter().enumerate().filter(|(_, m)| !(tied && m.0 == "output"));
    let shape = |rows: usize, cols: usize| vec![rows as u64, cols as u64];
    let index = matrices()
        .map(|(_, (name, rows, cols))| (format!("{name}.weight"), ty, shape(*rows, *cols)));
    let norms =
        NORMS.map(|(name, len)| (format!("{name}.weight"), TensorType::F32, vec![len as u64]));
    let index = index.chain(norms).collect();
    let mut writer = Writer::new(Vec::new(), &metadata, index).unwrap();
    for (i, (name, ..)) in matrices() {
        writer.tensor(&format!("{name}.weight"), &bytes(i)).unwrap();
    }
    for (name, len) in NORMS {
        writer.tensor(&format!("{name}.weight"), &1f32.to_le_bytes().repeat(len)).unwrap();
    }
    std::fs::write(path, writer.finish().unwrap()).unwrap();
}

/// The reference is float products of the same weights.
#[test]
fn models_of_one_and_two_bits_compute_what_their_floats_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (small, floats, converted) = (path("small.gguf"), path("floats.gguf"), path("out.gguf"));
    for (ty, dense) in [
        (TensorType::Q1_0, DenseType::Q1_0),
        (TensorType::Q2_0, DenseType::Q2_0),
        (TensorType::Pq2_0, DenseType::PQ2_0),
        (TensorType::Ptq1_0, DenseType::PTQ1_0),
    ] {
        for tied in [false, true] {
            write(&small, ty, tied, |i| packed(dense, i));
            write(&floats, TensorType::F16, tied, |i| widened(dense, i));
            let found = logits(&small, &TOKENS, &[], &[]).unwrap();
            let expected = logits(&floats, &TOKENS, &[], &[]).unwrap();
            let (values, reference) = (Array::parse(&found), Array::parse(&expected));
            let (values, reference) = (values.unwrap().values, reference.unwrap().values);
            assert_eq!(values.len(), reference.len());
            for (a, b) in values.iter().zip(&reference) {
                assert!((a - b).abs() <= FLOAT, "{ty}: {a}, not {b}");
            }
            // The conversion, other kernels and other numbers of threads give the same bits.
            convert(&small, &converted).unwrap();
            let bytes = std::fs::read(&converted).unwrap();
            let gguf = Gguf::parse(&bytes).unwrap();
            assert_eq!(gguf.tensor("blk.0.ffn_down.weight").unwrap().ty, ty);
            assert!(logits(&converted, &TOKENS, &["-t", "2"], &[]).unwrap() == found, "{ty}");
            let scalar = [("TRILOBITE_ISA", "scalar")];
            assert!(logits(&small, &TOKENS, &["-t", "1"], &scalar).unwrap() == found, "{ty}");
            std::fs::remove_file(&converted).unwrap();
        }
    }
}

#[test]
fn files_whose_layout_is_unknown_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (source, out) = (folder.path().join("m.gguf"), folder.path().join("out.gguf"));
    write(&source, TensorType::Q2_0, true, |i| packed(DenseType::Q2_0, i));
    let mut bytes = std::fs::read(&source).unwrap();
    // Moves the first tensor by the alignment, so that its distance fits no layout.
    let at = bytes.windows(17).position(|part| part == b"token_embd.weight").unwrap();
    let offset = at + 17 + 4 + 16 + 4;
    bytes[offset..offset + 8].copy_from_slice(&32u64.to_le_bytes());
    std::fs::write(&source, bytes).unwrap();
    let output = command(["convert", "-o"]).arg(&out).arg(&source).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("type 42 of tensor \"token_embd.weight\""), "{said}");
    assert!(!out.exists());
}
