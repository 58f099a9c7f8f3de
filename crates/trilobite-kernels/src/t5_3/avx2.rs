//! AVX2: `vpshufb` looks up the indices of the triples of 32 rows in a table of sums of
//! activations, and `vpsignb` applies the signs.
//!
//! A sum of three int8 exceeds int8, so it is stored as `STEP * high + low`. Both parts are small
//! enough that those of the eight triples of a block can be added in int8.

mod indices;
mod repack;

pub(crate) use repack::repack;

use super::{
    BLOCK_COLS, INDEX, INVALID, PLANES, Plane, Product, SIGN, TILE, TRIPLE, TRIPLES, WEIGHTS,
    planes,
};
use crate::codes::MARGIN;
use crate::simd::prefetch::Prefetch;
use std::arch::x86_64::*;

/// The unit of the high part. Sums lie in -384..=384, so high parts in -15..=15 and low parts in
/// -13..=13, and the sum of eight of either in -120..=120.
const STEP: i16 = 26;
/// 2^15 / `STEP`, for a rounding division.
const RECIPROCAL: i16 = (32768 / STEP as i32) as i16;
/// Added to the sums of a block to make them positive.
const BIAS: i32 = 128;
/// Number of blocks whose tables are held: 32 KB. 128 sums of at most 248 fit in 16 bits.
const BLOCKS: usize = 128;

/// The low and the high parts of the sum of three activations, for every index.
type Table = [[i8; 16]; 2];

/// Fills `out` with the sums of a [`Product`].
#[target_feature(enable = "avx2")]
pub(crate) fn gemm(product: &Product<'_>, out: &mut [i32]) {
    out.fill(0);
    let mut tables = [[[0; 16]; 2]; BLOCKS * TRIPLES];
    let (tokens, stride) = (product.tokens.clone(), product.rows.len());
    let mut t = tokens.start;
    while t < tokens.end {
        let out = &mut out[(t - tokens.start) * stride..];
        t += match tokens.end - t {
            1 => gemm_tokens::<1>(product, t, &mut tables, out),
            2 | 3 => gemm_tokens::<2>(product, t, &mut tables, out),
            _ => gemm_tokens::<4>(product, t, &mut tables, out),
        };
    }
}

/// Adds the sums of weights times activations of `T` tokens from `t` on. Returns `T`.
#[target_feature(enable = "avx2")]
fn gemm_tokens<const T: usize>(
    product: &Product<'_>,
    t: usize,
    tables: &mut [Table],
    out: &mut [i32],
) -> usize {
    let Product { matrix, ref rows, x, .. } = *product;
    let planes = planes(matrix.cols);
    let blocks = planes.div_ceil(PLANES);
    let parts = (T * blocks).div_ceil(BLOCKS);
    let step = blocks.div_ceil(parts);
    for start in (0..blocks).step_by(step) {
        let end = blocks.min(start + step);
        let tables = &mut tables.as_chunks_mut().0[..(end - start) * TRIPLES];
        for i in 0..T {
            let x = &x.padded(t + i)[MARGIN..][start * BLOCK_COLS..end * BLOCK_COLS];
            for (tables, x) in tables.iter_mut().zip(x.as_chunks().0) {
                tables[i] = table(x);
            }
        }
        let tables = tables.as_chunks().0;
        for index in rows.start / TILE..rows.end.div_ceil(TILE) {
            let weights = matrix.tile(index);
            let weights = &weights[start * PLANES..weights.len().min(end * PLANES)];
            let sums = tile_sums::<T>(weights, planes, tables);
            let first = index * TILE;
            let wanted = rows.start.max(first)..rows.end.min(first + TILE);
            for (sums, out) in sums.iter().zip(out.chunks_mut(rows.len())) {
                let out = &mut out[wanted.start - rows.start..wanted.end - rows.start];
                for (out, sum) in out.iter_mut().zip(&sums[wanted.start - first..]) {
                    *out += sum;
                }
            }
        }
    }
    T
}

/// Builds the table of three activations.
#[target_feature(enable = "avx2")]
#[inline]
fn table(x: &[i8; 3]) -> Table {
    /// The sign of each activation in the sum of each index.
    const SIGNS: [[i16; 16]; 3] = {
        let mut signs = [[0; 16]; 3];
        let mut i = 0;
        while i < 3 * 16 {
            // Invalid indices count as 0.
            if WEIGHTS[i / 3][0] != INVALID {
                signs[i % 3][i / 3] = WEIGHTS[i / 3][i % 3] as i16;
            }
            i += 1;
        }
        signs
    };
    let mut sums = _mm256_setzero_si256();
    for (x, signs) in x.iter().zip(&SIGNS) {
        let product = _mm256_sign_epi16(_mm256_set1_epi16(i16::from(*x)), load(signs));
        sums = _mm256_add_epi16(sums, product);
    }
    let high = _mm256_mulhrs_epi16(sums, _mm256_set1_epi16(RECIPROCAL));
    let low = _mm256_sub_epi16(sums, _mm256_mullo_epi16(high, _mm256_set1_epi16(STEP)));
    let both = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi16(low, high));
    let mut table = [[0; 16]; 2];
    store(both, &mut table);
    table
}

/// Running sums of 32 rows for one token. `words` holds the sums of pairs of adjacent rows' bytes
/// read as 16-bit numbers, wrapping. `odd` holds those of the odd rows alone.
#[derive(Clone, Copy)]
struct Sums {
    words: __m256i,
    odd: __m256i,
}

impl Sums {
    #[target_feature(enable = "avx2")]
    #[inline]
    fn add(&mut self, bytes: __m256i) {
        self.words = _mm256_add_epi16(self.words, bytes);
        self.odd = _mm256_add_epi16(self.odd, _mm256_srli_epi16::<8>(bytes));
    }

    /// The sums of all rows, in order.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn rows(self) -> [i32; TILE] {
        let even = _mm256_sub_epi16(self.words, _mm256_slli_epi16::<8>(self.odd));
        let (mut evens, mut odds) = ([0u16; TILE / 2], [0u16; TILE / 2]);
        store(even, &mut evens);
        store(self.odd, &mut odds);
        let mut rows = [0; TILE];
        for r in 0..TILE {
            rows[r] = i32::from(if r % 2 == 0 { evens[r / 2] } else { odds[r / 2] });
        }
        rows
    }
}

/// Sums of weights times activations of a tile over some blocks. The next tile is `stride` planes
/// further.
#[target_feature(enable = "avx2")]
#[inline]
fn tile_sums<const T: usize>(
    weights: &[Plane],
    stride: usize,
    tables: &[[[Table; T]; TRIPLES]],
) -> [[i32; TILE]; T] {
    let zero = Sums { words: _mm256_setzero_si256(), odd: _mm256_setzero_si256() };
    let mut sums = [[zero; 2]; T];
    let way = Prefetch::fastest();
    let (whole, rest) = weights.as_chunks();
    for (block, tables) in whole.iter().zip(tables) {
        prefetch(way, block, stride);
        add_block(block, tables, &mut sums);
    }
    if !rest.is_empty() {
        let mut block = [[0; TILE]; PLANES];
        block[..rest.len()].copy_from_slice(rest);
        add_block(&block, &tables[whole.len()], &mut sums);
    }
    let bias = BIAS * tables.len() as i32;
    let mut totals = [[0; TILE]; T];
    for t in 0..T {
        let [low, high] = sums[t];
        let (low, high) = (low.rows(), high.rows());
        for r in 0..TILE {
            totals[t][r] = (low[r] - bias) + (high[r] - bias) * i32::from(STEP);
        }
    }
    totals
}

/// Adds the sums over one block.
#[target_feature(enable = "avx2")]
#[inline]
fn add_block<const T: usize>(
    block: &[Plane; PLANES],
    tables: &[[Table; T]; TRIPLES],
    sums: &mut [[Sums; 2]; T],
) {
    let mut bytes = [[_mm256_set1_epi8(BIAS as i8); 2]; T];
    if T == 1 {
        for (triple, tables) in triples(block).into_iter().zip(tables) {
            look_up(triple, tables, &mut bytes);
        }
    } else {
        // There are not enough registers for all triples.
        look_up(triple::<0>(block), &tables[0], &mut bytes);
        look_up(triple::<1>(block), &tables[1], &mut bytes);
        look_up(triple::<2>(block), &tables[2], &mut bytes);
        look_up(triple::<3>(block), &tables[3], &mut bytes);
        look_up(triple::<4>(block), &tables[4], &mut bytes);
        look_up(triple::<5>(block), &tables[5], &mut bytes);
        look_up(triple::<6>(block), &tables[6], &mut bytes);
        look_up(triple::<7>(block), &tables[7], &mut bytes);
    }
    for (sums, bytes) in sums.iter_mut().zip(bytes) {
        for (sums, bytes) in sums.iter_mut().zip(bytes) {
            sums.add(bytes);
        }
    }
}

/// Adds the parts of the sums of a triple, given its indices and signs.
#[target_feature(enable = "avx2")]
#[inline]
fn look_up<const T: usize>(
    (index, sign): (__m256i, __m256i),
    tables: &[Table; T],
    bytes: &mut [[__m256i; 2]; T],
) {
    for (bytes, table) in bytes.iter_mut().zip(tables) {
        for (bytes, table) in bytes.iter_mut().zip(table) {
            let part = _mm256_shuffle_epi8(broadcast(table), index);
            *bytes = _mm256_add_epi8(*bytes, _mm256_sign_epi8(part, sign));
        }
    }
}

/// The indices of a triple of a block, for `vpshufb`, and factors with their signs, for `vpsignb`.
#[target_feature(enable = "avx2")]
#[inline]
fn triple<const TRIPLE: usize>(block: &[Plane; PLANES]) -> (__m256i, __m256i) {
    const { assert!(SIGN[TRIPLE].1 + TRIPLE as u32 % 4 == 7, "signs are in order") }
    let (plane, shift) = INDEX[TRIPLE];
    let codes = load(&block[plane]);
    let codes = if shift == 0 { codes } else { _mm256_srli_epi16::<4>(codes) };
    let index = _mm256_and_si256(codes, _mm256_set1_epi8(15));
    // A sign is moved to bit 7. The bits below it are never all 0, which would be a factor of 0: an
    // index is at least 1, and the one in bits 0 to 3 stays in its byte.
    let signs = load(&block[SIGN[TRIPLE].0]);
    let sign = match TRIPLE % 4 {
        0 => signs,
        1 => _mm256_slli_epi16::<1>(signs),
        2 => _mm256_slli_epi16::<2>(signs),
        _ => _mm256_slli_epi16::<3>(signs),
    };
    (index, sign)
}

/// All triples of a block.
#[target_feature(enable = "avx2")]
#[inline]
fn triples(block: &[Plane; PLANES]) -> [(__m256i, __m256i); TRIPLES] {
    [
        triple::<0>(block),
        triple::<1>(block),
        triple::<2>(block),
        triple::<3>(block),
        triple::<4>(block),
        triple::<5>(block),
        triple::<6>(block),
        triple::<7>(block),
    ]
}

/// A multiple of the weight of every index for each place in a triple, stored twice.
const fn weights(unit: i8) -> [[i8; TILE]; TRIPLE] {
    let mut tables = [[0; TILE]; TRIPLE];
    let mut i = 0;
    while i < TRIPLE * TILE {
        let weight = WEIGHTS[i / TRIPLE % 16][i % TRIPLE];
        if weight != INVALID {
            tables[i % TRIPLE][i / TRIPLE] = unit * weight;
        }
        i += 1;
    }
    tables
}

/// A type without padding for which every bit pattern is valid.
trait Bytes {}
impl Bytes for Plane {}
impl Bytes for [i8; TILE] {}
impl Bytes for [i16; 16] {}
impl Bytes for [u16; 16] {}
impl Bytes for Table {}

#[target_feature(enable = "avx2")]
#[inline]
fn load<T: Bytes>(bytes: &T) -> __m256i {
    const { assert!(size_of::<T>() == TILE) };
    // SAFETY: the reference is valid for reading the 32 bytes that an unaligned load reads.
    unsafe { _mm256_loadu_si256(std::ptr::from_ref(bytes).cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store<T: Bytes>(v: __m256i, bytes: &mut T) {
    const { assert!(size_of::<T>() == TILE) };
    // SAFETY: the reference is valid for writing the 32 bytes that an unaligned store writes, and
    // every bit pattern of them is a valid `T`.
    unsafe { _mm256_storeu_si256(std::ptr::from_mut(bytes).cast(), v) }
}

/// Half a table in both halves of a vector.
#[target_feature(enable = "avx2")]
#[inline]
fn broadcast(half: &[i8; 16]) -> __m256i {
    // SAFETY: the reference is valid for reading the 16 bytes that an unaligned load reads.
    let half = unsafe { _mm_loadu_si128(half.as_ptr().cast()) };
    _mm256_broadcastsi128_si256(half)
}

/// Prefetches the same block of the next tile, `stride` planes further. The planes that follow the
/// block in memory may belong to columns that are needed much later.
#[target_feature(enable = "avx2")]
#[inline]
fn prefetch(way: Prefetch, block: &[Plane; PLANES], stride: usize) {
    let ahead = block.as_ptr().cast::<i8>().wrapping_add(stride * TILE);
    way.lines([0, 64, 128].map(|line| ahead.wrapping_add(line)));
}
