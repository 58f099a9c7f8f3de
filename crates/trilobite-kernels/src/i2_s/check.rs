//! Checks of packed codes without unpacking.

use super::{BLOCK, BLOCK_BYTES, ZERO_BLOCK};

/// Number of bytes between two checks of the result.
const PIECE: usize = 4096;

/// The first element, in the order of the bytes, whose code is 3.
pub(crate) fn find_invalid(packed: &[u8]) -> Option<usize> {
    // Sets the lower bit of each code that has both bits set.
    let invalid = |byte: u8| byte & byte >> 1 & 0b01_01_01_01;
    // Without a branch, so that the loop is vectorised.
    let any = |bytes: &[u8]| bytes.iter().fold(0, |found, byte| found | invalid(*byte)) != 0;
    let piece = packed.chunks(PIECE).position(any)? * PIECE;
    let at = piece + packed[piece..].iter().position(|byte| invalid(*byte) != 0)?;
    let plane = (0..4).find(|plane| packed[at] >> (6 - 2 * plane) & 3 == 3)?;
    Some(at / BLOCK_BYTES * BLOCK + plane * BLOCK_BYTES + at % BLOCK_BYTES)
}

/// Whether all trits, including the padding, are zero.
pub(crate) fn is_zero(packed: &[u8]) -> bool {
    packed.as_chunks().0.iter().all(|block| *block == ZERO_BLOCK)
}
