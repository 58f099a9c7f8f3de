//! AVX2: interleaves the bytes of two or four rows, so that `vpmaddubsw` adds their products.

use super::simd::{AddRows, Part, ROWS};
use super::{GROUP, Weights};
use crate::i2_s::BLOCK_BYTES;
use crate::i2_s::avx2::{load, store};
use crate::simd::prefetch::Prefetch;
use std::arch::x86_64::*;

/// See [`Add`](super::Add).
#[target_feature(enable = "avx2")]
pub(crate) fn add(weights: &Weights<'_>, rows: &[u32], codes: &[i8], sums: &mut [i32]) {
    super::simd::add(
        Avx2Rows { prefetch: Prefetch::fastest_of_two_bits(1) },
        weights,
        rows,
        codes,
        sums,
    );
}

/// The proof that the processor has AVX2.
#[derive(Clone, Copy)]
struct Avx2Rows {
    /// For rows that are needed soon.
    prefetch: Prefetch,
}

impl AddRows for Avx2Rows {
    const BLOCKS: usize = 1;

    #[inline(always)]
    fn add<const T: usize>(self, part: &Part<'_>, codes: [&[i8]; T], sums: [&mut [i32]; T]) {
        // SAFETY: `self` proves that the processor has AVX2.
        unsafe { block(part, codes, sums) }
    }

    /// Before this, the sums of a bit plane are in the order of the [`Quarters`].
    fn finish(self, sums: &mut [i32]) {
        for plane in sums.as_chunks_mut::<BLOCK_BYTES>().0 {
            let quarters = *plane;
            let fours = plane.as_chunks_mut::<4>().0;
            for (i, quarter) in quarters.as_chunks::<8>().0.iter().enumerate() {
                fours[i].copy_from_slice(&quarter[..4]);
                fours[i + QUARTERS].copy_from_slice(&quarter[4..]);
            }
        }
    }

    #[inline(always)]
    fn prefetch(self, address: *const i8, soon: bool) {
        let prefetch = if soon { self.prefetch } else { Prefetch::Second };
        prefetch.line(address);
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

/// Adds the products of many tokens, `Q` quarters of a bit plane at a time.
///
/// Interleaves the rows once, because there are not enough registers for the sums of all planes.
#[target_feature(enable = "avx2")]
#[inline]
fn batch<const T: usize, const Q: usize>(
    part: &Part<'_>,
    codes: [&[i8]; T],
    sums: &mut [&mut [i32]; T],
) {
    let groups = part.starts.as_chunks::<GROUP>().0;
    let mut interleaved = [Quarters([[0; BLOCK_BYTES]; QUARTERS]); ROWS / GROUP];
    // The activations of all tokens for a group, side by side.
    let mut x = [[0; T]; ROWS / GROUP];
    for (starts, to) in groups.iter().zip(&mut interleaved) {
        interleave(part, starts, to);
    }
    for (t, codes) in codes.iter().enumerate() {
        for (x, codes) in x.iter_mut().zip(codes.as_chunks::<GROUP>().0) {
            x[t] = i32::from_le_bytes(codes.map(|x| x as u8));
        }
    }
    let (interleaved, x) = (&interleaved[..groups.len()], &x[..groups.len()]);
    for quarter in (0..QUARTERS).step_by(Q) {
        plane::<T, Q, 0>(interleaved, x, quarter, sums);
        plane::<T, Q, 1>(interleaved, x, quarter, sums);
        plane::<T, Q, 2>(interleaved, x, quarter, sums);
        plane::<T, Q, 3>(interleaved, x, quarter, sums);
    }
}

/// Adds the products of `Q` quarters of bit plane `P`.
#[target_feature(enable = "avx2")]
#[inline]
fn plane<const T: usize, const Q: usize, const P: usize>(
    interleaved: &[Quarters],
    x: &[[i32; T]],
    quarter: usize,
    sums: &mut [&mut [i32]; T],
) {
    let mut narrow = [[_mm256_setzero_si256(); Q]; T];
    for (Quarters(quarters), x) in interleaved.iter().zip(x) {
        let mut weights = [_mm256_setzero_si256(); Q];
        for (weights, bytes) in weights.iter_mut().zip(&quarters[quarter..]) {
            let bytes = load(bytes);
            // Shifts compete with multiplications for ports, so planes 0 and 2 keep a factor of 4. A
            // lane holds 2 * ROWS / GROUP products of a code up to 8 and an activation.
            *weights = match P {
                0 => _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), _mm256_set1_epi8(12)),
                1 => _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), _mm256_set1_epi8(3)),
                2 => _mm256_and_si256(bytes, _mm256_set1_epi8(12)),
                _ => _mm256_and_si256(bytes, _mm256_set1_epi8(3)),
            };
        }
        for (narrow, x) in narrow.iter_mut().zip(x) {
            let x = _mm256_set1_epi32(*x);
            for (sum, weights) in narrow.iter_mut().zip(weights) {
                *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(weights, x));
            }
        }
    }
    for (sums, narrow) in sums.iter_mut().zip(narrow) {
        let quarters = &mut sums.as_chunks_mut().0[P * QUARTERS..][..QUARTERS];
        for (sums, narrow) in quarters[quarter..].iter_mut().zip(narrow) {
            let mut wide = _mm256_madd_epi16(narrow, _mm256_set1_epi16(1));
            if P.is_multiple_of(2) {
                wide = _mm256_srai_epi32::<2>(wide);
            }
            accumulate(wide, sums);
        }
    }
}

/// Number of registers for the interleaved bytes of four rows.
const QUARTERS: usize = 4;

/// The interleaved bytes of four rows. Aligned so that no load crosses a cache line.
#[derive(Clone, Copy)]
#[repr(align(32))]
struct Quarters([[u8; BLOCK_BYTES]; QUARTERS]);

/// Interleaves the bytes of four rows. Quarter `i` holds columns `4 * i` to `4 * i + 3` and those 16
/// columns further, of each bit plane.
#[target_feature(enable = "avx2")]
#[inline]
fn interleave(part: &Part<'_>, starts: &[usize; GROUP], Quarters(quarters): &mut Quarters) {
    let [a, b, c, d] = starts;
    let [a, b] = [load(&part.packed[*a]), load(&part.packed[*b])];
    let [c, d] = [load(&part.packed[*c]), load(&part.packed[*d])];
    let (low, high) = (_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b));
    let (low2, high2) = (_mm256_unpacklo_epi8(c, d), _mm256_unpackhi_epi8(c, d));
    store(_mm256_unpacklo_epi16(low, low2), &mut quarters[0]);
    store(_mm256_unpackhi_epi16(low, low2), &mut quarters[1]);
    store(_mm256_unpacklo_epi16(high, high2), &mut quarters[2]);
    store(_mm256_unpackhi_epi16(high, high2), &mut quarters[3]);
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
            // A half holds columns 0 to 7 and 16 to 23, the other one those 8 columns further.
            let quarters = sums.as_chunks_mut().0.as_chunks_mut::<2>().0;
            for (half, quarters) in [low, high].into_iter().zip(quarters) {
                let half = _mm256_permute4x64_epi64::<0b11_01_10_00>(half);
                let [first, second] = quarters;
                accumulate(_mm256_cvtepi16_epi32(_mm256_castsi256_si128(half)), first);
                accumulate(_mm256_cvtepi16_epi32(_mm256_extracti128_si256::<1>(half)), second);
            }
        }
    }
}

/// Adds eight numbers to eight sums.
#[target_feature(enable = "avx2")]
#[inline]
fn accumulate(numbers: __m256i, sums: &mut [i32; 8]) {
    let address = sums.as_mut_ptr().cast();
    // SAFETY: the reference is valid for reading and writing the 32 bytes that an unaligned load
    // and store access.
    unsafe { _mm256_storeu_si256(address, _mm256_add_epi32(_mm256_loadu_si256(address), numbers)) }
}
