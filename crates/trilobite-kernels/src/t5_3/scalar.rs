//! Plain Rust, one triple at a time.

use super::{BLOCK_COLS, PLANES, Plane, TILE, tile, unpack_block};
use crate::Codes;
use std::ops::Range;

/// See [`Kernels::ternary_gemm`](crate::Kernels::ternary_gemm), which checks the lengths.
pub(crate) fn gemm(
    (): (),
    packed: &[u8],
    cols: usize,
    rows: Range<usize>,
    x: &Codes,
    tokens: Range<usize>,
    out: &mut [i32],
) {
    let mut out = out.iter_mut();
    for t in tokens {
        for (r, out) in rows.clone().zip(&mut out) {
            let blocks = tile(packed, cols, r / TILE).chunks(PLANES);
            let codes = x.row(t).chunks(BLOCK_COLS);
            *out = blocks.zip(codes).map(|(block, x)| dot(block, r % TILE, x)).sum();
        }
    }
}

/// Sum of weight times activation over one lane of a block.
fn dot(block: &[Plane], lane: usize, x: &[i8]) -> i32 {
    let weights = unpack_block(block, lane);
    weights.as_flattened().iter().zip(x).map(|(&w, &x)| i32::from(w) * i32::from(x)).sum()
}
