//! The tail of I2_S, I2_R and T5_3 tensors, which holds the scale.

/// Weights in a block of 2-bit codes.
pub const BLOCK: usize = 128;

/// Bytes of a block of 2-bit codes.
pub const BLOCK_BYTES: usize = BLOCK / 4;

/// Rows in a tile of T5_3.
pub const TILE: usize = 32;

/// Bytes of the tail, which follows the codes: the scale as F32, then 28 zero bytes.
pub const TAIL: usize = 32;

/// The tail for a scale.
pub fn tail(scale: f32) -> [u8; TAIL] {
    let mut bytes = [0; TAIL];
    bytes[..4].copy_from_slice(&scale.to_le_bytes());
    bytes
}

/// Splits the bytes of an I2_S, I2_R or T5_3 tensor into its code bytes and its scale. `None` if
/// they are shorter than a tail.
///
/// Only the first four bytes of the tail are read, because some writers repeat the scale in the
/// rest.
pub fn split(bytes: &[u8]) -> Option<(&[u8], f32)> {
    let (codes, tail) = bytes.split_last_chunk::<TAIL>()?;
    let [a, b, c, d, ..] = *tail;
    Some((codes, f32::from_le_bytes([a, b, c, d])))
}
