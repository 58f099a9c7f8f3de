//! AVX-512 VNNI: interleaves the bytes of four rows, so that `vpdpbusd` adds their products.

use super::simd::{AddRows, Part, ROWS};
use super::{GROUP, PAIR, Weights};
use crate::i2_s::{BLOCK, BLOCK_BYTES};
use crate::simd::prefetch::Prefetch;
use std::arch::x86_64::*;

/// See [`Add`](super::Add).
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vnni")]
pub(crate) fn add(weights: &Weights<'_>, rows: &[u32], codes: &[i8], sums: &mut [i32]) {
    super::simd::add(
        Avx512Rows { prefetch: Prefetch::fastest_of_two_bits(1) },
        weights,
        rows,
        codes,
        sums,
    );
}

/// The proof that the processor has AVX-512 VNNI.
#[derive(Clone, Copy)]
struct Avx512Rows {
    /// For rows that are needed soon.
    prefetch: Prefetch,
}

impl AddRows for Avx512Rows {
    const BLOCKS: usize = PAIR;

    #[inline(always)]
    fn add<const T: usize>(self, part: &Part<'_>, codes: [&[i8]; T], sums: [&mut [i32]; T]) {
        // SAFETY: `self` proves that the processor has AVX-512 VNNI.
        unsafe { pair(part, codes, sums) }
    }

    /// Before this, a pair has sixteen sums for each quarter of the 16-byte lanes of each bit
    /// plane, multiplied by the place value of the plane.
    fn finish(self, sums: &mut [i32]) {
        for sums in sums.as_chunks_mut::<{ PAIR * BLOCK }>().0 {
            let planes = *sums;
            let (planes, _) = planes.as_chunks::<16>();
            let (sums, _) = sums.as_chunks_mut::<4>();
            for (i, quarter) in planes.iter().enumerate() {
                let (plane, quarter_index) = (i / 4, i % 4);
                for (lane, four) in quarter.as_chunks::<4>().0.iter().enumerate() {
                    // Lanes 0 and 1 belong to the first block of the pair.
                    let place = lane / 2 * 32 + plane * 8 + lane % 2 * 4 + quarter_index;
                    sums[place] = four.map(|sum| sum >> (6 - 2 * plane));
                }
            }
        }
    }

    #[inline(always)]
    fn prefetch(self, address: *const i8, soon: bool) {
        let prefetch = if soon { self.prefetch } else { Prefetch::Second };
        prefetch.line(address);
    }
}

/// Adds the products of `T` tokens with a pair of blocks, or one block, of every row.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vnni")]
#[inline]
fn pair<const T: usize>(part: &Part<'_>, codes: [&[i8]; T], mut sums: [&mut [i32]; T]) {
    // Sixteen registers of sums at a time.
    match T {
        1 => planes::<T, 4, 0>(part, codes, &mut sums),
        2 => {
            planes::<T, 2, 0>(part, codes, &mut sums);
            planes::<T, 2, 2>(part, codes, &mut sums);
        }
        3 | 4 => batch::<T, 4>(part, codes, &mut sums),
        _ => batch::<T, 2>(part, codes, &mut sums),
    }
}

/// The bytes of four rows, interleaved: see [`interleave`].
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Quarters([[u8; 64]; 4]);

/// Adds the products of many tokens, `Q` quarters of a bit plane at a time.
///
/// Interleaves the rows once, because there are not enough registers for the sums of all planes.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vnni")]
#[inline]
fn batch<const T: usize, const Q: usize>(
    part: &Part<'_>,
    codes: [&[i8]; T],
    sums: &mut [&mut [i32]; T],
) {
    let groups = part.starts.as_chunks::<GROUP>().0;
    let mut interleaved = [Quarters([[0; 64]; 4]); ROWS / GROUP];
    for (starts, to) in groups.iter().zip(&mut interleaved) {
        for (quarter, to) in interleave(part, starts).into_iter().zip(&mut to.0) {
            // SAFETY: the reference is valid for writing the 64 bytes of an unaligned store.
            unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), quarter) };
        }
    }
    let interleaved = &interleaved[..groups.len()];
    let codes = codes.map(|codes| &codes.as_chunks::<GROUP>().0[..groups.len()]);
    for first in (0..16).step_by(Q) {
        let (plane, quarter) = (first / 4, first % 4);
        let mask = _mm512_set1_epi8((3u8 << (6 - 2 * plane)) as i8);
        let mut wide = [[_mm512_setzero_si512(); Q]; T];
        for (sums, wide) in sums.iter().zip(&mut wide) {
            for (memory, wide) in sums.as_chunks::<16>().0[first..first + Q].iter().zip(wide) {
                *wide = load_sums(memory);
            }
        }
        for (i, quarters) in interleaved.iter().enumerate() {
            let mut weights = [_mm512_setzero_si512(); Q];
            for (weights, quarter) in weights.iter_mut().zip(&quarters.0[quarter..]) {
                // SAFETY: the reference is valid for reading the 64 bytes of an unaligned load.
                let quarter = unsafe { _mm512_loadu_si512(quarter.as_ptr().cast()) };
                *weights = _mm512_and_si512(quarter, mask);
            }
            for (wide, codes) in wide.iter_mut().zip(codes) {
                let x = broadcast(&codes[i]);
                for (sum, weights) in wide.iter_mut().zip(weights) {
                    *sum = _mm512_dpbusd_epi32(*sum, weights, x);
                }
            }
        }
        for (sums, wide) in sums.iter_mut().zip(wide) {
            let memory = &mut sums.as_chunks_mut::<16>().0[first..first + Q];
            for (memory, wide) in memory.iter_mut().zip(wide) {
                store_sums(wide, memory);
            }
        }
    }
}

/// Interleaves the bytes of four rows: quarter `q` has bytes `4 q` to `4 q + 3` of every 16 bytes of
/// the rows, those of the same place next to each other.
#[target_feature(enable = "avx2,avx512f,avx512bw")]
#[inline]
fn interleave(part: &Part<'_>, starts: &[usize; GROUP]) -> [__m512i; 4] {
    let [a, b, c, d] = *starts;
    let row = |start: usize| load_blocks(&part.packed[start..start + part.blocks]);
    let (a, b, c, d) = (row(a), row(b), row(c), row(d));
    let (low, high) = (_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b));
    let (low2, high2) = (_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d));
    [
        _mm512_unpacklo_epi16(low, low2),
        _mm512_unpackhi_epi16(low, low2),
        _mm512_unpacklo_epi16(high, high2),
        _mm512_unpackhi_epi16(high, high2),
    ]
}

/// Four activations in every lane.
#[target_feature(enable = "avx512f")]
#[inline]
fn broadcast(codes: &[i8; GROUP]) -> __m512i {
    let [a, b, c, d] = *codes;
    _mm512_set1_epi32(i32::from_le_bytes([a as u8, b as u8, c as u8, d as u8]))
}

/// Adds the products of `P` bit planes from `FIRST` on.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vnni")]
#[inline]
fn planes<const T: usize, const P: usize, const FIRST: usize>(
    part: &Part<'_>,
    codes: [&[i8]; T],
    sums: &mut [&mut [i32]; T],
) {
    let codes = codes.map(|codes| &codes.as_chunks::<GROUP>().0[..part.starts.len() / GROUP]);
    let mut wide = [[[_mm512_setzero_si512(); 4]; T]; P];
    each_sum(sums, &mut wide, FIRST, |memory, wide| *wide = load_sums(memory));
    for (i, starts) in part.starts.as_chunks::<GROUP>().0.iter().enumerate() {
        let quarters = interleave(part, starts);
        for (p, wide) in wide.iter_mut().enumerate() {
            // The codes are not shifted, which multiplies their sums; the sums are shifted at the
            // end.
            let mask = _mm512_set1_epi8((3u8 << (6 - 2 * (FIRST + p))) as i8);
            let mut weights = quarters;
            for weights in &mut weights {
                *weights = _mm512_and_si512(*weights, mask);
            }
            for (wide, codes) in wide.iter_mut().zip(codes) {
                let x = broadcast(&codes[i]);
                for (sum, weights) in wide.iter_mut().zip(weights) {
                    *sum = _mm512_dpbusd_epi32(*sum, weights, x);
                }
            }
        }
    }
    each_sum(sums, &mut wide, FIRST, |memory, wide| store_sums(*wide, memory));
}

/// Applies an operation to each sum in memory and its register.
#[inline(always)]
fn each_sum<const T: usize, const P: usize>(
    sums: &mut [&mut [i32]; T],
    wide: &mut [[[__m512i; 4]; T]; P],
    first: usize,
    f: impl Fn(&mut [i32; 16], &mut __m512i),
) {
    for (p, wide) in wide.iter_mut().enumerate() {
        for (sums, wide) in sums.iter_mut().zip(wide) {
            let memory = &mut sums.as_chunks_mut::<16>().0[4 * (first + p)..][..4];
            for (memory, wide) in memory.iter_mut().zip(wide) {
                f(memory, wide);
            }
        }
    }
}

/// Loads a pair of blocks, or one block followed by zeros.
#[target_feature(enable = "avx2,avx512f,avx512bw")]
#[inline]
fn load_blocks(blocks: &[[u8; BLOCK_BYTES]]) -> __m512i {
    let address = blocks.as_ptr().cast();
    match blocks.len() {
        // SAFETY: the reference is valid for reading the 64 bytes that an unaligned load reads.
        PAIR => unsafe { _mm512_loadu_si512(address) },
        // SAFETY: a masked load reads only the 32 bytes of the block, if there is one.
        len => unsafe { _mm512_maskz_loadu_epi8((1 << (len * BLOCK_BYTES)) - 1, address.cast()) },
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_sums(sums: &[i32; 16]) -> __m512i {
    // SAFETY: the reference is valid for reading the 64 bytes that an unaligned load reads.
    unsafe { _mm512_loadu_si512(sums.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn store_sums(wide: __m512i, sums: &mut [i32; 16]) {
    // SAFETY: the reference is valid for writing the 64 bytes that an unaligned store writes.
    unsafe { _mm512_storeu_si512(sums.as_mut_ptr().cast(), wide) }
}
