//! Looking at packed codes without unpacking them.

use super::{BLOCK, BLOCK_BYTES, ZERO_BLOCK};

/// Bytes between two looks at what was found.
const PIECE: usize = 4096;

/// The first element, in the order of the bytes, whose code is 3.
pub(crate) fn find_unused(packed: &[u8]) -> Option<usize> {
    // The lower bit of each code whose bits are both set.
    let unused = |byte: u8| byte & byte >> 1 & 0b01_01_01_01;
    // No branch, so that the loop is one of vectors.
    let any = |bytes: &[u8]| bytes.iter().fold(0, |found, byte| found | unused(*byte)) != 0;
    let piece = packed.chunks(PIECE).position(any)? * PIECE;
    let at = piece + packed[piece..].iter().position(|byte| unused(*byte) != 0)?;
    let plane = (0..4).find(|plane| packed[at] >> (6 - 2 * plane) & 3 == 3)?;
    Some(at / BLOCK_BYTES * BLOCK + plane * BLOCK_BYTES + at % BLOCK_BYTES)
}

/// Whether all trits are zeros, those of the padding included.
pub(crate) fn is_zero(packed: &[u8]) -> bool {
    packed.as_chunks().0.iter().all(|block| *block == ZERO_BLOCK)
}
