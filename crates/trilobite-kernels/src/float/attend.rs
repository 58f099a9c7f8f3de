//! Attention of one query head over the cached keys and values.

use super::elementwise::softmax;
use super::half::Half;
use super::lanes::{LANES, Lanes, fma, pad, sum};

/// An element of the KV cache.
pub(crate) trait Cell: Copy + Default {
    fn widen(half: impl Half, cells: &[Self; LANES]) -> Lanes;
}

/// f16, as bits.
impl Cell for u16 {
    #[inline(always)]
    fn widen(half: impl Half, cells: &[u16; LANES]) -> Lanes {
        let mut lanes = [0.0; LANES];
        for (lanes, cells) in lanes.as_chunks_mut().0.iter_mut().zip(cells.as_chunks().0) {
            *lanes = half.widen(*cells);
        }
        lanes
    }
}

impl Cell for f32 {
    #[inline(always)]
    fn widen(_: impl Half, cells: &[f32; LANES]) -> Lanes {
        *cells
    }
}

/// See [`Kernels::attend`](crate::Kernels::attend); `scores` has one entry for each position.
#[inline(always)]
pub(crate) fn attend<T: Cell>(
    half: impl Half,
    q: &[f32],
    k: &[T],
    v: &[T],
    scale: f32,
    scores: &mut [f32],
    out: &mut [f32],
) {
    let width = q.len();
    for (score, k) in scores.iter_mut().zip(k.chunks_exact(width)) {
        *score = dot(half, q, k) * scale;
    }
    softmax(scores);
    for (i, out) in out.chunks_mut(LANES).enumerate() {
        let mut acc = [0.0; LANES];
        for (score, v) in scores.iter().zip(v.chunks_exact(width)) {
            let v = &v[i * LANES..][..out.len()];
            let v = T::widen(half, &pad(v));
            fma(&mut acc, &v, &[*score; LANES]);
        }
        out.copy_from_slice(&acc[..out.len()]);
    }
}

#[inline(always)]
fn dot<T: Cell>(half: impl Half, q: &[f32], k: &[T]) -> f32 {
    let mut acc = [0.0; LANES];
    let ((q, q_tail), (k, k_tail)) = (q.as_chunks(), k.as_chunks());
    for (q, k) in q.iter().zip(k) {
        fma(&mut acc, q, &T::widen(half, k));
    }
    if !q_tail.is_empty() {
        fma(&mut acc, &pad(q_tail), &T::widen(half, &pad(k_tail)));
    }
    sum(acc)
}
