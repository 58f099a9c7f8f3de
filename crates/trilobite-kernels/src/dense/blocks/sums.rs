//! The order of float operations: see [`blocks`](super).

use super::codes::GROUPS;
use super::simd::{Half, Integers};

/// The product of a group of sixteen rows with one token, before the step of the activations: from the
/// sums of the lower and the upper half, or of the whole group. The form is that of the type.
#[inline(always)]
pub(super) fn scaled<S: Integers>(
    simd: S,
    (halves, has_minimums): (bool, bool),
    [lower, upper]: [S::Sums; 2],
    (steps, minimums): (&[Half; 2], &Half),
    sum: f32,
) -> S::Half {
    let mut product = simd.mul_half(simd.floats(lower), simd.load_half(&steps[0]));
    if halves {
        product = simd.mul_add_half(simd.floats(upper), simd.load_half(&steps[1]), product);
    }
    if has_minimums {
        product = simd.mul_add_half(simd.load_half(minimums), simd.splat_half(sum), product);
    }
    product
}

/// Adds the product of a group, times the step of the activations, to a sum.
#[inline(always)]
pub(super) fn add_product<S: Integers>(simd: S, product: S::Half, step: f32, sum: &mut Half) {
    let old = simd.load_half(sum);
    simd.store_half(simd.mul_add_half(product, simd.splat_half(step), old), sum);
}

/// Adds the eight lanes of sixteen rows pairwise.
#[inline(always)]
pub(super) fn sum_lanes(simd: impl Integers, sums: &[Half; GROUPS]) -> Half {
    let [a, b, c, d, e, f, g, h] = sums;
    let add = |x: &Half, y: &Half| simd.add_half(simd.load_half(x), simd.load_half(y));
    let (even, odd) = (simd.add_half(add(a, e), add(c, g)), simd.add_half(add(b, f), add(d, h)));
    let mut out = Half::ZERO;
    simd.store_half(simd.add_half(even, odd), &mut out);
    out
}
