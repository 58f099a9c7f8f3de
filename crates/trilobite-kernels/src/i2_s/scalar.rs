//! Plain Rust, one code at a time.

use super::{BLOCK, BLOCK_BYTES, Rows};
use crate::Codes;
use std::ops::Range;

/// See [`Kernels::ternary_gemm`](crate::Kernels::ternary_gemm), which checks the lengths.
pub(crate) fn gemm(
    layout: Rows,
    packed: &[u8],
    cols: usize,
    rows: Range<usize>,
    x: &Codes,
    tokens: Range<usize>,
    out: &mut [i32],
) {
    multiply(layout, packed, cols, rows, x, tokens, out);
}

/// See [`Kernels::ternary_rows`](crate::Kernels::ternary_rows), which checks the lengths.
pub(crate) fn rows(
    layout: Rows,
    packed: &[u8],
    cols: usize,
    rows: &[u32],
    x: &Codes,
    tokens: Range<usize>,
    out: &mut [i32],
) {
    let rows = rows.iter().map(|row| *row as usize);
    multiply(layout, packed, cols, rows, x, tokens, out);
}

fn multiply(
    layout: Rows,
    packed: &[u8],
    cols: usize,
    rows: impl Iterator<Item = usize> + Clone,
    x: &Codes,
    tokens: Range<usize>,
    out: &mut [i32],
) {
    let packed = packed.as_chunks::<BLOCK_BYTES>().0;
    let mut out = out.iter_mut();
    for t in tokens {
        for (r, out) in rows.clone().zip(&mut out) {
            let (blocks, offset) = layout.blocks(r, cols);
            let codes = x.padded(t)[BLOCK - offset..].as_chunks::<BLOCK>().0;
            let sum: i32 = packed[blocks].iter().zip(codes).map(|(w, x)| dot(w, x)).sum();
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
