//! Plain Rust, one code at a time.

use super::{BLOCK, BLOCK_BYTES, Product};
use crate::codes::MARGIN;

/// Fills `out` with the sums of a [`Product`].
pub(crate) fn gemm(product: &Product<'_>, out: &mut [i32]) {
    multiply(product, product.rows.clone(), out);
}

/// Fills `out` with the sums of a [`Product`] of a list of rows.
pub(crate) fn rows(product: &Product<'_, &[u32]>, out: &mut [i32]) {
    multiply(product, product.rows.iter().map(|row| *row as usize), out);
}

fn multiply<R>(
    product: &Product<'_, R>,
    rows: impl Iterator<Item = usize> + Clone,
    out: &mut [i32],
) {
    let Product { matrix, x, ref tokens, .. } = *product;
    let mut out = out.iter_mut();
    for t in tokens.clone() {
        for (r, out) in rows.clone().zip(&mut out) {
            let (blocks, offset) = matrix.row(r);
            let codes = x.padded(t)[MARGIN - offset..].as_chunks::<BLOCK>().0;
            let sum: i32 = matrix.blocks[blocks].iter().zip(codes).map(|(w, x)| dot(w, x)).sum();
            *out = sum - x.sums()[t];
        }
    }
}

/// Sum of code times activation over one block.
fn dot(block: &[u8; BLOCK_BYTES], x: &[i8; BLOCK]) -> i32 {
    let mut sum = 0;
    for (plane, x) in x.as_chunks::<BLOCK_BYTES>().0.iter().enumerate() {
        for (byte, x) in block.iter().zip(x) {
            sum += i32::from(byte >> (6 - 2 * plane) & 3) * i32::from(*x);
        }
    }
    sum
}
