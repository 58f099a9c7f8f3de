//! Plain Rust, one triple at a time.

use super::{BLOCK_COLS, PLANES, Plane, Product, TILE, unpack_block};

/// Fills `out` with the sums of a [`Product`].
pub(crate) fn gemm(product: &Product<'_>, out: &mut [i32]) {
    let Product { matrix, ref rows, x, ref tokens } = *product;
    let mut out = out.iter_mut();
    for t in tokens.clone() {
        for (r, out) in rows.clone().zip(&mut out) {
            let blocks = matrix.tile(r / TILE).chunks(PLANES);
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
