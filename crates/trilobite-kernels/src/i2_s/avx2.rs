//! AVX2: one `vpmaddubsw` multiplies 32 codes with 32 activations.

use super::tiles::Ahead;
use super::{BLOCK, BLOCK_BYTES};
use crate::simd::prefetch::Prefetch;
use std::arch::x86_64::*;

super::tiles::compile! { "avx2", wide: false }

/// Sums of codes times activations over the blocks of `R` rows and `T` tokens, which all have the
/// same number of blocks.
#[target_feature(enable = "avx2")]
#[inline]
fn tile<const R: usize, const T: usize>(
    mut w: [&[[u8; BLOCK_BYTES]]; R],
    ahead: [Ahead; R],
    mut x: [&[[i8; BLOCK]]; T],
) -> [[i32; T]; R] {
    // Number of blocks that can be summed in i16. A lane then holds 64 sums of two products of a
    // code in 0..=2 and an activation in -128..=127, which lie in -32768..=32512.
    const NARROW: usize = 16;

    let (blocks, prefetch) = (w[0].len(), Prefetch::fastest_of_two_bits(T));
    w.iter_mut().for_each(|w| *w = &w[..blocks]);
    x.iter_mut().for_each(|x| *x = &x[..blocks]);
    let mask = _mm256_set1_epi8(3);
    let mut sums = [[_mm256_setzero_si256(); T]; R];
    for start in (0..blocks).step_by(NARROW) {
        let mut narrow = [[_mm256_setzero_si256(); T]; R];
        for b in start..blocks.min(start + NARROW) {
            // Two blocks are a cache line.
            if b % 2 == 0 {
                prefetch.lines(ahead.iter().map(|ahead| ahead.block(b)));
            }
            for r in 0..R {
                let block = load(&w[r][b]);
                let planes = [
                    _mm256_and_si256(_mm256_srli_epi16::<6>(block), mask),
                    _mm256_and_si256(_mm256_srli_epi16::<4>(block), mask),
                    _mm256_and_si256(_mm256_srli_epi16::<2>(block), mask),
                    _mm256_and_si256(block, mask),
                ];
                for t in 0..T {
                    for (plane, x) in planes.iter().zip(x[t][b].as_chunks().0) {
                        let products = _mm256_maddubs_epi16(*plane, load(x));
                        narrow[r][t] = _mm256_add_epi16(narrow[r][t], products);
                    }
                }
            }
        }
        for r in 0..R {
            for t in 0..T {
                let wide = _mm256_madd_epi16(narrow[r][t], _mm256_set1_epi16(1));
                sums[r][t] = _mm256_add_epi32(sums[r][t], wide);
            }
        }
    }
    let mut totals = [[0; T]; R];
    for r in 0..R {
        for t in 0..T {
            totals[r][t] = sum_lanes(sums[r][t]);
        }
    }
    totals
}

/// The sum of eight i32.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn sum_lanes(v: __m256i) -> i32 {
    let v = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
    let v = _mm_add_epi32(v, _mm_unpackhi_epi64(v, v));
    let v = _mm_add_epi32(v, _mm_shuffle_epi32::<1>(v));
    _mm_cvtsi128_si32(v)
}

/// A type of one byte.
pub(crate) trait Byte {}
impl Byte for u8 {}
impl Byte for i8 {}

#[target_feature(enable = "avx2")]
#[inline]
pub(crate) fn load<T: Byte>(bytes: &[T; BLOCK_BYTES]) -> __m256i {
    // SAFETY: the reference is valid for reading the 32 bytes that an unaligned load reads.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
pub(crate) fn store(v: __m256i, bytes: &mut [u8; BLOCK_BYTES]) {
    // SAFETY: the reference is valid for writing the 32 bytes that an unaligned store writes.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), v) }
}
