//! AVX2: interleaves the bytes of two rows, so that `vpmaddubsw` adds their products.

use super::Weights;
use super::simd::{AddRows, Part, ROWS};
use crate::i2_s::BLOCK_BYTES;
use crate::i2_s::avx2::{load, prefetch, store};
use std::arch::x86_64::*;

/// See [`Add`](super::Add).
#[target_feature(enable = "avx2")]
pub(crate) fn add(weights: &Weights<'_>, rows: &[u32], codes: &[i8], sums: &mut [i32]) {
    super::simd::add(Avx2(()), weights, rows, codes, sums);
}

/// The proof that the processor has AVX2.
#[derive(Clone, Copy)]
struct Avx2(());

impl AddRows for Avx2 {
    const BLOCKS: usize = 1;

    #[inline(always)]
    fn add<const T: usize>(self, part: &Part<'_>, codes: [&[i8]; T], sums: [&mut [i32]; T]) {
        // SAFETY: `self` proves that the processor has AVX2.
        unsafe { block(part, codes, sums) }
    }

    fn finish(self, _: &mut [i32]) {}

    #[inline(always)]
    fn prefetch(self, address: *const i8) {
        // SAFETY: `self` proves that the processor has AVX2.
        unsafe { prefetch(address) }
    }
}

/// Adds the products of `T` tokens with one block of every row.
#[target_feature(enable = "avx2")]
#[inline]
fn block<const T: usize>(part: &Part<'_>, codes: [&[i8]; T], mut sums: [&mut [i32]; T]) {
    // Eight registers of sums at a time.
    match T {
        1 => planes::<T, 4, 0>(part, codes, &mut sums),
        2 => {
            planes::<T, 2, 0>(part, codes, &mut sums);
            planes::<T, 2, 2>(part, codes, &mut sums);
        }
        3 | 4 => batch::<T, 2>(part, codes, &mut sums),
        _ => batch::<T, 1>(part, codes, &mut sums),
    }
}

/// Adds the products of many tokens, `H` interleaved halves of a bit plane at a time.
///
/// Interleaves the rows once, because there are not enough registers for the sums of all planes.
#[target_feature(enable = "avx2")]
#[inline]
fn batch<const T: usize, const H: usize>(
    part: &Part<'_>,
    codes: [&[i8]; T],
    sums: &mut [&mut [i32]; T],
) {
    let pairs = part.starts.as_chunks::<2>().0;
    let mut interleaved = [[[0; BLOCK_BYTES]; 2]; ROWS / 2];
    let mut x = [[0; ROWS / 2]; T];
    for ([a, b], to) in pairs.iter().zip(&mut interleaved) {
        let (a, b) = (load(&part.packed[*a]), load(&part.packed[*b]));
        store(_mm256_unpacklo_epi8(a, b), &mut to[0]);
        store(_mm256_unpackhi_epi8(a, b), &mut to[1]);
    }
    for (x, codes) in x.iter_mut().zip(codes) {
        // Two activations, twice: lanes of 32 bits are broadcast faster than those of 16.
        for (x, [a, b]) in x.iter_mut().zip(codes.as_chunks().0) {
            let pair = u32::from(u16::from_le_bytes([*a as u8, *b as u8]));
            *x = (pair | pair << 16) as i32;
        }
    }
    let interleaved = &interleaved[..pairs.len()];
    let mask = _mm256_set1_epi8(3);
    for first in (0..8).step_by(H) {
        let (plane, half) = (first / 2, first % 2);
        let shift = _mm_cvtsi32_si128(6 - 2 * plane as i32);
        let mut narrow = [[_mm256_setzero_si256(); H]; T];
        for (i, halves) in interleaved.iter().enumerate() {
            let mut weights = [_mm256_setzero_si256(); H];
            for (weights, bytes) in weights.iter_mut().zip(&halves[half..]) {
                *weights = _mm256_and_si256(_mm256_srl_epi16(load(bytes), shift), mask);
            }
            for (narrow, x) in narrow.iter_mut().zip(&x) {
                let x = _mm256_set1_epi32(x[i]);
                for (sum, weights) in narrow.iter_mut().zip(weights) {
                    *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(weights, x));
                }
            }
        }
        for (sums, narrow) in sums.iter_mut().zip(narrow) {
            let eights = &mut sums.as_chunks_mut::<BLOCK_BYTES>().0[plane].as_chunks_mut().0;
            for (i, narrow) in narrow.into_iter().enumerate() {
                // The first half holds columns 0 to 7 and 16 to 23, the second the others.
                accumulate(_mm256_castsi256_si128(narrow), &mut eights[half + i]);
                accumulate(_mm256_extracti128_si256::<1>(narrow), &mut eights[half + i + 2]);
            }
        }
    }
}

/// Adds the products of `P` bit planes from `FIRST` on.
#[target_feature(enable = "avx2")]
#[inline]
fn planes<const T: usize, const P: usize, const FIRST: usize>(
    part: &Part<'_>,
    codes: [&[i8]; T],
    sums: &mut [&mut [i32]; T],
) {
    let codes = codes.map(|codes| &codes.as_chunks::<2>().0[..part.starts.len() / 2]);
    let mask = _mm256_set1_epi8(3);
    let mut narrow = [[[_mm256_setzero_si256(); 2]; T]; P];
    for (i, [a, b]) in part.starts.as_chunks().0.iter().enumerate() {
        let (a, b) = (load(&part.packed[*a]), load(&part.packed[*b]));
        let halves = [_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)];
        for (p, narrow) in narrow.iter_mut().enumerate() {
            let mut weights = halves;
            for half in &mut weights {
                let codes = match FIRST + p {
                    0 => _mm256_srli_epi16::<6>(*half),
                    1 => _mm256_srli_epi16::<4>(*half),
                    2 => _mm256_srli_epi16::<2>(*half),
                    _ => *half,
                };
                *half = _mm256_and_si256(codes, mask);
            }
            for (narrow, codes) in narrow.iter_mut().zip(codes) {
                let x = _mm256_set1_epi16(i16::from_le_bytes(codes[i].map(|x| x as u8)));
                for (sum, weights) in narrow.iter_mut().zip(weights) {
                    *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(weights, x));
                }
            }
        }
    }
    for (p, narrow) in narrow.into_iter().enumerate() {
        for ([low, high], sums) in narrow.into_iter().zip(sums.iter_mut()) {
            let sums = &mut sums.as_chunks_mut::<BLOCK_BYTES>().0[FIRST + p];
            // The interleaved halves hold columns 0 to 7 and 16 to 23, and the other columns.
            let first = _mm256_permute2x128_si256::<0x20>(low, high);
            let second = _mm256_permute2x128_si256::<0x31>(low, high);
            let eights = sums.as_chunks_mut().0.as_chunks_mut::<2>().0;
            for (sixteen, eights) in [first, second].into_iter().zip(eights) {
                accumulate(_mm256_castsi256_si128(sixteen), &mut eights[0]);
                accumulate(_mm256_extracti128_si256::<1>(sixteen), &mut eights[1]);
            }
        }
    }
}

/// Adds eight i16 to eight sums.
#[target_feature(enable = "avx2")]
#[inline]
fn accumulate(narrow: __m128i, sums: &mut [i32; 8]) {
    let wide = _mm256_cvtepi16_epi32(narrow);
    let address = sums.as_mut_ptr().cast();
    // SAFETY: the reference is valid for reading and writing the 32 bytes that an unaligned load
    // and store access.
    unsafe { _mm256_storeu_si256(address, _mm256_add_epi32(_mm256_loadu_si256(address), wide)) }
}
