//! Plain Rust, one code at a time.

use super::{BITS, BLOCK, CODES, Halves, PART, Query, REFINEMENTS};

/// See [`Kernels::scan`](crate::Kernels::scan), which checks the lengths.
pub(crate) fn scan(codes: &[[u8; CODES]], queries: &[Query], out: &mut [i32]) {
    let rows = out.len() / queries.len();
    for (query, out) in queries.iter().zip(out.chunks_exact_mut(rows)) {
        let x = query.codes();
        for (row, out) in codes.chunks_exact(x.len()).zip(out) {
            *out = sum(row, x, |block, part, i| {
                let low = block[part % 4 * PART + i] >> (part / 4 * 4) & 15;
                low | (block[BLOCK / 2 + i] >> part & 1) << 4
            });
        }
    }
}

/// See [`Kernels::refine_scan`](crate::Kernels::refine_scan), which checks the lengths.
pub(crate) fn refine(
    bits: &[[u8; BITS]],
    refinement: usize,
    rows: &[u32],
    query: &Query,
    sums: &mut [i32],
) {
    let x = query.codes();
    let blocks = x.len();
    for (&row, out) in rows.iter().zip(sums) {
        let start = (row as usize * REFINEMENTS + refinement) * blocks;
        let bits = &bits[start..start + blocks];
        *out = 2 * *out + sum(bits, x, |block, part, i| block[i] >> part & 1);
    }
}

/// The sum of codes times codes of the vector. Each half may overflow, but their sum does not.
fn sum<const N: usize>(
    row: &[[u8; N]],
    x: &[Halves],
    code: impl Fn(&[u8; N], usize, usize) -> u8,
) -> i32 {
    let mut sums = [0i32; 2];
    for (block, halves) in row.iter().zip(x) {
        for (half, sum) in halves.0.iter().zip(&mut sums) {
            for (part, x) in half.as_chunks::<PART>().0.iter().enumerate() {
                let products = x
                    .iter()
                    .enumerate()
                    .map(|(i, &x)| i32::from(code(block, part, i)) * i32::from(x));
                *sum = sum.wrapping_add(products.sum());
            }
        }
    }
    sums[0].wrapping_mul(256).wrapping_add(sums[1])
}
