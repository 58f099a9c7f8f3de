//! Products of many tokens by look-up (Vec-LUT, arXiv 2512.06443).
//!
//! Lanes are tokens. For each four columns of a sum, a table holds what they add for all 81 choices
//! of weights, which must be -1, 0 and 1. A row of the matrix adds one entry in place of 64 products
//! with each of the three bytes of the activations.

use super::codes::{CHUNK, LANES, PLANE_LEN, PLANES, SplitChunk, SplitCodes};
use super::format::{self, LowBitFormat, dispatch};
use super::simd::BytePlanes;
use crate::dense::blocks::simd::{Half, ROWS_LEN};
use crate::dense::types::{DenseMatrix, DenseType};
use std::ops::Range;

/// Number of tokens that are multiplied together.
const TOKENS: usize = LANES;
/// Number of tables of a sum, each of [`PLANES`] columns.
const TABLES: usize = LANES / PLANES;
/// Number of entries of a table.
const SUMS: usize = 81;
/// Number of tables in 256 entries, so that any byte is a valid index.
const SHARING: usize = 256 / SUMS;
/// Number of rows whose entries are adjacent.
const PANEL: usize = ROWS_LEN / TABLES;
/// Number of rows that share tables once they are built. With fewer rows, tables are built more
/// often; with more, entries and sums leave the second-level cache.
const ROWS: usize = 1024;
/// Least number of rows for which tables pay: building all takes about the time of 60 rows.
const LEAST_ROWS: usize = 128;
/// Bytes of the codes of a token in a chunk.
const TOKEN_BYTES: usize = 4 * CHUNK;

/// An integer for each token.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Entry([i32; TOKENS]);

/// Table `i` starts at entry `SUMS * (i % SHARING)` of `[i / SHARING]`.
#[derive(Debug)]
struct Tables([[Entry; 256]; TABLES.div_ceil(SHARING)]);

impl Default for Tables {
    fn default() -> Tables {
        Tables([[Entry([0; TOKENS]); 256]; TABLES.div_ceil(SHARING)])
    }
}

/// Buffers of a product.
#[derive(Debug, Default)]
pub(super) struct LookupBuffers {
    /// The entries of a sum's four tables for each row, `[chunks][LANES][panels]`.
    entries: Vec<[u8; ROWS_LEN]>,
    /// The step of each 64 columns for each row, `[chunks][4][panels]`.
    scales: Vec<[f32; PANEL]>,
    /// The codes of the tokens as bytes of i32, `[chunks][TOKENS]`, each in planes.
    codes: Vec<[[u8; TOKEN_BYTES]; TOKENS]>,
    /// The step of each token, `[chunks]`.
    steps: Vec<Half>,
    tables: Box<Tables>,
    /// The sums of a lane, for each row.
    lane: Vec<Half>,
    /// The sums of one lane, of two, of four, and so on, for each row.
    pairs: [Vec<Half>; LANES.ilog2() as usize + 1],
}

/// Multiplies all rows with the first tokens, as many as are faster in this way. Returns their
/// number.
#[inline(always)]
pub(super) fn gemm<S: BytePlanes>(
    simd: S,
    w: DenseMatrix<'_>,
    x: &SplitCodes,
    buffers: &mut LookupBuffers,
    out: &mut [f32],
) -> usize {
    let Some(least) = S::least_look_up(w.ty) else { return 0 };
    let rest = x.tokens() % TOKENS;
    let tokens = if rest < least { x.tokens() - rest } else { x.tokens() };
    if tokens == 0 || w.rows < LEAST_ROWS {
        return 0;
    }
    let row_len = w.bytes.len() / w.rows;
    for (i, rows) in w.bytes.chunks(ROWS * row_len).enumerate() {
        let panels = rows.len().div_ceil(row_len * PANEL);
        buffers.reset(w.cols.div_ceil(CHUNK), panels);
        if !dispatch!(w.ty, find_entries::<S>(simd, rows, row_len, buffers)) {
            return 0;
        }
        for first in (0..tokens).step_by(TOKENS) {
            let n = TOKENS.min(tokens - first);
            buffers.set_tokens(x, first..first + n);
            add_lanes(simd, panels, buffers);
            // The last panel can have fewer rows than sums.
            let count = rows.len() / row_len;
            let sums = buffers.pairs[LANES.ilog2() as usize][..count].chunks(PANEL);
            for (panel, sums) in sums.enumerate() {
                for t in 0..n {
                    let out = &mut out[(first + t) * w.rows + i * ROWS + panel * PANEL..];
                    for (out, sum) in out.iter_mut().zip(sums) {
                        *out = sum.0[t];
                    }
                }
            }
        }
    }
    tokens
}

impl LookupBuffers {
    /// Resizes everything for panels of rows with a number of chunks.
    fn reset(&mut self, chunks: usize, panels: usize) {
        self.entries.resize(chunks * LANES * panels, [0; ROWS_LEN]);
        self.scales.resize(chunks * 4 * panels, [0.0; PANEL]);
        self.codes.resize(chunks, [[0; TOKEN_BYTES]; TOKENS]);
        self.steps.resize(chunks, Half::ZERO);
        for sums in self.pairs.iter_mut().chain([&mut self.lane]) {
            sums.resize(panels * PANEL, Half::ZERO);
        }
    }

    /// Joins the bytes of the codes of at most [`TOKENS`] tokens. The codes of others are zero.
    #[inline(always)]
    fn set_tokens(&mut self, x: &SplitCodes, tokens: Range<usize>) {
        for t in 0..TOKENS {
            let to = self.codes.iter_mut().zip(&mut self.steps);
            if t >= tokens.len() {
                to.for_each(|(codes, steps)| (codes[t], steps.0[t]) = ([0; TOKEN_BYTES], 0.0));
                continue;
            }
            let row = x.row(tokens.start + t);
            for ((codes, steps), (chunk, step)) in to.zip(row.chunks.iter().zip(row.steps)) {
                steps.0[t] = *step;
                let SplitChunk { high, middle, low, .. } = chunk;
                let bytes = high.as_flattened().iter().zip(middle.as_flattened());
                let bytes = bytes.zip(low.as_flattened());
                for (out, ((high, middle), low)) in
                    codes[t].as_chunks_mut::<4>().0.iter_mut().zip(bytes)
                {
                    let code = (i32::from(*high) << 16) + (i32::from(*middle) << 8);
                    *out = (code + i32::from(*low)).to_le_bytes();
                }
            }
        }
    }
}

/// Finds the entries and the scales of rows. Returns whether all weights are -1, 0 and 1.
#[inline(always)]
fn find_entries<S: BytePlanes, F: LowBitFormat<N, B>, const N: usize, const B: usize>(
    simd: S,
    rows: &[u8],
    row_len: usize,
    buffers: &mut LookupBuffers,
) -> bool {
    let mut starts = [0; PLANE_LEN];
    for (i, start) in starts.iter_mut().enumerate() {
        *start = (i % TABLES % SHARING * SUMS) as u8;
    }
    let mut largest = [0; PLANE_LEN];
    let LookupBuffers { entries, scales, .. } = buffers;
    let panels = rows.len().div_ceil(row_len * PANEL);
    let to = entries.chunks_exact_mut(LANES * panels);
    for (c, (entries, scales)) in to.zip(scales.chunks_exact_mut(4 * panels)).enumerate() {
        for (r, rows) in rows.chunks(PANEL * row_len).enumerate() {
            let mut bytes = [[0; PLANE_LEN]; PANEL];
            let mut steps = [Half::ZERO; PANEL];
            let to = bytes.iter_mut().zip(&mut steps);
            for ((bytes, steps), row) in to.zip(rows.chunks_exact(row_len)) {
                let blocks = &row.as_chunks::<N>().0[c * B..];
                let mut chunk = [[0; N]; B];
                match blocks.first_chunk() {
                    Some(blocks) => chunk = *blocks,
                    None => chunk[..blocks.len()].copy_from_slice(blocks),
                }
                let mut codes = [[0; PLANE_LEN]; PLANES];
                for (out, plane) in codes.iter_mut().zip(F::planes(simd, &chunk)) {
                    simd.store_plane(plane, out);
                }
                for (i, byte) in bytes.iter_mut().enumerate() {
                    let mut sum = 0_u8;
                    for plane in codes.iter().rev() {
                        // An invalid code may index any entry of the table.
                        sum = sum.wrapping_add(sum).wrapping_add(sum).wrapping_add(plane[i]);
                        largest[i] = plane[i].max(largest[i]);
                    }
                    *byte = sum.wrapping_add(starts[i]);
                }
                simd.store_half(simd.steps(F::steps(&chunk)), steps);
            }
            for i in 0..PLANE_LEN / 16 {
                let lanes = simd.quads(&bytes.as_flattened()[16 * i..], PLANE_LEN);
                for (j, lane) in lanes.into_iter().enumerate() {
                    simd.store_rows(lane, &mut entries[(4 * i + j) * panels + r]);
                }
                for (to, steps) in scales[i * panels + r].iter_mut().zip(&steps) {
                    *to = steps.0[4 * i];
                }
            }
        }
    }
    largest.iter().all(|code| *code <= 2)
}

/// Sums the products of all rows.
#[inline(always)]
fn add_lanes<S: BytePlanes>(simd: S, panels: usize, buffers: &mut LookupBuffers) {
    let LookupBuffers { entries, scales, codes, steps, tables, lane: sums, pairs } = buffers;
    for i in 0..LANES {
        // In this order, the lanes that are added to each other follow each other.
        let lane = i.reverse_bits() >> (usize::BITS - LANES.ilog2());
        sums.fill(Half::ZERO);
        for (c, (codes, steps)) in codes.iter().zip(&*steps).enumerate() {
            build(simd, codes, lane, tables);
            let entries = &entries[(c * LANES + lane) * panels..][..panels];
            let scales = &scales[(c * 4 + lane / 4) * panels..][..panels];
            add(simd, entries, scales, steps, tables, sums);
        }
        let level = i.trailing_ones() as usize;
        for pairs in &pairs[..level] {
            for (pair, sum) in pairs.iter().zip(&mut *sums) {
                simd.store_half(simd.add_half(simd.load_half(pair), simd.load_half(sum)), sum);
            }
        }
        std::mem::swap(sums, &mut pairs[level]);
    }
}

/// Tabulates the sums of the codes of a lane's columns for all choices of weights.
#[inline(always)]
fn build<S: BytePlanes>(
    simd: S,
    codes: &[[u8; TOKEN_BYTES]; TOKENS],
    lane: usize,
    tables: &mut Tables,
) {
    let mut columns = [[simd.zero_sums(); PLANES]; TABLES];
    for p in 0..PLANES {
        let codes = &codes.as_flattened()[4 * (p * PLANE_LEN + lane * TABLES)..];
        for (columns, codes) in columns.iter_mut().zip(simd.quads(codes, TOKEN_BYTES)) {
            columns[p] = simd.whole(codes);
        }
    }
    for (i, [a, b, c, d]) in columns.into_iter().enumerate() {
        let table = &mut tables.0[i / SHARING][i % SHARING * SUMS..][..SUMS];
        let mut upper = [simd.zero_sums(); 9];
        let mut lower = [simd.zero_sums(); 9];
        signed_pairs(simd, d, c, &mut upper);
        signed_pairs(simd, b, a, &mut lower);
        for (entries, upper) in table.as_chunks_mut::<9>().0.iter_mut().zip(upper) {
            for (entry, lower) in entries.iter_mut().zip(lower) {
                simd.store_sums(simd.add_sums(upper, lower), &mut entry.0);
            }
        }
    }
}

/// `out[3 i + j] = (i - 1) a + (j - 1) b`
#[inline(always)]
fn signed_pairs<S: BytePlanes>(simd: S, a: S::Sums, b: S::Sums, out: &mut [S::Sums; 9]) {
    let zero = simd.zero_sums();
    let first = [simd.sub_sums(zero, a), zero, a];
    let second = [simd.sub_sums(zero, b), zero, b];
    for i in 0..3 {
        for j in 0..3 {
            out[3 * i + j] = simd.add_sums(first[i], second[j]);
        }
    }
}

/// Adds a lane's products of a chunk to the sum of each row.
#[inline(always)]
fn add<S: BytePlanes>(
    simd: S,
    entries: &[[u8; ROWS_LEN]],
    scales: &[[f32; PANEL]],
    steps: &Half,
    tables: &Tables,
    sums: &mut [Half],
) {
    let steps = simd.load_half(steps);
    let rows = entries.as_flattened().as_chunks::<TABLES>().0.iter().zip(scales.as_flattened());
    for ((entries, scale), sum) in rows.zip(sums) {
        // One load for all entries.
        let entries = u32::from_le_bytes(*entries);
        let mut dot = simd.load_sums(&tables.0[0][usize::from(entries as u8)].0);
        for i in 1..TABLES {
            let entry = &tables.0[i / SHARING][usize::from((entries >> (8 * i)) as u8)];
            dot = simd.add_sums(dot, simd.load_sums(&entry.0));
        }
        let scaled = simd.mul_half(simd.floats(dot), simd.splat_half(*scale));
        simd.store_half(simd.mul_add_half(scaled, steps, simd.load_half(sum)), sum);
    }
}
