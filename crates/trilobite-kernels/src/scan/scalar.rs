//! Plain Rust, one code at a time.

use super::{BITS, BLOCK, CODES, HalfBlock, PART, Precision, Query, REFINEMENTS};

/// See [`Kernels::scan`](crate::Kernels::scan), which checks the lengths.
pub(crate) fn scan(
    codes: &[[u8; CODES]],
    queries: &[Query],
    precision: Precision,
    out: &mut [i32],
) {
    let rows = out.len() / queries.len();
    for (query, out) in queries.iter().zip(out.chunks_exact_mut(rows)) {
        for (row, out) in codes.chunks_exact(query.blocks()).zip(out) {
            *out = join(products(row, query.halves(query.blocks()), code), query, precision);
        }
    }
}

/// The code of a column in a block.
fn code(block: &[u8; CODES], part: usize, i: usize) -> u8 {
    let low = block[part % 4 * PART + i] >> (part / 4 * 4) & 15;
    low | (block[BLOCK / 2 + i] >> part & 1) << 4
}

/// See [`Kernels::refine_scan`](crate::Kernels::refine_scan), which checks the lengths.
pub(crate) fn refine(
    bits: &[[u8; BITS]],
    refinement: usize,
    rows: &[u32],
    query: &Query,
    precision: Precision,
    sums: &mut [i32],
) {
    let blocks = query.blocks();
    for (&row, out) in rows.iter().zip(sums) {
        let start = (row as usize * REFINEMENTS + refinement) * blocks;
        let bits = &bits[start..start + blocks];
        let products = products(bits, query.halves(blocks), |block, part, i| block[i] >> part & 1);
        *out = 2 * *out + join(products, query, precision);
    }
}

/// The sum of products with the codes of a vector, given those with their halves. The sum of the
/// high halves may overflow when it is multiplied, but the result does not.
fn join([high, low]: [i32; 2], query: &Query, precision: Precision) -> i32 {
    match precision {
        Precision::High => high,
        Precision::Full => high.wrapping_mul(query.base()).wrapping_add(low),
    }
}

/// The sums of codes times the halves of the codes of the vector. The second may wrap.
fn products<const N: usize>(
    row: &[[u8; N]],
    x: [&[HalfBlock]; 2],
    code: impl Fn(&[u8; N], usize, usize) -> u8,
) -> [i32; 2] {
    let mut sums = [0i32; 2];
    for (half, sum) in x.into_iter().zip(&mut sums) {
        for (block, x) in row.iter().zip(half) {
            for (part, x) in x.0.as_chunks::<PART>().0.iter().enumerate() {
                let products = x
                    .iter()
                    .enumerate()
                    .map(|(i, &x)| i32::from(code(block, part, i)) * i32::from(x));
                *sum = sum.wrapping_add(products.sum());
            }
        }
    }
    sums
}
