//! Attention of one query head over the cached keys and values.

use super::elementwise::softmax;
use super::simd::{LANES, Simd, pad};

/// Elements of the output that are summed together, so that one's additions overlap the other's.
const WIDE: usize = 2 * LANES;

/// An element of the KV cache.
pub(crate) trait Cell: Copy + Default {
    fn load<S: Simd>(simd: S, cells: &[Self; LANES]) -> S::Lanes;
}

/// f16, as bits.
impl Cell for u16 {
    #[inline(always)]
    fn load<S: Simd>(simd: S, cells: &[u16; LANES]) -> S::Lanes {
        simd.load_f16(cells)
    }
}

impl Cell for f32 {
    #[inline(always)]
    fn load<S: Simd>(simd: S, cells: &[f32; LANES]) -> S::Lanes {
        simd.load(cells)
    }
}

/// See [`Kernels::attend`](crate::Kernels::attend); `scores` has one entry for each position.
#[inline(always)]
pub(crate) fn attend<T: Cell>(
    simd: impl Simd,
    q: &[f32],
    k: &[T],
    v: &[T],
    scale: f32,
    scores: &mut [f32],
    out: &mut [f32],
) {
    let width = q.len();
    for (score, k) in scores.iter_mut().zip(k.chunks_exact(width)) {
        *score = dot(simd, q, k) * scale;
    }
    softmax(simd, scores);
    for (i, out) in out.chunks_mut(WIDE).enumerate() {
        let mut acc = [simd.splat(0.0); WIDE / LANES];
        for (score, v) in scores.iter().zip(v.chunks_exact(width)) {
            let score = simd.splat(*score);
            let v = &v[i * WIDE..][..out.len()];
            let padded: [T; WIDE];
            let v = match v.as_chunks().0 {
                [v] => v,
                _ => {
                    padded = pad(v);
                    &padded
                }
            };
            for (acc, v) in acc.iter_mut().zip(v.as_chunks().0) {
                *acc = simd.mul_add(T::load(simd, v), score, *acc);
            }
        }
        for (acc, out) in acc.into_iter().zip(out.chunks_mut(LANES)) {
            let mut values = [0.0; LANES];
            simd.store(acc, &mut values);
            out.copy_from_slice(&values[..out.len()]);
        }
    }
}

#[inline(always)]
fn dot<T: Cell>(simd: impl Simd, q: &[f32], k: &[T]) -> f32 {
    let mut acc = simd.splat(0.0);
    let ((q, q_tail), (k, k_tail)) = (q.as_chunks(), k.as_chunks());
    for (q, k) in q.iter().zip(k) {
        acc = simd.mul_add(simd.load(q), T::load(simd, k), acc);
    }
    if !q_tail.is_empty() {
        acc = simd.mul_add(simd.load(&pad(q_tail)), T::load(simd, &pad(k_tail)), acc);
    }
    simd.sum(acc)
}
