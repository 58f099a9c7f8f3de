//! Plain Rust, one row at a time.

use super::Weights;
use crate::i2_s::{BLOCK, BLOCK_BYTES};

/// See [`Add`](super::Add).
pub(crate) fn add(weights: &Weights<'_>, rows: &[u32], codes: &[i8], sums: &mut [i32]) {
    sums.fill(0);
    for (sums, codes) in
        sums.chunks_exact_mut(weights.width()).zip(codes.chunks_exact(rows.len().max(1)))
    {
        for (row, x) in rows.iter().zip(codes) {
            let start = weights.start(*row);
            let blocks = &weights.packed[start..start + weights.blocks.len()];
            for (sums, block) in sums.as_chunks_mut::<BLOCK>().0.iter_mut().zip(blocks) {
                for (plane, sums) in sums.as_chunks_mut::<BLOCK_BYTES>().0.iter_mut().enumerate() {
                    for (sum, byte) in sums.iter_mut().zip(block) {
                        *sum += i32::from(byte >> (6 - 2 * plane) & 3) * i32::from(*x);
                    }
                }
            }
        }
    }
}
