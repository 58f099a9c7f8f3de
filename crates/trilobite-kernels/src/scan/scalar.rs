//! Plain Rust, one code at a time.

use super::{
    BITS, CODES, FIRST_BITS, HalfBlock, PART, PLACES, Place, Precision, Query, REFINEMENTS,
};

/// See [`Kernels::scan`](crate::Kernels::scan), which checks the lengths.
pub(crate) fn scan(
    codes: &[[u8; CODES]],
    planes: &[&[[u8; BITS]]],
    queries: &[Query],
    precision: Precision,
    out: &mut [i32],
) {
    let rows = out.len() / queries.len();
    for (query, out) in queries.iter().zip(out.chunks_exact_mut(rows)) {
        let (blocks, x) = (query.blocks(), query.halves(query.blocks()));
        for (row, (codes, out)) in codes.chunks_exact(blocks).zip(out).enumerate() {
            *out = join(products(codes, x, code), query, precision) << REFINEMENTS;
            for (plane, bits) in planes.iter().enumerate() {
                *out += refined(&bits[row * blocks..][..blocks], plane, query, precision);
            }
        }
    }
}

/// The first bits of a column in a block.
fn code(block: &[u8; CODES], part: usize, i: usize) -> u8 {
    match PLACES[part] {
        Place::Bits { register, shift } => block[register * PART + i] >> shift & 7,
        Place::Spare { shift } => {
            let bit = |bit: usize| (block[bit * PART + i] >> shift & 1) << bit;
            (0..FIRST_BITS).map(bit).sum()
        }
    }
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
        let bits = &bits[row as usize * blocks..][..blocks];
        *out += refined(bits, refinement, query, precision);
    }
}

/// What the bits of a refinement add to a sum.
fn refined(bits: &[[u8; BITS]], refinement: usize, query: &Query, precision: Precision) -> i32 {
    let bit = |block: &[u8; BITS], part: usize, i: usize| block[i] >> part & 1;
    let products = products(bits, query.halves(query.blocks()), bit);
    join(products, query, precision) << (REFINEMENTS - 1 - refinement)
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
