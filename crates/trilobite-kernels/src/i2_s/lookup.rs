//! AVX2, many tokens: multiplication by look-up tables (Vec-LUT, arXiv 2512.06443).
//!
//! Lanes are tokens. For the four weights of a packed byte all 81 signed sums of their activations
//! are tabulated. Each row of the matrix then costs one addition per byte, which replaces 64
//! multiply-adds, and no code is decoded. The sums are exact.

use super::{BLOCK, BLOCK_BYTES, Product, avx2};
use crate::codes::{Codes, MARGIN};
use std::arch::x86_64::*;

/// Number of tokens in a vector. [`gemm`] takes multiples of it.
pub(crate) const LANES: usize = 16;
/// Number of packed bytes whose tables are in use at a time: 20 KiB in the first-level cache.
const GROUP: usize = 8;
/// Number of groups in a block.
const GROUPS: usize = BLOCK_BYTES / GROUP;
/// Number of values of a packed byte: the signed sums of four activations.
const SUMS: usize = 81;
/// Number of bytes of an entry.
const ENTRY: usize = size_of::<Lanes>();
/// Number of bytes of the tables of a group.
const TABLES_LEN: usize = (1 << 16) + ENTRY;
const _: () = assert!(GROUP * SUMS * ENTRY <= 1 << 16, "offsets have 16 bits");
/// Number of rows that share tables once they are built. With fewer rows, tables are built more
/// often; with more, more sums move between the first-level cache and beyond.
const ROWS: usize = 1280;
/// Number of groups that can be summed in i16: 255 + 7 * 8 bytes * 4 activations * 128 = 28927.
const NARROW: usize = 7;
/// Number of rows written together.
const TILE: usize = 8;

/// One number for each token.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
struct Lanes([i16; LANES]);

const ZERO: Lanes = Lanes([0; LANES]);

/// The table of byte `i` of a group starts at entry `SUMS * i`. Entries are found by their offset in
/// bytes, of which any in 16 bits is valid.
#[derive(Debug)]
#[repr(align(64))]
struct Tables([u8; TABLES_LEN]);

/// The offsets of the entries of four bytes, the first in the lowest bits.
type Offsets = u64;

impl Default for Tables {
    fn default() -> Tables {
        Tables([0; TABLES_LEN])
    }
}

/// The four activations of each byte of a group.
type Activations = [[Lanes; 4]; GROUP];

/// Buffers for tables and sums. They are reused, because fresh pages for every matrix would cost a
/// few per cent of the time.
#[derive(Debug, Default)]
pub(crate) struct Avx2Buffers {
    /// Where the tables have the sums of the bytes, for each group of bytes and each row.
    entries: Vec<[Offsets; GROUP / 4]>,
    /// The activations, for each group of bytes.
    activations: Vec<Activations>,
    tables: Box<Tables>,
    /// The sums, for each row: `256 * high + low`.
    low: Vec<Lanes>,
    high: Vec<Lanes>,
}

/// Fills `out` with the sums of a [`Product`] of a matrix that
/// [allows](super::Matrix::allows_many) it and a multiple of [`LANES`] tokens.
#[target_feature(enable = "avx2")]
pub(crate) fn gemm(product: &Product<'_>, buffers: &mut Avx2Buffers, out: &mut [i32]) {
    let Product { matrix, ref rows, x, ref tokens } = *product;
    assert!(matrix.allows_many() && tokens.len().is_multiple_of(LANES));
    let blocks = matrix.cols.div_ceil(BLOCK);
    let stride = rows.len();
    let Avx2Buffers { entries, activations, tables, low, high } = buffers;
    activations.resize(blocks * GROUPS, [[ZERO; 4]; GROUP]);
    for first in rows.clone().step_by(ROWS) {
        let count = ROWS.min(rows.end - first);
        entries.resize(blocks * GROUPS * count, [0; GROUP / 4]);
        find_entries(&matrix.blocks[first * blocks..][..count * blocks], blocks, entries);
        for (t, out) in tokens.clone().step_by(LANES).zip(out.chunks_mut(LANES * stride)) {
            transpose(x, t, activations);
            for sums in [&mut *low, &mut *high] {
                sums.clear();
                sums.resize(count.next_multiple_of(TILE), ZERO);
            }
            let groups = activations.iter().zip(entries.chunks(count));
            for (g, (activations, entries)) in groups.enumerate() {
                build(activations, tables);
                if g % NARROW == NARROW - 1 {
                    add::<true>(entries, tables, low, high);
                } else {
                    add::<false>(entries, tables, low, high);
                }
            }
            write(low, high, count, &mut out[first - rows.start..], stride);
        }
    }
}

/// Computes the offsets of the entries of the bytes of rows of `blocks` blocks.
#[target_feature(enable = "avx2")]
fn find_entries(packed: &[[u8; BLOCK_BYTES]], blocks: usize, entries: &mut [[Offsets; GROUP / 4]]) {
    let rows = packed.len() / blocks;
    let mut starts = [0; BLOCK_BYTES];
    for (i, start) in starts.iter_mut().enumerate() {
        *start = (i % GROUP * SUMS * ENTRY) as u16;
    }
    // Rows are the inner loop, which then writes a few streams instead of hundreds.
    for (b, entries) in entries.chunks_mut(GROUPS * rows).enumerate() {
        for (r, block) in packed.iter().skip(b).step_by(blocks).enumerate() {
            let mut offsets = [0; BLOCK_BYTES];
            for ((offset, byte), start) in offsets.iter_mut().zip(block).zip(starts) {
                let next = |sum: u16, shift: u8| 3 * sum + u16::from(byte >> shift & 3);
                // An invalid code may index any entry of the table.
                *offset = [6, 4, 2, 0].into_iter().fold(0, next) * ENTRY as u16 + start;
            }
            let offsets = offsets.map(u16::to_le_bytes);
            let words = offsets.as_flattened().as_chunks().0;
            for (g, words) in words.as_chunks().0.iter().enumerate() {
                entries[g * rows + r] = words.map(Offsets::from_le_bytes);
            }
        }
    }
}

/// Widens the activations of [`LANES`] tokens from `t` on, in the order of the packed bytes.
#[target_feature(enable = "avx2")]
fn transpose(x: &Codes, t: usize, activations: &mut [Activations]) {
    const SIDE: usize = LANES;
    let tokens: [_; SIDE] = std::array::from_fn(|i| x.padded(t + i)[MARGIN..].as_chunks().0);
    let bytes = activations.as_flattened_mut();
    for (i, bytes) in bytes.as_chunks_mut::<SIDE>().0.iter_mut().enumerate() {
        let (block, half) = (i / 2, i % 2);
        for plane in 0..4 {
            let column = block * (BLOCK / SIDE) + plane * 2 + half;
            let mut square = [_mm_setzero_si128(); SIDE];
            for (line, token) in square.iter_mut().zip(tokens) {
                *line = load_16(&token[column]);
            }
            // Each round interleaves the lines of the upper half with those of the lower half.
            for _ in 0..SIDE.ilog2() {
                let lines = square;
                for (i, pair) in square.as_chunks_mut().0.iter_mut().enumerate() {
                    let (a, b) = (lines[i], lines[i + SIDE / 2]);
                    *pair = [_mm_unpacklo_epi8(a, b), _mm_unpackhi_epi8(a, b)];
                }
            }
            for (byte, line) in bytes.iter_mut().zip(square) {
                store(&mut byte[plane], _mm256_cvtepi8_epi16(line));
            }
        }
    }
}

/// Tabulates the signed sums of the activations of each byte, in the order of the byte's codes.
#[target_feature(enable = "avx2")]
fn build(activations: &Activations, tables: &mut Tables) {
    for (i, x) in activations.iter().enumerate() {
        let table = &mut tables.0.as_chunks_mut::<ENTRY>().0[i * SUMS..][..SUMS];
        let [a, b, c, d] = [load(&x[0]), load(&x[1]), load(&x[2]), load(&x[3])];
        let [upper, lower] = [signed_pair(a, b), signed_pair(c, d)];
        for (nine, upper) in table.as_chunks_mut::<9>().0.iter_mut().zip(upper.as_flattened()) {
            for (entry, lower) in nine.iter_mut().zip(lower.as_flattened()) {
                avx2::store(_mm256_add_epi16(*upper, *lower), entry);
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
    entries: &[[Offsets; GROUP / 4]],
    tables: &Tables,
    low: &mut [Lanes],
    high: &mut [Lanes],
) {
    for ((entries, low), high) in entries.iter().zip(low).zip(high) {
        let mut sum = load(low);
        // One load for four offsets: loads limit the speed.
        for four in entries {
            for i in 0..4 {
                let offset = usize::from((four >> (16 * i)) as u16);
                let entry = &tables.0[offset..offset + ENTRY].as_chunks().0[0];
                sum = _mm256_add_epi16(sum, avx2::load(entry));
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

/// Writes the sums of `rows` rows. The rows of a token are adjacent, and tokens are `stride` apart.
#[target_feature(enable = "avx2")]
fn write(low: &[Lanes], high: &[Lanes], rows: usize, out: &mut [i32], stride: usize) {
    let tiles = low.as_chunks::<TILE>().0.iter().zip(high.as_chunks::<TILE>().0);
    for (i, (low, high)) in tiles.enumerate() {
        let (low, high) = (tokens_by_rows(low), tokens_by_rows(high));
        let row = i * TILE;
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
                let out = &mut out[t * stride + row..];
                match out.first_chunk_mut() {
                    Some(out) if row + TILE <= rows => store_i32(out, sums),
                    _ => {
                        let mut tile = [0; TILE];
                        store_i32(&mut tile, sums);
                        out[..rows - row].copy_from_slice(&tile[..rows - row]);
                    }
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
