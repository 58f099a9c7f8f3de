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
//! A few tokens are multiplied with the weights as they are stored, and lanes are columns. For more
//! tokens weights are widened and transposed to *panels* of 16 rows, and lanes are rows: the
//! columns of a group then add to the same lane, and a sum is converted once in 32 products.

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
use self::format::{Factors, Format, dispatch};
use self::simd::{Half, Integers, LANES};
use super::types::{DenseMatrix, DenseType};
use crate::simd::{AHEAD, pad};

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
            *sum = total as f32;
            simd.arrange(codes);
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
    if x.tokens() <= S::FEW_TOKENS {
        let mut first = 0;
        while first < x.tokens() {
            let n = 1 << (x.tokens() - first).min(4).ilog2();
            let out = &mut out[first * w.rows..(first + n) * w.rows];
            match n {
                4 if const { S::FEW_TOKENS >= 4 } => {
                    dispatch!(w.ty, four_tokens(simd, w.bytes, some_tokens(x, first), out))
                }
                2 if const { S::FEW_TOKENS >= 2 } => {
                    dispatch!(w.ty, two_tokens(simd, w.bytes, some_tokens(x, first), out))
                }
                _ => dispatch!(w.ty, one_token(simd, w.bytes, some_tokens(x, first), out)),
            }
            first += n;
        }
        return;
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

/// The activations of `T` tokens.
fn some_tokens<const T: usize>(x: &WideCodes, first: usize) -> [WideRow<'_>; T] {
    std::array::from_fn(|t| x.row(first + t))
}

/// The products of rows with one token.
#[inline(always)]
fn one_token<F: Format<N, B>, const N: usize, const B: usize>(
    simd: impl Integers,
    w: &[u8],
    x: [WideRow<'_>; 1],
    out: &mut [f32],
) {
    few_tokens::<_, F, N, B, 1>(simd, w, x, out);
}

/// The products of rows with two tokens.
#[inline(always)]
fn two_tokens<F: Format<N, B>, const N: usize, const B: usize>(
    simd: impl Integers,
    w: &[u8],
    x: [WideRow<'_>; 2],
    out: &mut [f32],
) {
    few_tokens::<_, F, N, B, 2>(simd, w, x, out);
}

/// The products of rows with four tokens.
#[inline(always)]
fn four_tokens<F: Format<N, B>, const N: usize, const B: usize>(
    simd: impl Integers,
    w: &[u8],
    x: [WideRow<'_>; 4],
    out: &mut [f32],
) {
    few_tokens::<_, F, N, B, 4>(simd, w, x, out);
}

/// The products of rows with a few tokens, without a widened copy of the weights.
#[inline(always)]
fn few_tokens<S: Integers, F: Format<N, B>, const N: usize, const B: usize, const T: usize>(
    simd: S,
    w: &[u8],
    x: [WideRow<'_>; T],
    out: &mut [f32],
) {
    let rows = out.len() / T;
    let row_len = w.len() / rows;
    let mut last = [[0; N]; B];
    for r in 0..rows {
        let mut acc = [simd.splat_eight(0.0); T];
        for (i, at) in (0..row_len).step_by(N * B).enumerate() {
            let chunk = chunk(&w[r * row_len + at..], row_len - at, &mut last);
            for line in chunk.0.as_flattened().chunks(64) {
                simd.prefetch(line.as_ptr().wrapping_add(AHEAD));
            }
            add::<_, F, N, B, T>(simd, chunk, x, i, &mut acc);
        }
        unroll!(TOKEN < T => out[TOKEN * rows + r] = simd.sum_eight(acc[TOKEN]));
    }
}

/// The chunk at the beginning of `rest`, the remaining bytes of a matrix, of which `len` belong to
/// the row, and the number of its groups that do. At the end of the matrix the chunk is copied to
/// `last`.
#[inline(always)]
fn chunk<'a, const N: usize, const B: usize>(
    rest: &'a [u8],
    len: usize,
    last: &'a mut [[u8; N]; B],
) -> (&'a [[u8; N]; B], usize) {
    let valid = (len / N).min(B) * (GROUPS / B);
    let whole = rest.get(..N * B).and_then(|bytes| bytes.as_chunks().0.first_chunk());
    let chunk = match whole {
        Some(chunk) => chunk,
        None => {
            for (to, from) in last.iter_mut().zip(rest.as_chunks().0) {
                *to = *from;
            }
            last
        }
    };
    (chunk, valid)
}

/// Adds the products of a chunk's valid groups with chunk `i` of some tokens.
#[inline(always)]
fn add<S: Integers, F: Format<N, B>, const N: usize, const B: usize, const T: usize>(
    simd: S,
    (chunk, valid): (&[[u8; N]; B], usize),
    x: [WideRow<'_>; T],
    i: usize,
    acc: &mut [S::Eight; T],
) {
    let Factors { steps, upper_steps, minimums } = F::factors(simd, chunk);
    let mut codes = [F::codes::<_, 0>(simd, chunk); GROUPS];
    unroll!(G < GROUPS => codes[G] = F::codes::<_, G>(simd, chunk));
    unroll!(TOKEN < T => {
        let mut sums = [simd.zero_sums(); GROUPS];
        unroll!(G < GROUPS => {
            sums[G] = simd.products(codes[G], simd.load_words(&x[TOKEN].codes[i][G]));
        });
        let [a, b, c, d, e, f, g, h] = sums;
        let (first, second) = ([a, b, c, d], [e, f, g, h]);
        let steps = simd.load_eight(&steps);
        let mut products = if F::HALVES {
            let fours = [simd.sum_four::<true>(first), simd.sum_four::<true>(second)];
            let [lower, upper] = simd.eight_halves(fours);
            let lower = simd.mul_eight(lower, steps);
            simd.mul_add_eight(upper, simd.load_eight(&upper_steps), lower)
        } else {
            let fours = [simd.sum_four::<false>(first), simd.sum_four::<false>(second)];
            simd.mul_eight(simd.eight(fours), steps)
        };
        if F::MINIMUMS {
            let sums = simd.load_eight(&x[TOKEN].sums[i]);
            products = simd.mul_add_eight(simd.load_eight(&minimums), sums, products);
        }
        if B > 1 && valid < GROUPS {
            products = simd.keep_eight(products, valid);
        }
        let step = simd.splat_eight(x[TOKEN].steps[i]);
        acc[TOKEN] = simd.mul_add_eight(products, step, acc[TOKEN]);
    });
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
    let DenseMatrix { ty, bytes: w, rows, .. } = w;
    let tokens = x.tokens();
    let row_len = w.len() / rows;
    let (weights, bytes) = ty.block();
    let chunk_len = CHUNK / weights * bytes;
    let chunks = x.row(0).steps.len();
    // Sums are kept for the next block of columns, if there is one.
    let kept = if chunks > DEPTH { tokens } else { S::TOKENS_AT_ONCE };
    // A single tile takes its panels from the first-level cache.
    let size = if tokens > S::TOKENS_AT_ONCE { ROWS } else { S::PANELS_AT_ONCE * PANEL };
    let panels = size / PANEL;
    const { assert!(ROWS.is_multiple_of(S::PANELS_AT_ONCE * PANEL), "panels are left over") };

    buffers.sums.resize(buffers.sums.len().max(kept * panels * GROUPS), Half::ZERO);
    for first_row in (0..rows).step_by(size) {
        let count = size.min(rows - first_row);
        for chunk in (0..chunks).step_by(DEPTH) {
            let depth = DEPTH.min(chunks - chunk);
            buffers.reset(panels, depth);
            for r in 0..count {
                let row = &w[(first_row + r) * row_len + chunk * chunk_len..];
                let len = (depth * chunk_len).min(row_len - chunk * chunk_len);
                let first = r / PANEL * depth * GROUPS;
                dispatch!(ty, widen(simd, (row, len), first, r % PANEL, buffers));
            }
            let filled = count.div_ceil(PANEL) * depth * GROUPS * LANES;
            for words in buffers.words[..filled].as_chunks_mut().0 {
                simd.transpose(words);
                for words in words {
                    simd.arrange(words);
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

/// Widens chunks of row `r` of a panel, whose groups begin at `first`, and leaves the row's words
/// adjacent. The row is the remaining bytes of a matrix, and the number of those to widen. Behind
/// the row's columns factors are zeros, and words are arbitrary: activations are zeros there.
#[inline(always)]
fn widen<F: Format<N, B>, const N: usize, const B: usize>(
    simd: impl Integers,
    (row, len): (&[u8], usize),
    first: usize,
    r: usize,
    out: &mut BlockBuffers,
) {
    let mut last = [[0; N]; B];
    for (i, at) in (0..len).step_by(N * B).enumerate() {
        let (chunk, valid) = chunk(&row[at..], len - at, &mut last);
        for line in chunk.as_flattened().chunks(64) {
            simd.prefetch(line.as_ptr().wrapping_add(AHEAD));
        }
        let mut factors = F::factors(simd, chunk);
        if B > 1 && valid < GROUPS {
            factors.keep(valid);
        }
        let groups = first + i * GROUPS..first + (i + 1) * GROUPS;
        let words = &mut out.words[groups.start * PANEL..groups.end * PANEL];
        unroll!(G < GROUPS => {
            let words = &mut words[G * PANEL + r];
            simd.store_words(F::codes::<_, G>(simd, chunk), words);
            simd.restore(words);
        });
        for (g, out) in out.steps[groups.clone()].iter_mut().enumerate() {
            out[0].0[r] = factors.steps[g];
            if F::HALVES {
                out[1].0[r] = factors.upper_steps[g];
            }
        }
        if F::MINIMUMS {
            for (out, minimum) in out.minimums[groups].iter_mut().zip(factors.minimums) {
                out.0[r] = minimum;
            }
        }
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
        let BlockBuffers { words, steps, minimums, sums } = self;
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
    // `some_tokens` is not always inlined, and this runs for every chunk.
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
    let mut wide = BlockBuffers::default();
    wide.reset(1, 1);
    for (out, w) in out.chunks_mut(CHUNK).zip(w.chunks(CHUNK / weights * bytes)) {
        dispatch!(ty, widen(simd, (w, w.len()), 0, 0, &mut wide));
        for (g, out) in out.chunks_exact_mut(GROUP).enumerate() {
            let steps = &wide.steps[g];
            for (i, (out, word)) in out.iter_mut().zip(wide.words[g * PANEL].0).enumerate() {
                let half = usize::from(halves && i >= GROUP / 2);
                *out = f32::from(word) * steps[half].0[0];
                if minimums {
                    *out += wide.minimums[g].0[0];
                }
            }
        }
    }
}
