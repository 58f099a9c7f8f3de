//! Plain Rust, one code at a time.

use super::{BITS, BLOCK, CODES, Halves, PART, REFINEMENTS};

/// See [`Kernels::scan`](crate::Kernels::scan), which checks the lengths.
pub(crate) fn scan(codes: &[[u8; CODES]], x: Halves<'_>, out: &mut [i32]) {
    for (row, out) in codes.chunks_exact(x[0].len()).zip(out) {
        *out = sum(row, x, |block, part, i| {
            let low = block[part % 4 * PART + i] >> (part / 4 * 4) & 15;
            low | (block[BLOCK / 2 + i] >> part & 1) << 4
        });
    }
}

/// See [`Kernels::refine_scan`](crate::Kernels::refine_scan), which checks the lengths.
pub(crate) fn refine(
    bits: &[[u8; BITS]],
    refinement: usize,
    rows: &[u32],
    x: Halves<'_>,
    sums: &mut [i32],
) {
    let blocks = x[0].len();
    for (&row, out) in rows.iter().zip(sums) {
        let start = (row as usize * REFINEMENTS + refinement) * blocks;
        let bits = &bits[start..start + blocks];
        *out = 2 * *out + sum(bits, x, |block, part, i| block[i] >> part & 1);
    }
}

/// The sum of codes times codes of the vector. Each half may overflow, but their sum does not.
fn sum<const N: usize>(
    row: &[[u8; N]],
    x: Halves<'_>,
    code: impl Fn(&[u8; N], usize, usize) -> u8,
) -> i32 {
    let mut sums = [0i32; 2];
    for (half, sum) in x.into_iter().zip(&mut sums) {
        for (block, x) in row.iter().zip(half) {
            for (part, x) in x.as_chunks::<PART>().0.iter().enumerate() {
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
