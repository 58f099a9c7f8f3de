//! Products of weights in blocks of small integers with 16-bit activations.
//!
//! Columns form chunks of 256, and chunks form eight groups of 32. A row of activations is rounded
//! to 16-bit integers, with a step for every chunk: the largest magnitude divided by 32,767. The
//! error is 258 times smaller than with the 8 bits of other engines. Then, for each chunk,
//!
//! - `sum[g]` is the sum of the products of the integers of group `g`, which is exact: a product of
//!   two is at most 128 * 32,768, so 32 of them stay below 2^31;
//! - `chunk[g] = f32(sum[g]) * d[g]`, where `d[g]` is the step of the group's weights; if halves of
//!   a group have steps of their own, it is `fma(f32(upper), d', f32(lower) * d)`;
//! - if weights have minimums, `chunk[g] = fma(m[g], a[g], chunk[g])` for the minimum of each group
//!   and the sum of its activations' integers;
//! - `row[g] = fma(chunk[g], step, row[g])` with the step of the activations.
//!
//! At the end the eight lanes of a row are added pairwise: 4 + 4, 2 + 2, 1 + 1. Padding columns are
//! zeros.
//!
//! Lanes are rows: sixteen, a *panel*, are transposed four bytes at a time, as they are stored, and
//! then widened. The columns of a group add to the same lane, and a sum is converted once in 32
//! products.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod codes;
mod format;
#[cfg(target_arch = "aarch64")]
pub(super) mod neon;
mod scalar;
pub(crate) mod simd;

pub(crate) use codes::{CHUNK, GROUP, GROUPS};
pub use codes::{WideCodes, WideGroup, WideParts};

use self::codes::WideRow;
use self::format::{Factors, Format, RowBytes, dispatch};
use self::simd::{Half, Integers, LANES, ROWS_LEN};
use super::types::{DenseMatrix, DenseType};
use crate::simd::pad;
use std::marker::PhantomData;

/// The largest code.
const LARGEST: f32 = 32_767.0;
/// 1.5 * 2^23. Adding it rounds a number of at most 2^22 to an integer, ties to even.
const ROUND: f32 = 12_582_912.0;

/// Number of chunks of a block of widened weights. A tile's activations then stay in the
/// first-level cache.
const DEPTH: usize = 8;
/// Number of rows of a block, whose weights, 384 KB, stay in the second-level cache.
const ROWS: usize = 96;
/// Number of rows of a panel.
const PANEL: usize = LANES;
/// The largest number of tokens whose products need no widened copy of the weights.
const MAX_FEW_TOKENS: usize = 8;
/// Number of bytes of the longest chunk, of Q8_0.
const MAX_CHUNK_LEN: usize = 8 * 34;

/// See [`Kernels::wide_codes`](crate::Kernels::wide_codes). `codes`, `steps` and `sums` belong to
/// one row.
#[inline(always)]
pub(crate) fn wide_codes(
    simd: impl Integers,
    x: &[f32],
    codes: &mut [WideGroup],
    steps: &mut [f32],
    sums: &mut [[f32; GROUPS]],
) {
    let chunks = codes.as_chunks_mut::<GROUPS>().0.iter_mut().zip(x.chunks(CHUNK));
    for (((codes, x), step), sums) in chunks.zip(steps).zip(sums) {
        let whole;
        let x: &[f32; CHUNK] = match x.first_chunk() {
            Some(x) => x,
            None => {
                whole = pad(x);
                &whole
            }
        };
        let inverse;
        (*step, inverse) = step_of(x);
        for ((codes, x), sum) in codes.iter_mut().zip(x.as_chunks::<GROUP>().0).zip(sums) {
            let mut total = 0;
            for (code, x) in codes.0.iter_mut().zip(x) {
                // Leaves the integer in the low bits.
                *code = (x * inverse + ROUND).to_bits() as i16;
                total += i32::from(*code);
            }
            simd.arrange(codes);
            *sum = total as f32;
        }
    }
}

/// The step of a chunk's codes, and its inverse.
#[inline(always)]
fn step_of(x: &[f32]) -> (f32, f32) {
    // Compares as integers, so that infinities and NaN are the largest.
    let largest = x.iter().fold(0, |max, x| max.max(x.to_bits() & 0x7fff_ffff));
    let step = f32::from_bits(largest) / LARGEST;
    (step, if step >= f32::MIN_POSITIVE { 1.0 / step } else { 0.0 })
}

/// What the [codes](crate::Kernels::wide_codes) of a row of activations leave of it: the differences
/// from the values of the codes. Codes of these differences add another 16 bits.
pub fn wide_rest(x: &[f32], rest: &mut [f32]) {
    for (x, rest) in x.chunks(CHUNK).zip(rest.chunks_mut(CHUNK)) {
        let (step, inverse) = step_of(x);
        for (x, rest) in x.iter().zip(rest) {
            *rest = x - ((x * inverse + ROUND) - ROUND) * step;
        }
    }
}

/// The products of all rows with at least one token. `out` is `[tokens][rows]`, and not empty.
#[inline(always)]
pub(crate) fn gemm<S: Integers>(
    simd: S,
    w: DenseMatrix<'_>,
    x: &WideCodes,
    buffers: &mut BlockBuffers,
    out: &mut [f32],
) {
    if x.tokens() == 1 {
        return dispatch!(w.ty, few_tokens[true](simd, w, x, out));
    }
    if x.tokens() <= S::FEW_TOKENS {
        return dispatch!(w.ty, few_tokens[false](simd, w, x, out));
    }
    match dispatch!(w.ty, form()) {
        (true, _) => blocks::<S, true, false>(simd, w, x, buffers, out),
        (false, true) => blocks::<S, false, true>(simd, w, x, buffers, out),
        (false, false) => blocks::<S, false, false>(simd, w, x, buffers, out),
    }
}

/// Whether halves of a type's groups have steps of their own, and whether it has minimums.
fn form<F: Format<N, B>, const N: usize, const B: usize>() -> (bool, bool) {
    const { assert!(!(F::HALVES && F::MINIMUMS), "a form that no type has") };
    (F::HALVES, F::MINIMUMS)
}

/// A block of widened weights, in panels, and sums.
#[derive(Debug, Default)]
pub(crate) struct BlockBuffers {
    /// `[panel][chunk][GROUPS][16]`: pairs of columns, each of the rows of the panel.
    words: Vec<WideGroup>,
    /// Steps of the groups or of their halves, `[panel][chunk][GROUPS]`.
    steps: Vec<[Half; 2]>,
    /// `[panel][chunk][GROUPS]`
    minimums: Vec<Half>,
    /// `[tokens][panel][GROUPS]`
    sums: Vec<Half>,
}

/// The products of rows with several tokens, for types with `HALVES` or `MINIMUMS`.
#[inline(always)]
fn blocks<S: Integers, const HALVES: bool, const MINIMUMS: bool>(
    simd: S,
    w: DenseMatrix<'_>,
    x: &WideCodes,
    buffers: &mut BlockBuffers,
    out: &mut [f32],
) {
    let DenseMatrix { ty, rows, .. } = w;
    let tokens = x.tokens();
    let chunks = x.row(0).steps.len();
    let panels = ROWS / PANEL;
    const { assert!(ROWS.is_multiple_of(S::PANELS_AT_ONCE * PANEL), "panels are left over") };
    let (source, mut last) = (Source::new(w, ROWS), [0; PANEL * MAX_CHUNK_LEN]);
    // Sums are kept for the next block of columns, if there is one.
    let kept = if chunks > DEPTH { tokens } else { S::TOKENS_AT_ONCE };

    buffers.sums.resize(buffers.sums.len().max(kept * panels * GROUPS), Half::ZERO);
    for first_row in (0..rows).step_by(ROWS) {
        let count = ROWS.min(rows - first_row);
        for chunk in (0..chunks).step_by(DEPTH) {
            let depth = DEPTH.min(chunks - chunk);
            buffers.reset(panels, depth);
            for first in (0..count).step_by(PANEL) {
                for i in 0..depth {
                    let source = source.chunk(first_row + first, chunk + i);
                    let place = first / PANEL * depth + i;
                    let rows = source.panel(&mut last);
                    dispatch!(ty, widen[HALVES, MINIMUMS](simd, source, rows, place, buffers));
                }
            }
            let mut first = 0;
            while first < tokens {
                let sums = first % kept * panels * GROUPS;
                let range = ChunkRange { x, first, chunk, depth };
                let left = S::TOKENS_AT_ONCE.min(tokens - first);
                let n = 1 << left.ilog2();
                match n {
                    1 => {
                        buffers.multiply::<S, HALVES, MINIMUMS, 1>(simd, range, count, panels, sums)
                    }
                    2 if const { S::TOKENS_AT_ONCE > 1 } => {
                        buffers.multiply::<S, HALVES, MINIMUMS, 2>(simd, range, count, panels, sums)
                    }
                    4 if const { S::TOKENS_AT_ONCE > 2 } => {
                        buffers.multiply::<S, HALVES, MINIMUMS, 4>(simd, range, count, panels, sums)
                    }
                    _ if const { S::TOKENS_AT_ONCE > 4 } => {
                        buffers.multiply::<S, HALVES, MINIMUMS, 8>(simd, range, count, panels, sums)
                    }
                    _ => unreachable!("more tokens than at once"),
                }
                if chunk + depth == chunks {
                    for t in 0..n {
                        let sums = &buffers.sums[sums + t * panels * GROUPS..][..panels * GROUPS];
                        let out = &mut out[(first + t) * rows + first_row..][..count];
                        for (out, sums) in out.chunks_mut(PANEL).zip(sums.as_chunks().0) {
                            let whole = sum_lanes(simd, sums);
                            out.copy_from_slice(&whole.0[..out.len()]);
                        }
                    }
                }
                first += n;
            }
        }
    }
}

/// Adds the eight lanes of sixteen rows pairwise.
#[inline(always)]
fn sum_lanes(simd: impl Integers, sums: &[Half; GROUPS]) -> Half {
    let [a, b, c, d, e, f, g, h] = sums;
    let add = |x: &Half, y: &Half| simd.add_half(simd.load_half(x), simd.load_half(y));
    let (even, odd) = (simd.add_half(add(a, e), add(c, g)), simd.add_half(add(b, f), add(d, h)));
    let mut out = Half::ZERO;
    simd.store_half(simd.add_half(even, odd), &mut out);
    out
}

/// The rows of a matrix, sixteen at a time.
#[derive(Clone, Copy)]
struct Source<'a> {
    bytes: &'a [u8],
    rows: usize,
    /// Number of bytes of a row.
    row_len: usize,
    /// Number of bytes of a whole chunk.
    chunk_len: usize,
    /// Number of rows of a tile.
    tile: usize,
}

/// A chunk of up to sixteen rows.
#[derive(Clone, Copy)]
struct SourceChunk<'a> {
    /// The remaining bytes of the matrix, from the chunk in the first row on.
    bytes: &'a [u8],
    /// Number of bytes from row to row.
    distance: usize,
    /// Number of rows.
    rows: usize,
    /// Number of bytes of the chunk that belong to a row.
    len: usize,
    /// As many bytes as the chunk has in sixteen rows, to be prefetched: the rows of the next tile
    /// in order, one part with every chunk.
    next: *const u8,
}

impl<'a> Source<'a> {
    /// `tile` is the number of rows of a tile.
    #[inline(always)]
    fn new(w: DenseMatrix<'a>, tile: usize) -> Self {
        let DenseMatrix { ty, bytes, rows, .. } = w;
        let (weights, block) = ty.block();
        Source {
            bytes,
            rows,
            row_len: bytes.len() / rows,
            chunk_len: CHUNK / weights * block,
            tile,
        }
    }

    /// Chunk `i` of the rows from `row` on.
    #[inline(always)]
    fn chunk(self, row: usize, i: usize) -> SourceChunk<'a> {
        let (panel, at) = (row * self.row_len, i * self.chunk_len);
        SourceChunk {
            bytes: &self.bytes[panel + at..],
            distance: self.row_len,
            rows: PANEL.min(self.rows - row),
            len: self.chunk_len.min(self.row_len - at),
            next: self.bytes.as_ptr().wrapping_add(panel + self.tile * self.row_len + at * PANEL),
        }
    }
}

impl<'a> SourceChunk<'a> {
    /// The bytes of sixteen rows, copied to `last` and padded with zeros if there are fewer.
    #[inline(always)]
    fn panel(self, last: &'a mut [u8; PANEL * MAX_CHUNK_LEN]) -> RowBytes<'a> {
        if self.rows == PANEL {
            return RowBytes { bytes: self.bytes, distance: self.distance };
        }
        last.fill(0);
        for (row, to) in self.bytes.chunks(self.distance).zip(last.chunks_mut(MAX_CHUNK_LEN)) {
            to[..self.len].copy_from_slice(&row[..self.len]);
        }
        RowBytes { bytes: last, distance: MAX_CHUNK_LEN }
    }

    /// Prefetches the part of group `g`.
    #[inline(always)]
    fn prefetch<const N: usize, const B: usize>(self, simd: impl Integers, g: usize) {
        let len = const { PANEL * N * B / GROUPS };
        for line in (0..len).step_by(64) {
            simd.prefetch(self.next.wrapping_add(g * len + line));
        }
    }
}

/// Widens a chunk, whose bytes are `rows`, to chunk `place` of the buffers. Behind a row's columns
/// factors are zeros, and words are arbitrary: activations are zeros there.
#[inline(always)]
fn widen<
    F: Format<N, B>,
    const N: usize,
    const B: usize,
    const HALVES: bool,
    const MINIMUMS: bool,
>(
    simd: impl Integers,
    source: SourceChunk<'_>,
    rows: RowBytes<'_>,
    place: usize,
    out: &mut BlockBuffers,
) {
    if const { HALVES != F::HALVES || MINIMUMS != F::MINIMUMS } {
        unreachable!("a type of another form");
    }
    let BlockBuffers { words, steps, minimums, .. } = out;
    let valid = source.len / N * (GROUPS / B);
    let steps = &mut steps.as_chunks_mut().0[place];
    let minimums = &mut minimums.as_chunks_mut().0[place];
    let words = &mut words.as_chunks_mut::<LANES>().0.as_chunks_mut::<GROUPS>().0[place];
    F::factors(simd, rows, valid, Factors { steps, minimums });
    if valid < GROUPS {
        steps[valid..].fill([Half::ZERO; 2]);
        minimums[valid..].fill(Half::ZERO);
    }
    for (g, words) in words.iter_mut().take(valid).enumerate() {
        source.prefetch::<N, B>(simd, g);
        let codes = F::codes(simd, rows, g);
        unroll!(I < 8 => {
            let [first, second] = simd.words(codes[I]);
            simd.store_words(first, &mut words[2 * I]);
            simd.store_words(second, &mut words[2 * I + 1]);
        });
    }
}

/// Adds the product of a group, times the step of the activations, to a sum.
#[inline(always)]
fn add_product<S: Integers>(simd: S, product: S::Half, step: f32, sum: &mut Half) {
    let old = simd.load_half(sum);
    simd.store_half(simd.mul_add_half(product, simd.splat_half(step), old), sum);
}

/// The products of rows with a few tokens, or with `ONE`, without a widened copy of the weights.
#[inline(always)]
fn few_tokens<F: Format<N, B>, const N: usize, const B: usize, const ONE: bool>(
    simd: impl Integers,
    w: DenseMatrix<'_>,
    x: &WideCodes,
    out: &mut [f32],
) {
    let mut tokens = [x.row(0); MAX_FEW_TOKENS];
    for (t, token) in tokens.iter_mut().enumerate().take(x.tokens()) {
        *token = x.row(t);
    }
    let tokens = &tokens[..x.tokens()];
    let source = Source::new(w, PANEL);
    let mut last = [0; PANEL * MAX_CHUNK_LEN];
    let mut steps = [[Half::ZERO; 2]; GROUPS];
    let mut minimums = [Half::ZERO; GROUPS];
    let mut sums = [[Half::ZERO; GROUPS]; MAX_FEW_TOKENS];
    let sums = &mut sums[..tokens.len()];
    for row in (0..w.rows).step_by(PANEL) {
        sums.fill([Half::ZERO; GROUPS]);
        for i in 0..tokens[0].steps.len() {
            let chunk = source.chunk(row, i);
            let rows = chunk.panel(&mut last);
            let valid = chunk.len / N * (GROUPS / B);
            let factors = Factors { steps: &mut steps, minimums: &mut minimums };
            F::factors(simd, rows, valid, factors);
            for g in 0..valid {
                chunk.prefetch::<N, B>(simd, g);
                let group = Group::<_, F, N, B> {
                    codes: F::codes(simd, rows, g),
                    steps: &steps[g],
                    minimums: &minimums[g],
                    place: (i, g),
                    format: PhantomData,
                };
                if ONE {
                    group.multiply::<1>(simd, tokens, sums);
                    continue;
                }
                let mut first = 0;
                while first < tokens.len() {
                    first += group.multiply_some(simd, &tokens[first..], &mut sums[first..]);
                }
            }
            // Columns behind the row count as zeros, as in panels.
            for g in valid..GROUPS {
                for (x, sums) in tokens.iter().zip(&mut *sums) {
                    add_product(simd, simd.splat_half(0.0), x.steps[i], &mut sums[g]);
                }
            }
        }
        let count = PANEL.min(w.rows - row);
        for (t, sums) in sums.iter().enumerate() {
            let whole = sum_lanes(simd, sums);
            out[t * w.rows + row..][..count].copy_from_slice(&whole.0[..count]);
        }
    }
}

/// A group of sixteen rows.
struct Group<'a, S: Integers, F: Format<N, B>, const N: usize, const B: usize> {
    codes: [S::Rows; 8],
    steps: &'a [Half; 2],
    minimums: &'a Half,
    /// Index of the chunk, and of the group in it.
    place: (usize, usize),
    format: PhantomData<F>,
}

impl<S: Integers, F: Format<N, B>, const N: usize, const B: usize> Group<'_, S, F, N, B> {
    /// Adds the products with as many of the tokens as are multiplied together. Returns their number.
    #[inline(always)]
    fn multiply_some(&self, simd: S, tokens: &[WideRow<'_>], sums: &mut [[Half; GROUPS]]) -> usize {
        let n = 1 << tokens.len().min(S::TOKENS_AT_ONCE).ilog2();
        match n {
            1 => self.multiply::<1>(simd, tokens, sums),
            2 if const { S::TOKENS_AT_ONCE >= 2 } => self.multiply::<2>(simd, tokens, sums),
            4 if const { S::TOKENS_AT_ONCE >= 4 } => self.multiply::<4>(simd, tokens, sums),
            _ if const { S::TOKENS_AT_ONCE >= 8 } => self.multiply::<8>(simd, tokens, sums),
            _ => unreachable!("more tokens than at once"),
        }
        n
    }

    /// Adds the products with the first `T` tokens.
    #[inline(always)]
    fn multiply<const T: usize>(
        &self,
        simd: S,
        tokens: &[WideRow<'_>],
        sums: &mut [[Half; GROUPS]],
    ) {
        let (tokens, sums) = (&tokens[..T], &mut sums[..T]);
        let (i, g) = self.place;
        let mut acc = [[simd.zero_sums(); 2]; T];
        unroll!(I < 8 => {
            let [first, second] = simd.words(self.codes[I]);
            let half = if F::HALVES { I / 4 } else { 0 };
            unroll!(TOKEN < T => {
                let x = &tokens[TOKEN].codes[i][g];
                let sum = simd.dot(first, simd.pair(x, 2 * I), acc[TOKEN][half]);
                acc[TOKEN][half] = simd.dot(second, simd.pair(x, 2 * I + 1), sum);
            });
        });
        let [d, upper_d] = self.steps;
        unroll!(TOKEN < T => {
            let ([lower, upper], x) = (acc[TOKEN], tokens[TOKEN]);
            let mut product = simd.mul_half(simd.floats(lower), simd.load_half(d));
            if F::HALVES {
                product = simd.mul_add_half(simd.floats(upper), simd.load_half(upper_d), product);
            }
            if F::MINIMUMS {
                let sum = simd.splat_half(x.sums[i][g]);
                product = simd.mul_add_half(simd.load_half(self.minimums), sum, product);
            }
            add_product(simd, product, x.steps[i], &mut sums[TOKEN][g]);
        });
    }
}

/// A range of chunks of some tokens.
#[derive(Clone, Copy)]
struct ChunkRange<'a> {
    x: &'a WideCodes,
    /// The first token.
    first: usize,
    /// The first chunk.
    chunk: usize,
    /// Number of chunks.
    depth: usize,
}

/// A chunk of the weights of a panel: words, steps and minimums.
#[derive(Clone, Copy)]
struct PanelChunk<'a> {
    words: &'a [[WideGroup; LANES]; GROUPS],
    steps: &'a [[Half; 2]; GROUPS],
    minimums: &'a [Half; GROUPS],
}

impl BlockBuffers {
    /// Resizes for panels of `depth` chunks.
    fn reset(&mut self, panels: usize, depth: usize) {
        let groups = panels * depth * GROUPS;
        self.words.resize(self.words.len().max(groups * LANES), WideGroup::ZERO);
        self.steps.resize(self.steps.len().max(groups), [Half::ZERO; 2]);
        self.minimums.resize(self.minimums.len().max(groups), Half::ZERO);
    }

    /// Adds the products of `count` rows with `T` tokens to sums from `first` on, or sets them if
    /// these are the first columns. Each token has sums of `panels` panels.
    #[inline(always)]
    fn multiply<S: Integers, const HALVES: bool, const MINIMUMS: bool, const T: usize>(
        &mut self,
        simd: S,
        x: ChunkRange<'_>,
        count: usize,
        panels: usize,
        first: usize,
    ) {
        let BlockBuffers { words, steps, minimums, sums, .. } = self;
        let sums = &mut sums[first..];
        let (words, steps) = (words.as_chunks().0.as_chunks().0, steps.as_chunks().0);
        let minimums = minimums.as_chunks().0;
        let chunk = |panel: usize, i: usize| {
            let at = panel * x.depth + i;
            PanelChunk { words: &words[at], steps: &steps[at], minimums: &minimums[at] }
        };
        // The panels of a tile may have more rows than the matrix.
        for panel in (0..count.div_ceil(PANEL)).step_by(S::PANELS_AT_ONCE) {
            let sums = &mut sums[panel * GROUPS..];
            let token = panels * GROUPS;
            for i in 0..x.depth {
                if const { S::PANELS_AT_ONCE == 2 } {
                    let chunks = [chunk(panel, i), chunk(panel + 1, i)];
                    tile::<S, HALVES, MINIMUMS, T, 2>(simd, chunks, x, i, sums, token);
                } else {
                    tile::<S, HALVES, MINIMUMS, T, 1>(simd, [chunk(panel, i)], x, i, sums, token);
                }
            }
        }
    }
}

/// Adds the products of a chunk of `P` panels and `T` tokens to the sums, which are `distance` apart
/// for the tokens.
#[inline(always)]
fn tile<S: Integers, const HALVES: bool, const MINIMUMS: bool, const T: usize, const P: usize>(
    simd: S,
    panels: [PanelChunk<'_>; P],
    x: ChunkRange<'_>,
    i: usize,
    sums: &mut [Half],
    distance: usize,
) {
    let mut tokens = [x.x.row(x.first); T];
    unroll!(TOKEN < T => tokens[TOKEN] = x.x.row(x.first + TOKEN));
    let i = x.chunk + i;
    let new = i == 0;
    for g in 0..GROUPS {
        let mut lower = [[simd.zero_sums(); P]; T];
        let mut upper = lower;
        let mut codes = [&tokens[0].codes[i][g]; T];
        unroll!(TOKEN < T => codes[TOKEN] = &tokens[TOKEN].codes[i][g]);
        let mut words = [&panels[0].words[g]; P];
        unroll!(P_ < P => words[P_] = &panels[P_].words[g]);
        if HALVES {
            dots(simd, words, codes, 0..LANES / 2, &mut lower);
            dots(simd, words, codes, LANES / 2..LANES, &mut upper);
        } else {
            dots(simd, words, codes, 0..LANES, &mut lower);
        }
        unroll!(TOKEN < T => {
            let token = tokens[TOKEN];
            let step = simd.splat_half(token.steps[i]);
            unroll!(P_ < P => {
                let PanelChunk { steps, minimums, .. } = panels[P_];
                let [d, upper_d] = &steps[g];
                let mut chunk = simd.mul_half(simd.floats(lower[TOKEN][P_]), simd.load_half(d));
                if HALVES {
                    let upper = simd.floats(upper[TOKEN][P_]);
                    chunk = simd.mul_add_half(upper, simd.load_half(upper_d), chunk);
                }
                if MINIMUMS {
                    let sum = simd.splat_half(token.sums[i][g]);
                    chunk = simd.mul_add_half(simd.load_half(&minimums[g]), sum, chunk);
                }
                let sum = &mut sums[TOKEN * distance + P_ * GROUPS + g];
                let old = if new { simd.splat_half(0.0) } else { simd.load_half(sum) };
                simd.store_half(simd.mul_add_half(chunk, step, old), sum);
            });
        });
    }
}

/// Adds the products of some pairs of columns of a group.
#[inline(always)]
fn dots<S: Integers, const T: usize, const P: usize>(
    simd: S,
    words: [&[WideGroup; LANES]; P],
    codes: [&WideGroup; T],
    pairs: std::ops::Range<usize>,
    sums: &mut [[S::Sums; P]; T],
) {
    let mut acc = *sums;
    for pair in pairs {
        let mut w = [simd.load_words(&words[0][pair]); P];
        unroll!(P_ < P => w[P_] = simd.load_words(&words[P_][pair]));
        unroll!(TOKEN < T => {
            let x = simd.pair(codes[TOKEN], pair);
            unroll!(P_ < P => acc[TOKEN][P_] = simd.dot(w[P_], x, acc[TOKEN][P_]));
        });
    }
    *sums = acc;
}

/// Widens a matrix of one row.
#[inline(always)]
pub(crate) fn row<S: Integers>(simd: S, w: DenseMatrix<'_>, out: &mut [f32]) {
    let DenseMatrix { ty, bytes: w, .. } = w;
    let (weights, bytes) = ty.block();
    let (halves, minimums) = dispatch!(ty, form());
    let mut steps = [[Half::ZERO; 2]; GROUPS];
    let mut all_minimums = [Half::ZERO; GROUPS];
    let mut codes = [[[0; ROWS_LEN]; 8]; GROUPS];
    for (out, w) in out.chunks_mut(CHUNK).zip(w.chunks(CHUNK / weights * bytes)) {
        let factors = Factors { steps: &mut steps, minimums: &mut all_minimums };
        dispatch!(ty, decode(simd, w, factors, &mut codes));
        for (g, out) in out.chunks_exact_mut(GROUP).enumerate() {
            for (i, out) in out.iter_mut().enumerate() {
                let half = usize::from(halves && i >= GROUP / 2);
                *out = f32::from(codes[g][i / 4][i % 4] as i8) * steps[g][half].0[0];
                if minimums {
                    *out += all_minimums[g].0[0];
                }
            }
        }
    }
}

/// Decodes a chunk of a row. Every lane has the same row.
#[inline(always)]
fn decode<F: Format<N, B>, const N: usize, const B: usize>(
    simd: impl Integers,
    w: &[u8],
    factors: Factors<'_>,
    out: &mut [[[u8; ROWS_LEN]; 8]; GROUPS],
) {
    let rows = RowBytes { bytes: w, distance: 0 };
    let valid = w.len() / N * (GROUPS / B);
    F::factors(simd, rows, valid, factors);
    for (g, out) in out.iter_mut().take(valid).enumerate() {
        let codes = F::codes(simd, rows, g);
        unroll!(I < 8 => simd.store_rows(codes[I], &mut out[I]));
    }
}
