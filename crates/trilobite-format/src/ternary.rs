//! The frame around the codes of I2_S, I2_R and T5_3 tensors: code bytes, then the scale. And what
//! tells a ternary matrix in llama.cpp's blocks from one that was merely rounded to trits.

use crate::TensorType;

/// Weights in a block of 2-bit codes.
pub const BLOCK: usize = 128;

/// Bytes of a block of 2-bit codes.
pub const BLOCK_BYTES: usize = BLOCK / 4;

/// Rows that T5_3 lays side by side.
pub const TILE: usize = 32;

/// Bytes behind the codes: the scale as F32, then 28 zero bytes.
pub const TAIL: usize = 32;

/// The bytes that follow the codes: `scale`, then zeros.
pub fn tail(scale: f32) -> [u8; TAIL] {
    let mut bytes = [0; TAIL];
    bytes[..4].copy_from_slice(&scale.to_le_bytes());
    bytes
}

/// Splits the bytes of an I2_S, I2_R or T5_3 tensor into its code bytes and its scale. `None` when
/// there are too few bytes for a tail. Only the first four bytes of the tail count: some writers
/// repeat the scale behind them.
pub fn split(bytes: &[u8]) -> Option<(&[u8], f32)> {
    let (codes, tail) = bytes.split_last_chunk::<TAIL>()?;
    let [a, b, c, d, ..] = *tail;
    Some((codes, f32::from_le_bytes([a, b, c, d])))
}

/// Whether all blocks of a TQ1_0 or TQ2_0 tensor that are not zero have the same scale: then the
/// tensor is a ternary matrix. With several scales it is a dense one, rounded block by block.
/// False for every other type.
pub fn has_one_scale(ty: TensorType, bytes: &[u8]) -> bool {
    let size = match ty {
        TensorType::Tq1_0 => 54,
        TensorType::Tq2_0 => 66,
        _ => return false,
    };
    let scales = bytes.chunks_exact(size).filter_map(|block| block.last_chunk::<2>());
    let mut scales = scales.filter(|scale| **scale != [0; 2]);
    scales.next().is_none_or(|first| scales.all(|scale| scale == first))
}
