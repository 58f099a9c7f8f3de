//! AVX-512 VNNI: one `vpdpbusd` multiplies 64 codes with 64 activations and sums in i32.

use super::avx2::load;
use super::tiles::{Ahead, spread};
use super::{BLOCK, BLOCK_BYTES};
use crate::simd::prefetch::Prefetch;
use std::arch::x86_64::*;

super::tiles::compile! { "avx2,avx512f,avx512bw,avx512vnni", wide: true }

/// Sums of codes times activations over the blocks of `R` rows and `T` tokens, which all have the
/// same number of blocks.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vnni")]
#[inline]
fn tile<const R: usize, const T: usize>(
    mut w: [&[[u8; BLOCK_BYTES]]; R],
    ahead: [Ahead; R],
    mut x: [&[[i8; BLOCK]]; T],
) -> [[i32; T]; R] {
    let (blocks, prefetch) = (w[0].len(), Prefetch::fastest_of_two_bits(T));
    w.iter_mut().for_each(|w| *w = &w[..blocks]);
    x.iter_mut().for_each(|x| *x = &x[..blocks]);
    let mask = _mm512_set1_epi8(3);
    // With the block in both halves of a register, two shifts give two planes side by side, in the
    // order of their activations.
    let halves = |low, high| {
        _mm512_inserti64x4::<1>(
            _mm512_castsi256_si512(_mm256_set1_epi16(low)),
            _mm256_set1_epi16(high),
        )
    };
    let shifts = [halves(6, 4), halves(2, 0)];
    let mut sums = [[[_mm512_setzero_si512(); 2]; T]; R];
    for b in 0..blocks {
        // Two blocks are a cache line.
        if b % 2 == 0 {
            prefetch.lines(ahead.iter().map(|ahead| ahead.block(b)));
        }
        for r in 0..R {
            let block = _mm512_broadcast_i64x4(load(&w[r][b]));
            let mut planes = [mask; 2];
            for p in 0..2 {
                planes[p] = _mm512_and_si512(_mm512_srlv_epi16(block, shifts[p]), mask);
            }
            for t in 0..T {
                for (p, x) in x[t][b].as_chunks().0.iter().enumerate() {
                    let sum = &mut sums[r][t][p % const { spread(R * T, 2) }];
                    *sum = _mm512_dpbusd_epi32(*sum, planes[p], load_wide(x));
                }
            }
        }
    }
    let mut totals = [[0; T]; R];
    if let Ok(out) = totals.as_flattened_mut().try_into() {
        // Sixteen sums have one register each.
        let mut registers = [_mm512_setzero_si512(); 16];
        for (i, register) in registers.iter_mut().enumerate() {
            *register = sums[i / T][i % T][0];
        }
        store_sums(registers, out);
        return totals;
    }
    for r in 0..R {
        for t in 0..T {
            let [a, b] = sums[r][t];
            totals[r][t] = _mm512_reduce_add_epi32(_mm512_add_epi32(a, b));
        }
    }
    totals
}

/// Adds the lanes of each of sixteen registers. Two registers are added at a time, so that each
/// shuffle serves both.
#[target_feature(enable = "avx512f")]
#[inline]
fn store_sums(x: [__m512i; 16], out: &mut [i32; 16]) {
    let mut eight = [_mm512_setzero_si512(); 8];
    for i in 0..8 {
        let [a, b] = [x[2 * i], x[2 * i + 1]];
        eight[i] = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    }
    let mut four = [_mm512_setzero_si512(); 4];
    for i in 0..4 {
        let [a, b] = [eight[2 * i], eight[2 * i + 1]];
        four[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    }
    // Each quarter has sums of four registers.
    let sums = add_quarters(add_quarters(four[0], four[1]), add_quarters(four[2], four[3]));
    // SAFETY: the reference is valid for writing the 64 bytes that an unaligned store writes.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), sums) }
}

/// The sum of the first two quarters of `a`, that of its last two, and those of `b`.
#[target_feature(enable = "avx512f")]
#[inline]
fn add_quarters(a: __m512i, b: __m512i) -> __m512i {
    let even = _mm512_shuffle_i32x4::<0x88>(a, b);
    _mm512_add_epi32(even, _mm512_shuffle_i32x4::<0xdd>(a, b))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_wide(codes: &[i8; 64]) -> __m512i {
    // SAFETY: the reference is valid for reading the 64 bytes that an unaligned load reads.
    unsafe { _mm512_loadu_si512(codes.as_ptr().cast()) }
}
