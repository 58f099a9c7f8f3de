//! The one order in which every float is summed.
//!
//! Element `i` goes to lane `i % 32` with a fused multiply-add, the tail is padded with zeros, and
//! the lanes are added pairwise: 16 + 16, 8 + 8, 4 + 4, 2 + 2, 1 + 1. Thirty-two lanes fill the
//! registers of every instruction set, so each can keep this order without losing speed, and the
//! result has the same bits on all of them.

/// Lanes of a sum.
pub(crate) const LANES: usize = 32;

/// One value for each lane.
pub(crate) type Lanes = [f32; LANES];

/// `acc + a * b` in each lane, rounded once.
#[inline(always)]
pub(crate) fn fma(acc: &mut Lanes, a: &Lanes, b: &Lanes) {
    for i in 0..LANES {
        acc[i] = a[i].mul_add(b[i], acc[i]);
    }
}

/// The pairwise sum of the lanes.
#[inline(always)]
pub(crate) fn sum(mut lanes: Lanes) -> f32 {
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
    }
    lanes[0]
}

/// Up to 32 values, the missing ones zero.
#[inline(always)]
pub(crate) fn pad<T: Copy + Default, const N: usize>(x: &[T]) -> [T; N] {
    let mut padded = [T::default(); N];
    padded[..x.len()].copy_from_slice(x);
    padded
}

/// The dot product of two equally long vectors.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut acc = [0.0; LANES];
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks(), b.as_chunks());
    for (a, b) in a.iter().zip(b) {
        fma(&mut acc, a, b);
    }
    if !a_tail.is_empty() {
        fma(&mut acc, &pad(a_tail), &pad(b_tail));
    }
    sum(acc)
}

/// The sum of a vector.
#[inline(always)]
pub(crate) fn total(x: &[f32]) -> f32 {
    let mut acc = [0.0; LANES];
    let (x, tail) = x.as_chunks();
    for x in x {
        fma(&mut acc, x, &[1.0; LANES]);
    }
    if !tail.is_empty() {
        fma(&mut acc, &pad(tail), &[1.0; LANES]);
    }
    sum(acc)
}
