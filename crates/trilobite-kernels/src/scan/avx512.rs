//! AVX-512 VNNI: two `vpdpbusd` multiply 64 codes with both halves of 64 codes of the vector.

use std::arch::x86_64::*;

use super::avx2::{AHEAD, PrefetchPlan, prefetch_row, spare, together};
use super::{BITS, CODES, PART, Precision, Query, REFINEMENTS};
use crate::i2_s::tiles::spread;

/// Number of codes in a register: two parts of a block.
const PAIR: usize = 64;

/// See [`Kernels::scan`](crate::Kernels::scan), which checks the lengths.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(crate) fn scan(
    codes: &[[u8; CODES]],
    planes: &[&[[u8; BITS]]],
    queries: &[Query],
    precision: Precision,
    out: &mut [i32],
) {
    let (rows, together) = (out.len() / queries.len(), together(precision));
    let groups = queries.chunks(together).zip(out.chunks_mut(together * rows));
    for (group, (some, out)) in groups.enumerate() {
        let ahead = PrefetchPlan::new(codes, queries.len().div_ceil(together), group);
        match *planes {
            [] => scan_group!(precision, some.len(), 0, scan_some(codes, [], some, ahead, out)),
            [a] => scan_group!(precision, some.len(), 1, scan_some(codes, [a], some, ahead, out)),
            [a, b, ..] => {
                scan_group!(precision, some.len(), 2, scan_some(codes, [a, b], some, ahead, out))
            }
        }
    }
}

/// Scans with the first `HALVES` halves of a group of queries, which share the unpacked codes.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn scan_some<const N: usize, const HALVES: usize, const PLANES: usize>(
    codes: &[[u8; CODES]],
    planes: [&[[u8; BITS]]; PLANES],
    queries: &[Query],
    ahead: PrefetchPlan,
    out: &mut [i32],
) {
    let Some(queries) = queries.first_chunk::<N>() else { return };
    let (rows, blocks) = (out.len() / N, queries[0].blocks());
    let mut x = [[[].as_slice(); HALVES]; N];
    for (x, query) in x.iter_mut().zip(queries) {
        *x = query.halves(blocks);
    }
    for (r, row) in codes.chunks_exact(blocks).enumerate() {
        let prefetched = ahead.takes(r);
        let mut bits = planes;
        for bits in &mut bits {
            *bits = &bits[r * blocks..][..blocks];
        }
        let mut sums = [[[_mm512_setzero_si512(); HALVES]; 4]; N];
        for (b, block) in row.iter().enumerate() {
            let mut more = [_mm512_setzero_si512(); PLANES];
            for (more, bits) in more.iter_mut().zip(bits) {
                *more = twice(&bits[b]);
            }
            if prefetched {
                ahead.prefetch(block, bits, b);
            }
            for (p, codes) in unpack(block, more).into_iter().enumerate() {
                for (x, sums) in x.iter().zip(&mut sums) {
                    let sums = &mut sums[p % const { spread(N * HALVES, 4) }];
                    for (x, sum) in x.iter().zip(sums) {
                        *sum = _mm512_dpbusd_epi32(*sum, codes, load(&x[b].0.as_chunks().0[p]));
                    }
                }
            }
        }
        for (q, chains) in sums.into_iter().enumerate() {
            let mut sums = [_mm512_setzero_si512(); HALVES];
            for chain in chains {
                for (sum, other) in sums.iter_mut().zip(chain) {
                    *sum = _mm512_add_epi32(*sum, other);
                }
            }
            // The products are those of codes of four bits, or of five.
            out[q * rows + r] = total(sums, &queries[q]) << (REFINEMENTS - PLANES.max(1));
        }
    }
}

/// The codes of a block, two parts in a register: of four bits, the last of which is 0 without further
/// bits, or of five.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn unpack<const PLANES: usize>(block: &[u8; CODES], bits: [__m512i; PLANES]) -> [__m512i; 4] {
    let front = load(&block.as_chunks().0[0]);
    let registers = block.as_chunks::<PART>().0;
    let back = _mm512_inserti64x4::<1>(twice(&registers[2]), spare(registers));
    [
        with_bits(first::<PLANES>(front), bits, 0),
        with_bits(second::<PLANES>(front), bits, 2),
        with_bits(first::<PLANES>(back), bits, 4),
        with_bits(second::<PLANES>(back), bits, 6),
    ]
}

/// The first bits in the lower halves of the bytes.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn first<const PLANES: usize>(bytes: __m512i) -> __m512i {
    match PLANES {
        2 => _mm512_and_si512(_mm512_add_epi8(bytes, bytes), _mm512_set1_epi8(0x1c)),
        _ => _mm512_and_si512(bytes, _mm512_set1_epi8(0x0e)),
    }
}

/// The first bits in the upper halves of the bytes.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn second<const PLANES: usize>(bytes: __m512i) -> __m512i {
    match PLANES {
        2 => _mm512_and_si512(_mm512_srli_epi16::<3>(bytes), _mm512_set1_epi8(0x1c)),
        _ => _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), _mm512_set1_epi8(0x0e)),
    }
}

/// Adds the single bits of the parts `part` and `part + 1`.
#[target_feature(enable = "avx512f")]
#[inline]
fn with_bits<const PLANES: usize>(codes: __m512i, bits: [__m512i; PLANES], part: i32) -> __m512i {
    let mut codes = codes;
    for (plane, bits) in bits.into_iter().enumerate() {
        // To the last place, or to the one before it for the first plane of two.
        let place = (PLANES - 1 - plane) as i32;
        let bits = _mm512_rolv_epi32(bits, turn(place - part, place - part - 1));
        // codes | bits & mask
        codes = _mm512_ternarylogic_epi32::<0xf8>(codes, bits, _mm512_set1_epi8(1 << place));
    }
    codes
}

/// See [`Kernels::refine_scan`](crate::Kernels::refine_scan), which checks the lengths.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(crate) fn refine(
    bits: &[[u8; BITS]],
    refinement: usize,
    rows: &[u32],
    query: &Query,
    precision: Precision,
    sums: &mut [i32],
) {
    let shift = REFINEMENTS - 1 - refinement;
    match precision {
        Precision::High => refine_rows::<1>(bits, shift, rows, query, sums),
        Precision::Full => refine_rows::<2>(bits, shift, rows, query, sums),
    }
}

/// Refines with the first `HALVES` halves of the query's codes, by bits that are worth `1 << shift`.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn refine_rows<const HALVES: usize>(
    bits: &[[u8; BITS]],
    shift: usize,
    rows: &[u32],
    query: &Query,
    sums: &mut [i32],
) {
    let blocks = query.blocks();
    let x = query.halves::<HALVES>(blocks);
    let row = |row: u32| row as usize * blocks;
    let one = _mm512_set1_epi8(1);
    let turns = [turn(0, -1), turn(-2, -3), turn(-4, -5), turn(-6, -7)];
    for &first in rows.iter().take(AHEAD) {
        prefetch_row(bits[row(first)..][..blocks].as_flattened());
    }
    for (i, out) in sums.iter_mut().enumerate() {
        let start = row(rows[i]);
        if let Some(&next) = rows.get(i + AHEAD) {
            prefetch_row(bits[row(next)..][..blocks].as_flattened());
        }
        let mut sums = [[_mm512_setzero_si512(); 2]; HALVES];
        for (b, bits) in bits[start..start + blocks].iter().enumerate() {
            let bits = twice(bits);
            for p in 0..4 {
                let codes = _mm512_and_si512(_mm512_rolv_epi32(bits, turns[p]), one);
                for (x, sums) in x.iter().zip(&mut sums) {
                    let x = load(&x[b].0.as_chunks().0[p]);
                    sums[p % 2] = _mm512_dpbusd_epi32(sums[p % 2], codes, x);
                }
            }
        }
        let mut halves = [_mm512_setzero_si512(); HALVES];
        for (half, [a, b]) in halves.iter_mut().zip(sums) {
            *half = _mm512_add_epi32(a, b);
        }
        *out += total(halves, query) << shift;
    }
}

/// The number of places to rotate left in the lower and in the upper half of a register.
#[target_feature(enable = "avx512f")]
#[inline]
fn turn(lower: i32, upper: i32) -> __m512i {
    _mm512_inserti64x4::<1>(_mm512_set1_epi32(lower), _mm256_set1_epi32(upper))
}

/// The sum of the products with both halves, or with the high one.
#[target_feature(enable = "avx512f")]
#[inline]
fn total<const HALVES: usize>(sums: [__m512i; HALVES], query: &Query) -> i32 {
    let mut sum = sums[0];
    if let Some(low) = sums.get(1) {
        sum = _mm512_add_epi32(_mm512_mullo_epi32(sum, _mm512_set1_epi32(query.base())), *low);
    }
    _mm512_reduce_add_epi32(sum)
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
