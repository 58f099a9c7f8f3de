//! AVX2, many tokens: multiplication by look-up tables (Vec-LUT, arXiv 2512.06443).
//!
//! Lanes are tokens. For every four columns, a quad, all 81 signed sums of their activations are
//! tabulated. Each row of the matrix then costs one addition per quad, which replaces 64
//! multiply-adds, and no code is decoded. The sums are exact.

use crate::codes::{Codes, MARGIN};
use crate::i2_s::avx2::store as store_bytes;
use crate::product::{MAX_COLS, Product};
use std::arch::x86_64::*;
use std::ops::Range;

/// Number of tokens in a vector.
pub(crate) const LANES: usize = 16;
/// Number of columns of a quad.
pub(crate) const QUAD: usize = 4;
/// Number of quads whose tables are in use at a time: 20 KiB in the first-level cache.
pub(crate) const GROUP: usize = 8;
/// Number of signed sums of four activations.
const SUMS: usize = 81;
/// Number of bytes of an entry.
const ENTRY: usize = size_of::<Lanes>();
/// Number of rows that share tables once they are built. With fewer rows, tables are built more
/// often; with more, more sums move between the first-level cache and beyond.
const ROWS: usize = 1280;
/// Number of rows whose entries are found together.
pub(crate) const STEP: usize = 32;
/// Number of columns whose entries are found together for tokens that share a vector.
const PART: usize = 512;
/// Number of groups that can be summed in i16: 255 + 7 * 8 quads * 4 activations * 128 = 28927.
const NARROW: usize = 7;
/// Number of rows written together.
const TILE: usize = 8;

/// One number for each token.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
struct Lanes([i16; LANES]);

const ZERO: Lanes = Lanes([0; LANES]);

/// The table of quad `i` of a group starts at entry `SUMS * i`. Entries are found by their offset in
/// bytes, of which any in 16 bits is valid.
#[derive(Debug)]
#[repr(align(64))]
struct Tables([u8; (1 << 16) + ENTRY]);
const _: () = assert!(GROUP * SUMS * ENTRY <= 1 << 16, "offsets have 16 bits");

impl Default for Tables {
    fn default() -> Tables {
        Tables([0; _])
    }
}

/// The offsets of a row's entries, four in a number, the first in the lowest bits. The index of an
/// entry in the table of a quad is `c0 + 3 c1 + 9 c2 + 27 c3` for the codes of the quad's columns,
/// which are weights + 1.
pub(crate) type Offsets = [u64; GROUP / 4];

/// Buffers for tables and sums. They are reused, because fresh pages for every matrix would cost a
/// few per cent of the time.
#[derive(Debug, Default)]
pub(crate) struct LookupBuffers {
    /// Where the tables have the sums of the quads of a part of the columns, for each group of quads and
    /// each row.
    offsets: Vec<Offsets>,
    /// The activations of each column.
    columns: Vec<Lanes>,
    tables: Box<Tables>,
    /// The sums, for each row: `256 * high + low`.
    low: Vec<Lanes>,
    high: Vec<Lanes>,
}

/// A matrix whose rows can be looked up.
pub(crate) trait Indexed: Copy {
    /// Number of columns whose entries are found together: whole groups of quads.
    const COLUMNS: usize;

    /// The number of columns.
    fn cols(&self) -> usize;

    /// The columns of a quad, within these.
    fn quad(index: usize) -> [usize; QUAD];

    /// Finds the entries of [`STEP`] rows from `first` on, a multiple of `STEP`, in `COLUMNS` columns
    /// from `start` on. Those of rows beyond the last are unspecified.
    ///
    /// # Safety
    /// The machine must have AVX2.
    unsafe fn offsets(&self, first: usize, start: usize, groups: Groups<'_>);
}

/// The places for the offsets of [`STEP`] rows in some groups of quads.
pub(crate) struct Groups<'a> {
    /// The offsets of all rows, for each group.
    offsets: &'a mut [Offsets],
    stride: usize,
    /// The first row.
    row: usize,
}

impl Groups<'_> {
    /// The places of each group.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut [Offsets; STEP]> {
        let groups = self.offsets.chunks_exact_mut(self.stride);
        groups.filter_map(|group| group[self.row..].first_chunk_mut())
    }
}

/// Fills `out` with the sums of a [`Product`] of a matrix with fewer than [`MAX_COLS`] columns.
#[target_feature(enable = "avx2")]
pub(crate) fn gemm<W: Indexed>(
    product: &Product<'_, W>,
    buffers: &mut LookupBuffers,
    out: &mut [i32],
) {
    const { assert!(W::COLUMNS.is_multiple_of(GROUP * QUAD)) }
    let Product { matrix, ref rows, x, ref tokens } = *product;
    assert!(matrix.cols() < MAX_COLS, "{} columns", matrix.cols());
    let stride = rows.len();
    let windows = matrix.cols().div_ceil(W::COLUMNS);
    let groups = W::COLUMNS / QUAD / GROUP;
    let LookupBuffers { offsets, columns, tables, low, high } = buffers;
    columns.resize(windows * W::COLUMNS, ZERO);
    // The entries are found once for all tokens, or in parts that stay in the cache.
    let part = match tokens.len() {
        ..=LANES => PART.div_ceil(W::COLUMNS).min(windows),
        _ => windows,
    };
    for first in (rows.start / STEP * STEP..rows.end).step_by(ROWS) {
        let count = (rows.end - first).min(ROWS).next_multiple_of(STEP);
        offsets.resize(part * groups * count, [0; _]);
        for (i, t) in tokens.clone().step_by(LANES).enumerate() {
            let lanes = t..tokens.end.min(t + LANES);
            transpose(x, lanes.clone(), columns);
            for sums in [&mut *low, &mut *high] {
                sums.clear();
                sums.resize(count, ZERO);
            }
            let mut narrow = 0;
            for start in (0..windows).step_by(part) {
                let some = start..windows.min(start + part);
                let offsets = &mut offsets[..some.len() * groups * count];
                if i == 0 || part < windows {
                    find(&matrix, first, count, some, offsets);
                }
                for (g, offsets) in offsets.chunks_exact(count).enumerate() {
                    let window = start + g / groups;
                    let columns = &columns[window * W::COLUMNS..][..W::COLUMNS];
                    build::<W>(columns, g % groups * GROUP, tables);
                    narrow += 1;
                    if narrow == NARROW {
                        narrow = 0;
                        add::<true>(offsets, tables, low, high);
                    } else {
                        add::<false>(offsets, tables, low, high);
                    }
                }
            }
            let wanted = rows.start.max(first)..rows.end.min(first + count);
            let out = &mut out[(t - tokens.start) * stride + wanted.start - rows.start..];
            write(low, high, wanted.start - first..wanted.end - first, lanes.len(), out, stride);
        }
    }
}

/// Finds the entries of `count` rows from `first` on, for some windows of columns.
#[target_feature(enable = "avx2")]
fn find<W: Indexed>(
    matrix: &W,
    first: usize,
    count: usize,
    windows: Range<usize>,
    offsets: &mut [Offsets],
) {
    let len = W::COLUMNS / QUAD / GROUP * count;
    for row in (0..count).step_by(STEP) {
        for (window, offsets) in windows.clone().zip(offsets.chunks_exact_mut(len)) {
            let groups = Groups { offsets, stride: count, row };
            // SAFETY: this function has AVX2.
            unsafe { matrix.offsets(first + row, window * W::COLUMNS, groups) };
        }
    }
}

/// Widens the activations of at most [`LANES`] tokens, column by column.
#[target_feature(enable = "avx2")]
fn transpose(x: &Codes, tokens: Range<usize>, columns: &mut [Lanes]) {
    const SIDE: usize = LANES;
    let mut rows = [[].as_slice(); SIDE];
    for (row, t) in rows.iter_mut().zip(tokens) {
        *row = x.padded(t)[MARGIN..].as_chunks().0;
    }
    for (i, columns) in columns.chunks_mut(SIDE).enumerate() {
        let mut square = [_mm_setzero_si128(); SIDE];
        for (line, row) in square.iter_mut().zip(rows) {
            // Columns beyond the last and lanes beyond the last token are zeros.
            *line = row.get(i).map_or(_mm_setzero_si128(), |codes| load_16(codes));
        }
        // Each round interleaves the lines of the upper half with those of the lower half.
        for _ in 0..SIDE.ilog2() {
            let lines = square;
            for (i, pair) in square.as_chunks_mut().0.iter_mut().enumerate() {
                let (a, b) = (lines[i], lines[i + SIDE / 2]);
                *pair = [_mm_unpacklo_epi8(a, b), _mm_unpackhi_epi8(a, b)];
            }
        }
        for (column, line) in columns.iter_mut().zip(square) {
            store(column, _mm256_cvtepi8_epi16(line));
        }
    }
}

/// Tabulates the signed sums of the quads from `first` on, in the order of [`Offsets`].
#[target_feature(enable = "avx2")]
fn build<W: Indexed>(columns: &[Lanes], first: usize, tables: &mut Tables) {
    for i in 0..GROUP {
        let [a, b, c, d] = W::quad(first + i);
        let table = &mut tables.0.as_chunks_mut::<ENTRY>().0[i * SUMS..][..SUMS];
        let [a, b] = [load(&columns[a]), load(&columns[b])];
        let [c, d] = [load(&columns[c]), load(&columns[d])];
        let [upper, lower] = [signed_pair(d, c), signed_pair(b, a)];
        for (nine, upper) in table.as_chunks_mut::<9>().0.iter_mut().zip(upper.as_flattened()) {
            for (entry, lower) in nine.iter_mut().zip(lower.as_flattened()) {
                store_bytes(_mm256_add_epi16(*upper, *lower), entry);
            }
        }
    }
}

/// The signed sums of two vectors of activations.
#[target_feature(enable = "avx2")]
#[inline]
fn signed_pair(a: __m256i, b: __m256i) -> [[__m256i; 3]; 3] {
    let [minus, zero, plus] = signed(_mm256_setzero_si256(), a);
    [signed(minus, b), signed(zero, b), signed(plus, b)]
}

#[target_feature(enable = "avx2")]
#[inline]
fn signed(sum: __m256i, x: __m256i) -> [__m256i; 3] {
    [_mm256_sub_epi16(sum, x), sum, _mm256_add_epi16(sum, x)]
}

/// Adds the entries of a group to the sum of each row. With `CARRY`, moves the carry from low to
/// high.
#[target_feature(enable = "avx2")]
fn add<const CARRY: bool>(
    offsets: &[Offsets],
    tables: &Tables,
    low: &mut [Lanes],
    high: &mut [Lanes],
) {
    for ((offsets, low), high) in offsets.iter().zip(low).zip(high) {
        let mut sum = load(low);
        // One load for four offsets: loads limit the speed.
        for four in offsets {
            for i in 0..4 {
                let offset = usize::from((four >> (16 * i)) as u16);
                let entry = &tables.0[offset..offset + ENTRY].as_chunks().0[0];
                sum = _mm256_add_epi16(sum, crate::i2_s::avx2::load(entry));
            }
        }
        if CARRY {
            let carried = _mm256_add_epi16(load(high), _mm256_srai_epi16::<8>(sum));
            store(high, carried);
            sum = _mm256_and_si256(sum, _mm256_set1_epi16(0xff));
        }
        store(low, sum);
    }
}

/// Writes the sums of the `wanted` rows and of some tokens. The rows of a token are adjacent, and tokens
/// are `stride` apart.
#[target_feature(enable = "avx2")]
fn write(
    low: &[Lanes],
    high: &[Lanes],
    wanted: Range<usize>,
    tokens: usize,
    out: &mut [i32],
    stride: usize,
) {
    let tiles = low.as_chunks::<TILE>().0.iter().zip(high.as_chunks::<TILE>().0);
    for (i, (low, high)) in tiles.enumerate() {
        let (low, high) = (tokens_by_rows(low), tokens_by_rows(high));
        let row = i * TILE;
        let some = wanted.start.max(row)..wanted.end.min(row + TILE);
        if some.is_empty() {
            continue;
        }
        for t in 0..LANES / 2 {
            // Rows 0..4 of tokens t and t + 8, then rows 4..8.
            let factors = _mm256_set1_epi32(256 << 16 | 1);
            let front = _mm256_madd_epi16(_mm256_unpacklo_epi16(low[t], high[t]), factors);
            let back = _mm256_madd_epi16(_mm256_unpackhi_epi16(low[t], high[t]), factors);
            let sums = [
                (t, _mm256_permute2x128_si256::<0x20>(front, back)),
                (t + LANES / 2, _mm256_permute2x128_si256::<0x31>(front, back)),
            ];
            for (t, sums) in sums {
                if t < tokens {
                    let mut tile = [0; TILE];
                    store_i32(&mut tile, sums);
                    let out = &mut out[t * stride + some.start - wanted.start..];
                    out[..some.len()].copy_from_slice(&tile[some.start - row..some.end - row]);
                }
            }
        }
    }
}

/// Transposes the sums of [`TILE`] rows: vector `t` holds those of token `t`, then of `t + 8`.
#[target_feature(enable = "avx2")]
fn tokens_by_rows(rows: &[Lanes; TILE]) -> [__m256i; TILE] {
    let mut square = [_mm256_setzero_si256(); TILE];
    for (line, row) in square.iter_mut().zip(rows) {
        *line = load(row);
    }
    for _ in 0..TILE.ilog2() {
        let lines = square;
        for (i, pair) in square.as_chunks_mut().0.iter_mut().enumerate() {
            let (a, b) = (lines[i], lines[i + TILE / 2]);
            *pair = [_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)];
        }
    }
    square
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(lanes: &Lanes) -> __m256i {
    // SAFETY: the reference is valid for reading the 32 bytes that an unaligned load reads.
    unsafe { _mm256_loadu_si256(lanes.0.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_16(codes: &[i8; 16]) -> __m128i {
    // SAFETY: the reference is valid for reading the 16 bytes that an unaligned load reads.
    unsafe { _mm_loadu_si128(codes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store(lanes: &mut Lanes, v: __m256i) {
    // SAFETY: the reference is valid for writing the 32 bytes that an unaligned store writes.
    unsafe { _mm256_storeu_si256(lanes.0.as_mut_ptr().cast(), v) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store_i32(sums: &mut [i32; TILE], v: __m256i) {
    // SAFETY: the reference is valid for writing the 32 bytes that an unaligned store writes.
    unsafe { _mm256_storeu_si256(sums.as_mut_ptr().cast(), v) }
}

/// Stores what [`STEP`] rows have in the quads of a group, a vector for each quad.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) fn store_quads(mut v: [__m256i; GROUP], out: &mut [Offsets; STEP]) {
    // Three rounds that interleave the first four vectors with the last four bring the bytes of a row
    // together.
    for _ in 0..GROUP.ilog2() {
        let w = v;
        for i in 0..GROUP / 2 {
            v[2 * i] = _mm256_unpacklo_epi8(w[i], w[i + GROUP / 2]);
            v[2 * i + 1] = _mm256_unpackhi_epi8(w[i], w[i + GROUP / 2]);
        }
    }
    // A vector has two rows in each half.
    let (front, back) = out.split_at_mut(STEP / 2);
    let rows = front.as_chunks_mut().0.iter_mut().zip(back.as_chunks_mut().0);
    for ((front, back), pair) in rows.zip(v.as_chunks().0) {
        let [a, b]: [__m256i; 2] = *pair;
        store_four(_mm256_permute2x128_si256::<0x20>(a, b), front);
        store_four(_mm256_permute2x128_si256::<0x31>(a, b), back);
    }
}

/// Stores the offsets of four rows, given the indices of eight entries of each.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) fn store_four(indices: __m256i, out: &mut [Offsets; 4]) {
    const TABLE: i16 = (SUMS * ENTRY) as i16;
    let starts = _mm_mullo_epi16(_mm_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7), _mm_set1_epi16(TABLE));
    let starts = _mm256_broadcastsi128_si256(starts);
    let halves = [_mm256_castsi256_si128(indices), _mm256_extracti128_si256::<1>(indices)];
    for (indices, out) in halves.into_iter().zip(out.as_chunks_mut::<2>().0) {
        let entries = _mm256_slli_epi16::<{ ENTRY.ilog2() as i32 }>(_mm256_cvtepu8_epi16(indices));
        let offsets = _mm256_add_epi16(entries, starts);
        // SAFETY: the reference is valid for writing the 32 bytes that an unaligned store writes.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), offsets) }
    }
}
