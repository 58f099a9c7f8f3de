//! Products of weights in blocks of small integers with 16-bit activations, or with 8-bit ones on
//! request.
//!
//! Columns form chunks of 256, and chunks form eight groups of 32. A row of activations is rounded
//! to 16-bit integers, with a step for every chunk: the largest magnitude divided by 32,767. The
//! error is 258 times smaller than with the 8 bits of other engines, where the divisor is 127. Then, for each chunk,
//!
//! - `sum[g]` is the sum of the products of the integers of group `g`, which is exact: a product of
//!   two is at most 128 * 32,768, so 32 of them stay below 2^31;
//! - `chunk[g] = f32(sum[g]) * d[g]`, where `d[g]` is the step of the group's weights; if halves of
//!   a group have steps of their own, it is `fma(f32(upper), d', f32(lower) * d)`;
//! - if weights have minimums, `chunk[g] = fma(m[g], a[g], chunk[g])` for the minimum of each group
//!   and the sum of its activations' integers;
//! - `row[g] = fma(chunk[g], step, row[g])` with the step of the activations.
//!
//! At the end the eight lanes of a row are added pairwise: 4 + 4, 2 + 2, 1 + 1. Padding columns are
//! zeros.
//!
//! Lanes are rows: sixteen, a *panel*, are transposed four bytes at a time, as they are stored, and
//! then widened. The columns of a group add to the same lane, and a sum is converted once in 32
//! products.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod codes;
mod few;
mod form;
mod format;
#[cfg(target_arch = "aarch64")]
pub(super) mod neon;
mod panels;
mod plain;
mod scalar;
pub(crate) mod simd;
mod source;
mod sums;

pub use codes::{BlockCodes, CodeGroup, CodeParts, NarrowCodes, NarrowGroup, WideCodes, WideGroup};
pub(crate) use codes::{CHUNK, GROUP, GROUPS};
pub(crate) use panels::BlockBuffers;
pub(crate) use plain::row;

use self::few::{FEW_TOKENS, few_tokens};
use self::form::Form;
use self::format::{Format, dispatch};
use self::panels::many_tokens;
use self::simd::{Integers, Products};
use super::types::{DenseMatrix, DenseType};
use crate::simd::pad;
use crate::simd::scalar::{Arithmetic, Scalar};

/// 1.5 * 2^23. Adding it rounds a number of at most 2^22 to an integer, ties to even.
const ROUND: f32 = 12_582_912.0;

/// See [`Kernels::wide_codes`](crate::Kernels::wide_codes) and
/// [`narrow_codes`](crate::Kernels::narrow_codes). The slices belong to one row.
#[inline(always)]
pub(crate) fn codes<S: Integers, G: Form>(
    simd: S,
    x: &[f32],
    codes: &mut [G],
    steps: &mut [f32],
    sums: &mut [[f32; GROUPS]],
) {
    let chunks = codes.as_chunks_mut::<GROUPS>().0.iter_mut().zip(x.chunks(CHUNK));
    for (((codes, x), step), sums) in chunks.zip(steps).zip(sums) {
        let whole;
        let x: &[f32; CHUNK] = match x.first_chunk() {
            Some(x) => x,
            None => {
                whole = pad(x);
                &whole
            }
        };
        let inverse;
        (*step, inverse) = step_of(x, G::LARGEST);
        for ((codes, x), sum) in codes.iter_mut().zip(x.as_chunks::<GROUP>().0).zip(sums) {
            *sum = codes.set(simd, x, inverse) as f32;
        }
    }
}

/// The step of a chunk's codes, and its inverse.
#[inline(always)]
fn step_of(x: &[f32], largest_code: f32) -> (f32, f32) {
    // Compares as integers, so that infinities and NaN are the largest.
    let largest = x.iter().fold(0, |max, x| max.max(x.to_bits() & 0x7fff_ffff));
    let step = f32::from_bits(largest) / largest_code;
    (step, if step >= f32::MIN_POSITIVE { 1.0 / step } else { 0.0 })
}

/// What the [codes](crate::Kernels::wide_codes) of a row of activations leave of it: the differences
/// from the values of the codes. Codes of these differences add another 16 bits.
pub fn wide_rest(x: &[f32], rest: &mut [f32]) {
    for (x, rest) in x.chunks(CHUNK).zip(rest.chunks_mut(CHUNK)) {
        let (step, inverse) = step_of(x, WideGroup::LARGEST);
        for (x, rest) in x.iter().zip(rest) {
            *rest = x - ((x * inverse + ROUND) - ROUND) * step;
        }
    }
}

/// Products with the codes of activations.
pub(crate) trait Multiply: Integers {
    /// The products of all rows with at least one token. `out` is `[tokens][rows]`, and not empty.
    fn multiply<G: Form>(
        self,
        w: DenseMatrix<'_>,
        x: &BlockCodes<G>,
        buffers: &mut BlockBuffers,
        out: &mut [f32],
    );
}

impl<F: Arithmetic> Multiply for Scalar<F> {
    fn multiply<G: Form>(
        self,
        w: DenseMatrix<'_>,
        x: &BlockCodes<G>,
        _: &mut BlockBuffers,
        out: &mut [f32],
    ) {
        plain::gemm(self, w, x, out);
    }
}

impl<S: Products> Multiply for S {
    #[inline(always)]
    fn multiply<G: Form>(
        self,
        w: DenseMatrix<'_>,
        x: &BlockCodes<G>,
        buffers: &mut BlockBuffers,
        out: &mut [f32],
    ) {
        // A version for one token alone, the most frequent product, needs no loop over tokens.
        match x.tokens() {
            1 => return dispatch!(w.ty, few_tokens::<S, G>[true](self, w, x, out)),
            ..=FEW_TOKENS if const { G::FEW } => {
                return dispatch!(w.ty, few_tokens::<S, G>[false](self, w, x, out));
            }
            _ => {}
        }
        match dispatch!(w.ty, form()) {
            (true, ..) => many_tokens::<S, G, true, false, false>(self, w, x, buffers, out),
            (false, true, _) => many_tokens::<S, G, false, true, false>(self, w, x, buffers, out),
            // Words have been extended with their signs.
            (false, false, true) if const { G::UNITS == 1 } => {
                many_tokens::<S, G, false, false, true>(self, w, x, buffers, out)
            }
            (false, false, _) => many_tokens::<S, G, false, false, false>(self, w, x, buffers, out),
        }
    }
}

/// Whether halves of a type's groups have steps of their own, whether it has minimums, and whether its
/// codes are signed.
fn form<F: Format<N, B>, const N: usize, const B: usize>() -> (bool, bool, bool) {
    const { assert!(!(F::HALVES && F::MINIMUMS), "a form that no type has") };
    (F::HALVES, F::MINIMUMS, F::BITS == 8)
}
