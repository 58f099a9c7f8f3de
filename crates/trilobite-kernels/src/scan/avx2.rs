//! AVX2: two `vpmaddubsw` multiply 32 codes with both halves of 32 codes of the vector.

use std::arch::x86_64::*;

use super::{BITS, BLOCK, CODES, Halves, PART, Query, REFINEMENTS};

/// Number of rows of a list to prefetch ahead.
pub(super) const AHEAD: usize = 4;
/// Maximum number of queries that share the unpacked codes. The sums of more do not fit in the
/// registers of AVX2, and the codes of more and the prefetched rows do not fit in the first-level
/// cache.
pub(super) const TOGETHER: usize = 4;
/// Number of codes in half a block.
const HALF: usize = BLOCK / 2;

/// See [`Kernels::scan`](crate::Kernels::scan), which checks the lengths.
#[target_feature(enable = "avx2")]
pub(crate) fn scan(codes: &[[u8; CODES]], queries: &[Query], out: &mut [i32]) {
    let rows = out.len() / queries.len();
    let groups = queries.chunks(TOGETHER).zip(out.chunks_mut(TOGETHER * rows));
    for (group, (some, out)) in groups.enumerate() {
        let ahead = Ahead::new(codes, queries, group);
        match some {
            [a] => scan_group(codes, [a], ahead, out),
            [a, b] => scan_group(codes, [a, b], ahead, out),
            [a, b, c] => scan_group(codes, [a, b, c], ahead, out),
            [a, b, c, d, ..] => scan_group(codes, [a, b, c, d], ahead, out),
            [] => {}
        }
    }
}

/// Scans with a group of queries, which share the unpacked codes.
///
/// Processes one row at a time. Tiles of rows would share the codes of the queries, but their
/// parallel streams measured slower with codes from memory.
#[target_feature(enable = "avx2")]
fn scan_group<const N: usize>(
    codes: &[[u8; CODES]],
    queries: [&Query; N],
    ahead: Ahead,
    out: &mut [i32],
) {
    let (rows, blocks) = (out.len() / N, queries[0].codes().len());
    let x = queries.map(|query| &query.codes()[..blocks]);
    let (half, fifth) = (_mm256_set1_epi8(15), _mm256_set1_epi8(16));
    for (r, row) in codes.chunks_exact(blocks).enumerate() {
        let prefetched = ahead.takes(r);
        let mut sums = [[_mm256_setzero_si256(); 2]; N];
        for (b, block) in row.iter().enumerate() {
            if prefetched {
                ahead.prefetch(block);
            }
            let (halves, bits) = block.as_chunks::<PART>().0.split_at(HALF / PART);
            let bits = load(&bits[0]);
            // Moves the bit of each part to its place.
            let fifths = [
                _mm256_slli_epi16::<4>(bits),
                _mm256_slli_epi16::<3>(bits),
                _mm256_slli_epi16::<2>(bits),
                _mm256_slli_epi16::<1>(bits),
                bits,
                _mm256_srli_epi16::<1>(bits),
                _mm256_srli_epi16::<2>(bits),
                _mm256_srli_epi16::<3>(bits),
            ]
            .map(|bits| _mm256_and_si256(bits, fifth));
            let mut codes: [[__m256i; 4]; 2] = [[bits; 4]; 2];
            for p in 0..4 {
                let both = load(&halves[p]);
                codes[0][p] = _mm256_or_si256(_mm256_and_si256(both, half), fifths[p]);
                let upper = _mm256_and_si256(_mm256_srli_epi16::<4>(both), half);
                codes[1][p] = _mm256_or_si256(upper, fifths[p + 4]);
            }
            for (parts, codes) in codes.iter().enumerate() {
                for (x, sums) in x.iter().zip(&mut sums) {
                    for (x, sum) in x[b].0.iter().zip(sums) {
                        // Products are at most 31 * 128, and eight of them fit in an i16.
                        let (x, _) = x.as_chunks::<PART>();
                        let x = &x[4 * parts..4 * parts + 4];
                        *sum = _mm256_add_epi32(*sum, widen(products(codes, x)));
                    }
                }
            }
        }
        for (q, sums) in sums.into_iter().enumerate() {
            out[q * rows + r] = total(sums);
        }
    }
}

/// See [`Kernels::refine_scan`](crate::Kernels::refine_scan), which checks the lengths.
#[target_feature(enable = "avx2")]
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
    let one = _mm256_set1_epi8(1);
    for &first in rows.iter().take(AHEAD) {
        prefetch_row(&bits[row(first)..][..blocks]);
    }
    for (i, out) in sums.iter_mut().enumerate() {
        let start = row(rows[i]);
        if let Some(&next) = rows.get(i + AHEAD) {
            prefetch_row(&bits[row(next)..][..blocks]);
        }
        let mut sums = [_mm256_setzero_si256(); 2];
        for (bits, Halves([high, low])) in bits[start..start + blocks].iter().zip(x) {
            let bits = load(bits);
            let parts = [
                bits,
                _mm256_srli_epi16::<1>(bits),
                _mm256_srli_epi16::<2>(bits),
                _mm256_srli_epi16::<3>(bits),
                _mm256_srli_epi16::<4>(bits),
                _mm256_srli_epi16::<5>(bits),
                _mm256_srli_epi16::<6>(bits),
                _mm256_srli_epi16::<7>(bits),
            ]
            .map(|bits| _mm256_and_si256(bits, one));
            for (sum, x) in sums.iter_mut().zip([high, low]) {
                let (x, _) = x.as_chunks::<PART>();
                *sum = _mm256_add_epi32(*sum, widen(products(&parts, x)));
            }
        }
        *out = 2 * *out + total(sums);
    }
}

/// The sums of codes times codes of the vector, for few enough codes that the sums fit.
#[target_feature(enable = "avx2")]
#[inline]
fn products(codes: &[__m256i], x: &[[i8; PART]]) -> __m256i {
    let mut sum = _mm256_setzero_si256();
    for (codes, x) in codes.iter().zip(x) {
        sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(*codes, load_signed(x)));
    }
    sum
}

/// The sums of pairs as i32.
#[target_feature(enable = "avx2")]
#[inline]
fn widen(sums: __m256i) -> __m256i {
    _mm256_madd_epi16(sums, _mm256_set1_epi16(1))
}

/// The sum of the products with both halves.
#[target_feature(enable = "avx2")]
#[inline]
fn total([high, low]: [__m256i; 2]) -> i32 {
    let v = _mm256_add_epi32(_mm256_slli_epi32::<8>(high), low);
    let v = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
    let v = _mm_add_epi32(v, _mm_unpackhi_epi64(v, v));
    let v = _mm_add_epi32(v, _mm_shuffle_epi32::<1>(v));
    _mm_cvtsi128_si32(v)
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(bytes: &[u8; PART]) -> __m256i {
    // SAFETY: the reference is valid for reading the 32 bytes that an unaligned load reads.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_signed(x: &[i8; PART]) -> __m256i {
    // SAFETY: the reference is valid for reading the 32 bytes that an unaligned load reads.
    unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
}

/// The codes that a group of queries prefetches.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    /// The distance in bytes.
    distance: usize,
    group: usize,
    groups: usize,
}

impl Ahead {
    /// A single group prefetches somewhat later codes. Several groups, each of which processes all
    /// rows, share the prefetching of as many rows after these.
    pub(super) fn new(codes: &[[u8; CODES]], queries: &[Query], group: usize) -> Self {
        /// The distance that measured fastest with codes from memory.
        const DISTANCE: usize = 16384;
        let groups = queries.len().div_ceil(TOGETHER);
        let distance = if groups == 1 { DISTANCE } else { size_of_val(codes) };
        Self { distance, group, groups }
    }

    /// Whether the group prefetches codes while it processes a row.
    #[inline]
    pub(super) fn takes(self, row: usize) -> bool {
        row % self.groups == self.group
    }

    /// Prefetches the codes at the distance from a block.
    #[inline]
    pub(super) fn prefetch(self, block: &[u8; CODES]) {
        for line in 0..3 {
            let ahead = block.as_ptr().wrapping_add(self.distance + 64 * line);
            // SAFETY: a prefetch reads nothing, whatever the address; SSE is in every x86-64.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(ahead.cast()) }
        }
    }
}

/// Prefetches the bits of a row.
#[inline]
pub(super) fn prefetch_row(bits: &[[u8; BITS]]) {
    for line in bits.chunks(2) {
        // SAFETY: a prefetch reads nothing, whatever the address; SSE is in every x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
    }
}
