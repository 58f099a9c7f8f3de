//! Products of Q1_0 with few tokens by look-up, with AVX2.
//!
//! A lane of a chunk has sixteen columns, whose codes are sixteen adjacent bits of the row. A table
//! holds, for each value of three of these bits, what they add to the lane's sum, an integer of 32
//! bits. So the sum of sixteen products is that of six numbers from tables, in place of products
//! with three bytes of each activation. Eight rows are multiplied at a time, one in each 32-bit
//! element of a register, because one instruction looks up eight numbers in a table of eight.
//!
//! The tables are made of the activations, once for all rows. Codes of two bits take eleven tables,
//! which is slower than the products.

use super::codes::{CHUNK, LANES, PLANE_LEN, PLANES, SplitChunk, SplitCodes, SplitRow};
use super::rows;
use crate::dense::types::{DenseMatrix, DenseType};
use crate::simd::avx2::Avx2;
use crate::simd::{AHEAD, Simd};
use std::arch::x86_64::*;

/// Number of rows that are multiplied together.
const ROWS: usize = 8;
/// Number of tables of a lane.
const TABLES: usize = LANES.div_ceil(3);
/// Bytes of a block of 128 columns: a step, then the codes.
const BLOCK: usize = 18;
/// Number of lanes in a block.
const BLOCK_LANES: usize = LANES / 2;
/// Maximum bytes of tables: a part of the second-level cache.
const MAX_BYTES: usize = 384 << 10;

/// The numbers for the values of three bits.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub(crate) struct SumTable([i32; 8]);

/// The tables of a chunk.
pub(crate) type ChunkTables = [[SumTable; TABLES]; LANES];

/// Whether the rows of a matrix can be multiplied in this way.
pub(super) fn fits(w: &DenseMatrix<'_>) -> bool {
    w.ty == DenseType::Q1_0 && w.rows >= ROWS && w.cols.is_multiple_of(CHUNK)
}

/// The products of all rows with the tokens from `first` on, a tile of tokens at a time. The matrix
/// [`fits`].
#[inline(always)]
pub(super) fn gemm(
    simd: Avx2<false>,
    w: DenseMatrix<'_>,
    x: &SplitCodes,
    mut first: usize,
    tables: &mut Vec<ChunkTables>,
    out: &mut [f32],
) {
    let each = w.cols / CHUNK;
    let most = MAX_BYTES / (each * size_of::<ChunkTables>());
    while first < x.tokens() {
        let n = match (x.tokens() - first).min(most) {
            4.. => 4,
            2.. => 2,
            _ => 1,
        };
        if tables.len() < n * each {
            tables.resize(n * each, [[SumTable([0; 8]); TABLES]; LANES]);
        }
        let tables = &mut tables[..n * each];
        for (t, tables) in tables.chunks_exact_mut(each).enumerate() {
            let chunks = x.row(first + t).chunks;
            for (chunk, tables) in chunks.iter().zip(tables) {
                fill(simd, chunk, tables);
            }
        }
        let out = &mut out[first * w.rows..(first + n) * w.rows];
        match n {
            4 => tile::<4>(simd, w, rows(x, first), tables, out),
            2 => tile::<2>(simd, w, rows(x, first), tables, out),
            _ => tile::<1>(simd, w, rows(x, first), tables, out),
        }
        first += n;
    }
}

/// Makes the tables of a chunk.
#[inline(always)]
fn fill(_: Avx2<false>, chunk: &SplitChunk, tables: &mut ChunkTables) {
    // A set bit stands for the code 2.
    let mut adds = [[0; PLANE_LEN]; PLANES];
    for p in 0..PLANES {
        let SplitChunk { high, middle, low, .. } = chunk;
        for i in 0..PLANE_LEN {
            let code = (i32::from(high[p][i]) << 16) + (i32::from(middle[p][i]) << 8);
            adds[p][i] = 2 * (code + i32::from(low[p][i]));
        }
    }
    for (lane, tables) in tables.iter_mut().enumerate() {
        // What bit `i` of the lane adds. Bits beyond the lane add nothing.
        let adds = |i: usize| match i < LANES {
            true => adds[i % PLANES][lane * 4 + i / PLANES],
            false => 0,
        };
        macro_rules! fill {
            ($($k:literal)*) => {$({
                let least = if $k == 0 { chunk.less[lane] } else { 0 };
                let (first, second, third) = (adds(3 * $k), adds(3 * $k + 1), adds(3 * $k + 2));
                // SAFETY: the caller's `Avx2` proves that the processor has the instructions; a table
                // has eight aligned integers.
                unsafe {
                    let a = _mm256_setr_epi32(0, -1, 0, -1, 0, -1, 0, -1);
                    let b = _mm256_setr_epi32(0, 0, -1, -1, 0, 0, -1, -1);
                    let c = _mm256_setr_epi32(0, 0, 0, 0, -1, -1, -1, -1);
                    let a = _mm256_and_si256(_mm256_set1_epi32(first), a);
                    let b = _mm256_and_si256(_mm256_set1_epi32(second), b);
                    let c = _mm256_and_si256(_mm256_set1_epi32(third), c);
                    let c = _mm256_add_epi32(_mm256_set1_epi32(least), c);
                    let sums = _mm256_add_epi32(_mm256_add_epi32(a, b), c);
                    _mm256_store_si256((&raw mut tables[$k].0).cast(), sums);
                }
            })*};
        }
        fill!(0 1 2 3 4 5);
    }
}

/// The products of rows with `T` tokens.
#[inline(always)]
fn tile<const T: usize>(
    simd: Avx2<false>,
    w: DenseMatrix<'_>,
    x: [SplitRow<'_>; T],
    tables: &[ChunkTables],
    out: &mut [f32],
) {
    let row_len = w.bytes.len() / w.rows;
    let each = tables.len() / T;
    for first in (0..w.rows).step_by(ROWS) {
        // The last eight rows may include some of those before.
        let first = first.min(w.rows - ROWS);
        let bytes = &w.bytes[first * row_len..(first + ROWS) * row_len];
        let blocks = bytes.as_chunks::<BLOCK>().0;
        let count = blocks.len() / ROWS;
        // SAFETY: `simd` proves that the processor has the instructions.
        let mut acc = [[unsafe { _mm256_setzero_ps() }; LANES]; T];
        for b in 0..count {
            let start = bytes.as_ptr().wrapping_add(ROWS * BLOCK * b + AHEAD);
            simd.prefetch(start, ROWS * BLOCK);
            let mut rows = [&blocks[b]; ROWS];
            for (r, row) in rows.iter_mut().enumerate() {
                *row = &blocks[r * count + b];
            }
            let steps = steps(simd, rows);
            for (i, word) in words(simd, rows).into_iter().enumerate() {
                // A word has two lanes.
                let lane = b % 2 * BLOCK_LANES + 2 * i;
                macro_rules! look_up {
                    ($lane:expr, $($k:literal $by:literal),*) => {
                        // SAFETY: `simd` proves that the processor has the instructions; tables are
                        // eight aligned integers.
                        unsafe {
                            let mut sums = [_mm256_setzero_si256(); T];
                            $({
                                let index = _mm256_srli_epi32::<$by>(word);
                                for t in 0..T {
                                    let table = &tables[t * each + b / 2][$lane][$k].0;
                                    let table = _mm256_load_si256((&raw const *table).cast());
                                    let chosen = _mm256_permutevar8x32_epi32(table, index);
                                    sums[t] = _mm256_add_epi32(sums[t], chosen);
                                }
                            })*
                            for t in 0..T {
                                let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[t]), steps);
                                let step = _mm256_set1_ps(x[t].steps[b / 2]);
                                acc[t][$lane] = _mm256_fmadd_ps(scaled, step, acc[t][$lane]);
                            }
                        }
                    };
                }
                look_up!(lane, 0 0, 1 3, 2 6, 3 9, 4 12, 5 15);
                look_up!(lane + 1, 0 16, 1 19, 2 22, 3 25, 4 28, 5 31);
            }
        }
        for (t, acc) in acc.iter_mut().enumerate() {
            let mut width = LANES;
            while width > 1 {
                width /= 2;
                for i in 0..width {
                    // SAFETY: `simd` proves that the processor has the instructions.
                    acc[i] = unsafe { _mm256_add_ps(acc[i], acc[i + width]) };
                }
            }
            let out = &mut out[t * w.rows + first..][..ROWS];
            // SAFETY: `simd` proves that the processor has the instructions; `out` has eight floats.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), acc[0]) };
        }
    }
}

/// The steps of a block of each row.
#[inline(always)]
fn steps(_: Avx2<false>, rows: [&[u8; BLOCK]; ROWS]) -> __m256 {
    let mut steps = [0; ROWS];
    for (step, row) in steps.iter_mut().zip(rows) {
        *step = u16::from_le_bytes([row[0], row[1]]);
    }
    // SAFETY: the caller's `Avx2` proves that the processor has the instructions; there are eight f16.
    unsafe { _mm256_cvtph_ps(_mm_loadu_si128(steps.as_ptr().cast())) }
}

/// The four words of 32 bits of a block, each of all rows.
#[inline(always)]
fn words(_: Avx2<false>, rows: [&[u8; BLOCK]; ROWS]) -> [__m256i; 4] {
    // SAFETY: the caller's `Avx2` proves that the processor has the instructions; there are 16
    // bytes of codes.
    unsafe {
        let load = |r: usize| _mm_loadu_si128(rows[r][2..].as_ptr().cast());
        let a = _mm256_set_m128i(load(4), load(0));
        let b = _mm256_set_m128i(load(5), load(1));
        let c = _mm256_set_m128i(load(6), load(2));
        let d = _mm256_set_m128i(load(7), load(3));
        let (low, high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        let (others, rest) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
        [
            _mm256_unpacklo_epi64(low, others),
            _mm256_unpackhi_epi64(low, others),
            _mm256_unpacklo_epi64(high, rest),
            _mm256_unpackhi_epi64(high, rest),
        ]
    }
}
