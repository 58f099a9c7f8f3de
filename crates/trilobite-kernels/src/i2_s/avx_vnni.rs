//! AVX-VNNI: one `vpdpbusd` multiplies 32 codes with 32 activations and sums in i32.

use super::avx2::{load, sum_lanes};
use super::tiles::{Ahead, spread};
use super::{BLOCK, BLOCK_BYTES};
use crate::simd::prefetch::Prefetch;
use std::arch::x86_64::*;

super::tiles::compile! { "avx2,avxvnni", wide: false }

/// Sums of codes times activations over the blocks of `R` rows and `T` tokens, which all have the
/// same number of blocks.
#[target_feature(enable = "avx2,avxvnni")]
#[inline]
fn tile<const R: usize, const T: usize>(
    mut w: [&[[u8; BLOCK_BYTES]]; R],
    ahead: [Ahead; R],
    mut x: [&[[i8; BLOCK]]; T],
) -> [[i32; T]; R] {
    let (blocks, prefetch) = (w[0].len(), Prefetch::fastest_of_two_bits(T));
    w.iter_mut().for_each(|w| *w = &w[..blocks]);
    x.iter_mut().for_each(|x| *x = &x[..blocks]);
    let mask = _mm256_set1_epi8(3);
    let mut sums = [[[_mm256_setzero_si256(); 4]; T]; R];
    for b in 0..blocks {
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
                for (p, x) in x[t][b].as_chunks().0.iter().enumerate() {
                    let sum = &mut sums[r][t][p % const { spread(R * T, 4) }];
                    *sum = _mm256_dpbusd_avx_epi32(*sum, planes[p], load(x));
                }
            }
        }
    }
    let mut totals = [[0; T]; R];
    for r in 0..R {
        for t in 0..T {
            let [a, b, c, d] = sums[r][t];
            let sum = _mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d));
            totals[r][t] = sum_lanes(sum);
        }
    }
    totals
}
