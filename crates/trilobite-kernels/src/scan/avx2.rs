//! AVX2: two `vpmaddubsw` multiply 32 codes with both halves of 32 codes of the vector.

use std::arch::x86_64::*;

use crate::simd::prefetch::Prefetch;

use super::{BITS, CODES, HalfBlock, PART, Precision, Query, REFINEMENTS};

/// Number of rows of a list to prefetch ahead.
pub(super) const AHEAD: usize = 12;
/// Maximum number of queries that share the unpacked codes. The sums of more do not fit in the
/// registers of AVX2, and the codes of more and the prefetched rows do not fit in the first-level
/// cache.
pub(super) const fn together(precision: Precision) -> usize {
    match precision {
        Precision::High => 8,
        Precision::Full => 4,
    }
}

/// See [`Kernels::scan`](crate::Kernels::scan), which checks the lengths.
#[target_feature(enable = "avx2")]
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
///
/// Processes one row at a time. Tiles of rows would share the codes of the queries, but their
/// parallel streams measured slower with codes from memory.
#[target_feature(enable = "avx2")]
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
        let mut sums = [[_mm256_setzero_si256(); HALVES]; N];
        for (b, block) in row.iter().enumerate() {
            let mut more = [_mm256_setzero_si256(); PLANES];
            for (more, bits) in more.iter_mut().zip(bits) {
                *more = load(&bits[b]);
            }
            if prefetched {
                ahead.prefetch(block, bits, b);
            }
            let more = pairs(more);
            add::<N, HALVES, 0>(lower(block, more), &x, b, &mut sums);
            add::<N, HALVES, 1>(upper(block, more), &x, b, &mut sums);
        }
        for (q, sums) in sums.into_iter().enumerate() {
            // The products are those of codes of four bits, or of five.
            out[q * rows + r] = total(sums, &queries[q]) << (REFINEMENTS - PLANES.max(1));
        }
    }
}

/// Adds the products of the codes of four parts of a block, the first (0) or the last (1).
#[target_feature(enable = "avx2")]
#[inline]
fn add<const N: usize, const HALVES: usize, const PARTS: usize>(
    codes: [__m256i; 4],
    x: &[[&[HalfBlock]; HALVES]; N],
    block: usize,
    sums: &mut [[__m256i; HALVES]; N],
) {
    for (x, sums) in x.iter().zip(sums) {
        for (x, sum) in x.iter().zip(sums) {
            let x = &x[block].0.as_chunks().0[4 * PARTS..4 * PARTS + 4];
            *sum = _mm256_add_epi32(*sum, widen(products(&codes, x)));
        }
    }
}

/// Single bits of a block, for [`with_bits`]: none; one for each column, bit `p` of a byte for part `p`;
/// or two, in the first register of the even parts and in the second of the odd ones.
#[target_feature(enable = "avx2")]
#[inline]
fn pairs<const PLANES: usize>(bits: [__m256i; PLANES]) -> [__m256i; PLANES] {
    let mut pairs = bits;
    if let [first, second] = bits[..] {
        let (even, odd) = (_mm256_set1_epi8(0x55), _mm256_set1_epi8(0xaau8 as i8));
        let upper = _mm256_and_si256(first, even);
        pairs[0] = _mm256_or_si256(_mm256_add_epi8(upper, upper), _mm256_and_si256(second, even));
        let lower = _mm256_and_si256(_mm256_srli_epi16::<1>(second), even);
        pairs[1] = _mm256_or_si256(_mm256_and_si256(first, odd), lower);
    }
    pairs
}

/// The codes of the first four parts of a block: of four bits, the last of which is 0 without further
/// bits, or of five.
#[target_feature(enable = "avx2")]
#[inline]
fn lower<const PLANES: usize>(block: &[u8; CODES], bits: [__m256i; PLANES]) -> [__m256i; 4] {
    let registers = block.as_chunks::<PART>().0;
    let (a, b) = (load(&registers[0]), load(&registers[1]));
    [
        with_bits::<PLANES, 0>(first::<PLANES>(a), bits),
        with_bits::<PLANES, 1>(first::<PLANES>(b), bits),
        with_bits::<PLANES, 2>(second::<PLANES>(a), bits),
        with_bits::<PLANES, 3>(second::<PLANES>(b), bits),
    ]
}

/// The codes of the last four parts of a block.
#[target_feature(enable = "avx2")]
#[inline]
fn upper<const PLANES: usize>(block: &[u8; CODES], bits: [__m256i; PLANES]) -> [__m256i; 4] {
    let registers = block.as_chunks::<PART>().0;
    let (a, b) = (load(&registers[2]), spare(registers));
    [
        with_bits::<PLANES, 4>(first::<PLANES>(a), bits),
        with_bits::<PLANES, 5>(first::<PLANES>(b), bits),
        with_bits::<PLANES, 6>(second::<PLANES>(a), bits),
        with_bits::<PLANES, 7>(second::<PLANES>(b), bits),
    ]
}

/// The first bits of two parts whose bits are in three registers, where other parts have theirs.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn spare(registers: &[[u8; PART]]) -> __m256i {
    let mask = _mm256_set1_epi8(0x11);
    let first = _mm256_and_si256(load(&registers[0]), mask);
    let second = _mm256_and_si256(load(&registers[1]), mask);
    let third = _mm256_and_si256(load(&registers[2]), mask);
    let upper = _mm256_or_si256(second, _mm256_add_epi8(third, third));
    let all = _mm256_or_si256(first, _mm256_add_epi8(upper, upper));
    _mm256_add_epi8(all, all)
}

/// The first bits in the lower halves of the bytes.
#[target_feature(enable = "avx2")]
#[inline]
fn first<const PLANES: usize>(bytes: __m256i) -> __m256i {
    match PLANES {
        2 => _mm256_and_si256(_mm256_add_epi8(bytes, bytes), _mm256_set1_epi8(0x1c)),
        _ => _mm256_and_si256(bytes, _mm256_set1_epi8(0x0e)),
    }
}

/// The first bits in the upper halves of the bytes.
#[target_feature(enable = "avx2")]
#[inline]
fn second<const PLANES: usize>(bytes: __m256i) -> __m256i {
    match PLANES {
        2 => _mm256_and_si256(_mm256_srli_epi16::<3>(bytes), _mm256_set1_epi8(0x1c)),
        _ => _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), _mm256_set1_epi8(0x0e)),
    }
}

/// Adds the single bits of a part: see [`pairs`].
#[target_feature(enable = "avx2")]
#[inline]
fn with_bits<const PLANES: usize, const PART: usize>(
    codes: __m256i,
    bits: [__m256i; PLANES],
) -> __m256i {
    let more = match bits[..] {
        [] => return codes,
        [bits] => _mm256_and_si256(down::<PART>(bits), _mm256_set1_epi8(1)),
        _ => {
            let pairs = bits[PART % 2 % PLANES];
            let pairs = match PART / 2 {
                0 => pairs,
                1 => _mm256_srli_epi16::<2>(pairs),
                2 => _mm256_srli_epi16::<4>(pairs),
                _ => _mm256_srli_epi16::<6>(pairs),
            };
            _mm256_and_si256(pairs, _mm256_set1_epi8(3))
        }
    };
    _mm256_or_si256(codes, more)
}

/// Moves bit `BY` of every byte to the lowest place, where it must be masked.
#[target_feature(enable = "avx2")]
#[inline]
fn down<const BY: usize>(bits: __m256i) -> __m256i {
    match BY {
        0 => bits,
        1 => _mm256_srli_epi16::<1>(bits),
        2 => _mm256_srli_epi16::<2>(bits),
        3 => _mm256_srli_epi16::<3>(bits),
        4 => _mm256_srli_epi16::<4>(bits),
        5 => _mm256_srli_epi16::<5>(bits),
        6 => _mm256_srli_epi16::<6>(bits),
        _ => _mm256_srli_epi16::<7>(bits),
    }
}

/// See [`Kernels::refine_scan`](crate::Kernels::refine_scan), which checks the lengths.
#[target_feature(enable = "avx2")]
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
#[target_feature(enable = "avx2")]
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
    let one = _mm256_set1_epi8(1);
    for &first in rows.iter().take(AHEAD) {
        prefetch_row(bits[row(first)..][..blocks].as_flattened());
    }
    for (i, out) in sums.iter_mut().enumerate() {
        let start = row(rows[i]);
        if let Some(&next) = rows.get(i + AHEAD) {
            prefetch_row(bits[row(next)..][..blocks].as_flattened());
        }
        let mut sums = [_mm256_setzero_si256(); HALVES];
        for (b, bits) in bits[start..start + blocks].iter().enumerate() {
            let bits = load(bits);
            let parts = [
                _mm256_and_si256(down::<0>(bits), one),
                _mm256_and_si256(down::<1>(bits), one),
                _mm256_and_si256(down::<2>(bits), one),
                _mm256_and_si256(down::<3>(bits), one),
                _mm256_and_si256(down::<4>(bits), one),
                _mm256_and_si256(down::<5>(bits), one),
                _mm256_and_si256(down::<6>(bits), one),
                _mm256_and_si256(down::<7>(bits), one),
            ];
            for (sum, x) in sums.iter_mut().zip(x) {
                let x = x[b].0.as_chunks().0;
                *sum = _mm256_add_epi32(*sum, widen(products(&parts, x)));
            }
        }
        *out += total(sums, query) << shift;
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

/// The sum of the products with both halves, or with the high one.
#[target_feature(enable = "avx2")]
#[inline]
fn total<const HALVES: usize>(sums: [__m256i; HALVES], query: &Query) -> i32 {
    let mut sum = sums[0];
    if let Some(low) = sums.get(1) {
        sum = _mm256_add_epi32(_mm256_mullo_epi32(sum, _mm256_set1_epi32(query.base())), *low);
    }
    sum_lanes(sum)
}

/// The sum of eight i32.
#[target_feature(enable = "avx2")]
#[inline]
fn sum_lanes(v: __m256i) -> i32 {
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
pub(super) struct PrefetchPlan {
    way: Prefetch,
    /// The distance in bytes.
    distance: usize,
    group: usize,
    groups: usize,
}

impl PrefetchPlan {
    /// A single group prefetches somewhat later codes. Several groups, each of which processes all
    /// rows, share the prefetching of as many rows after these.
    pub(super) fn new(codes: &[[u8; CODES]], groups: usize, group: usize) -> Self {
        /// The distance that measured fastest with codes from memory.
        const DISTANCE: usize = 16384;
        let way = Prefetch::fastest();
        let distance = if groups == 1 { way.distance(DISTANCE) } else { size_of_val(codes) };
        Self { way, distance, group, groups }
    }

    /// Whether the group prefetches codes while it processes a row.
    #[inline]
    pub(super) fn takes(self, row: usize) -> bool {
        row % self.groups == self.group
    }

    /// Prefetches the codes at the distance from a block, and the bits beside them.
    #[inline]
    pub(super) fn prefetch<const PLANES: usize>(
        self,
        block: &[u8; CODES],
        bits: [&[[u8; BITS]]; PLANES],
        b: usize,
    ) {
        let ahead = block.as_ptr().wrapping_add(self.distance).cast::<i8>();
        self.way.lines([0, 64].map(|line| ahead.wrapping_add(line)));
        // A line has the bits of two blocks.
        if b.is_multiple_of(2) {
            let distance = self.distance / CODES * BITS;
            self.way.lines(bits.map(|bits| bits[b].as_ptr().wrapping_add(distance).cast()));
        }
    }
}

/// Prefetches the bytes of a row.
#[inline]
pub(super) fn prefetch_row(bytes: &[u8]) {
    Prefetch::All.lines(bytes.chunks(64).map(|line| line.as_ptr().cast()));
}
