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

/// The one scale of a TQ1_0 or TQ2_0 tensor, an F16, if all its blocks have it that are not all zeros:
/// then the tensor is a ternary matrix. With several scales it is a dense one, rounded block by block.
/// 0 where there are only zeros; `None` for every other type.
pub fn one_scale(ty: TensorType, bytes: &[u8]) -> Option<[u8; 2]> {
    match ty {
        TensorType::Tq1_0 => one_scale_of::<54>(bytes, |at| if at < 48 { 128 } else { 127 }),
        TensorType::Tq2_0 => one_scale_of::<66>(bytes, |_| 0b01_01_01_01),
        _ => None,
    }
}

/// The same for blocks of `N` bytes, where `zero` is each byte of the codes of zeros.
fn one_scale_of<const N: usize>(bytes: &[u8], zero: impl Fn(usize) -> u8) -> Option<[u8; 2]> {
    let blocks = bytes.as_chunks::<N>().0.iter().filter_map(|block| block.split_last_chunk::<2>());
    let is_zero = |codes: &[u8]| codes.iter().enumerate().all(|(at, byte)| *byte == zero(at));
    let Some((_, first)) = blocks.clone().find(|(codes, _)| !is_zero(codes)) else {
        return Some([0; 2]);
    };
    let agree = |(codes, scale): (&[u8], &[u8; 2])| scale == first || is_zero(codes);
    blocks.clone().all(agree).then_some(*first)
}
