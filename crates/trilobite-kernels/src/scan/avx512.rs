//! AVX-512 VNNI: two `vpdpbusd` multiply 64 codes with both halves of 64 codes of the vector.

use std::arch::x86_64::*;

use super::avx2::{AHEAD, Ahead, TOGETHER, prefetch_row};
use super::{BITS, BLOCK, CODES, Halves, Query, REFINEMENTS};

/// Number of codes in a register: two parts of a block.
const PAIR: usize = 64;

/// See [`Kernels::scan`](crate::Kernels::scan), which checks the lengths.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(crate) fn scan(codes: &[[u8; CODES]], queries: &[Query], out: &mut [i32]) {
    let rows = out.len() / queries.len();
    let groups = queries.chunks(TOGETHER).zip(out.chunks_mut(TOGETHER * rows));
    for (group, (some, out)) in groups.enumerate() {
        let ahead = Ahead::new(codes, queries, group);
        match some {
            [a] => scan_group::<1, 2>(codes, [a], ahead, out),
            [a, b] => scan_group::<2, 2>(codes, [a, b], ahead, out),
            [a, b, c] => scan_group::<3, 1>(codes, [a, b, c], ahead, out),
            [a, b, c, d, ..] => scan_group::<4, 1>(codes, [a, b, c, d], ahead, out),
            [] => {}
        }
    }
}

/// Scans with a group of queries, which share the unpacked codes. Each half of a query has `CHAINS`
/// sums, so that few queries are not limited by the latency of an addition.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn scan_group<const N: usize, const CHAINS: usize>(
    codes: &[[u8; CODES]],
    queries: [&Query; N],
    ahead: Ahead,
    out: &mut [i32],
) {
    let (rows, blocks) = (out.len() / N, queries[0].codes().len());
    let x = queries.map(|query| &query.codes()[..blocks]);
    let half = _mm512_set1_epi8(15);
    let fifth = _mm512_set1_epi8(16);
    // Moves the fifth bits of each pair of parts to their place.
    let turns = [turn(4, 3), turn(2, 1), turn(0, -1), turn(-2, -3)];
    for (r, row) in codes.chunks_exact(blocks).enumerate() {
        let prefetched = ahead.takes(r);
        let mut sums = [[[_mm512_setzero_si512(); 2]; CHAINS]; N];
        for (b, block) in row.iter().enumerate() {
            if prefetched {
                ahead.prefetch(block);
            }
            let (halves, bits) = block.split_at(BLOCK / 2);
            let (halves, bits) = (halves.as_chunks().0, twice(bits));
            let (first, second) = (load(&halves[0]), load(&halves[1]));
            let lower = |v| _mm512_and_si512(v, half);
            let upper = |v| _mm512_and_si512(_mm512_srli_epi16::<4>(v), half);
            let codes = [lower(first), lower(second), upper(first), upper(second)];
            for (p, codes) in codes.into_iter().enumerate() {
                let bits = _mm512_rolv_epi32(bits, turns[p]);
                // codes | bits & fifth
                let codes = _mm512_ternarylogic_epi32::<0xf8>(codes, bits, fifth);
                for (x, sums) in x.iter().zip(&mut sums) {
                    for (x, sum) in x[b].0.iter().zip(&mut sums[p % CHAINS]) {
                        *sum = _mm512_dpbusd_epi32(*sum, codes, load(&x.as_chunks().0[p]));
                    }
                }
            }
        }
        for (q, chains) in sums.into_iter().enumerate() {
            let add = |[a, b]: [__m512i; 2], [c, d]: [__m512i; 2]| {
                [_mm512_add_epi32(a, c), _mm512_add_epi32(b, d)]
            };
            out[q * rows + r] = total(chains.into_iter().fold([_mm512_setzero_si512(); 2], add));
        }
    }
}

/// See [`Kernels::refine_scan`](crate::Kernels::refine_scan), which checks the lengths.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(crate) fn refine(
    bits: &[[u8; BITS]],
    refinement: usize,
    rows: &[u32],
    query: &Query,
    sums: &mut [i32],
) {
    let x = query.codes();
    let blocks = x.len();
    let row = |row: u32| (row as usize * REFINEMENTS + refinement) * blocks;
    let one = _mm512_set1_epi8(1);
    let turns = [turn(0, -1), turn(-2, -3), turn(-4, -5), turn(-6, -7)];
    for &first in rows.iter().take(AHEAD) {
        prefetch_row(&bits[row(first)..][..blocks]);
    }
    for (i, out) in sums.iter_mut().enumerate() {
        let start = row(rows[i]);
        if let Some(&next) = rows.get(i + AHEAD) {
            prefetch_row(&bits[row(next)..][..blocks]);
        }
        let mut sums = [[_mm512_setzero_si512(); 2]; 2];
        for (bits, Halves([high, low])) in bits[start..start + blocks].iter().zip(x) {
            let bits = twice(bits);
            let (high, low) = (high.as_chunks().0, low.as_chunks().0);
            for p in 0..4 {
                let codes = _mm512_and_si512(_mm512_rolv_epi32(bits, turns[p]), one);
                sums[0][p % 2] = _mm512_dpbusd_epi32(sums[0][p % 2], codes, load(&high[p]));
                sums[1][p % 2] = _mm512_dpbusd_epi32(sums[1][p % 2], codes, load(&low[p]));
            }
        }
        *out = 2 * *out + total(sums.map(|[a, b]| _mm512_add_epi32(a, b)));
    }
}

/// The number of places to rotate left in the lower and in the upper half of a register.
#[target_feature(enable = "avx512f")]
#[inline]
fn turn(lower: i32, upper: i32) -> __m512i {
    _mm512_inserti64x4::<1>(_mm512_set1_epi32(lower), _mm256_set1_epi32(upper))
}

/// The sum of the products with both halves.
#[target_feature(enable = "avx512f")]
#[inline]
fn total([high, low]: [__m512i; 2]) -> i32 {
    _mm512_reduce_add_epi32(_mm512_add_epi32(_mm512_slli_epi32::<8>(high), low))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load<T>(bytes: &[T; PAIR]) -> __m512i {
    const { assert!(size_of::<T>() == 1) }
    // SAFETY: the reference is valid for reading the 64 bytes that an unaligned load reads.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// The bits of a block in both halves of a register.
#[target_feature(enable = "avx512f")]
#[inline]
fn twice(bits: &[u8]) -> __m512i {
    assert_eq!(bits.len(), BITS);
    // SAFETY: the slice has the 32 bytes that an unaligned load reads.
    _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(bits.as_ptr().cast()) })
}
