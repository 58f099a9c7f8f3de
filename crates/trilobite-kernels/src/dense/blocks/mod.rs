//! Products of weights in blocks of small integers with 16-bit activations.
//!
//! Columns form chunks of 256, and chunks form eight groups of 32. A row of activations is rounded
//! to 16-bit integers, with a step for every chunk: the largest magnitude divided by 32,767. The
//! error is 258 times smaller than with the 8 bits of other engines. Then, for each chunk,
//!
//! - lane `i` of 16 sums the products of the columns `2 i` and `2 i + 1` of a group, an exact
//!   integer;
//! - if a block is a group, `chunk[i] = fma(lane[i], d, chunk[i])` for one group after another; if
//!   a block is a chunk, the sum over groups of `lane[i] s` is still an exact integer, and
//!   `chunk[i] = fma(sum, d, 0)`;
//! - if weights have minimums, `chunk[g] = fma(m[g], a[g], chunk[g])` for the minimum of each group
//!   and the sum of its activations' integers;
//! - `row[i] = fma(chunk[i], step, row[i])`.
//!
//! At the end the 16 lanes are added pairwise: 8 + 8, 4 + 4, 2 + 2, 1 + 1. Padding columns are
//! zeros. Nothing overflows: |q s| is at most 4,096, and a lane sums 16 products, whose total is
//! less than 2^31.

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
use self::simd::{Half, Integers};
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
    match x.tokens() {
        1 => return dispatch!(w.ty, one_token(simd, w.bytes, x.row(0), out)),
        2 if const { S::REGISTERS > 2 } => {
            return dispatch!(w.ty, two_tokens(simd, w.bytes, [x.row(0), x.row(1)], out));
        }
        _ => {}
    }
    // A tile has as many sums as fit in the registers.
    if const { S::REGISTERS * S::WIDTH >= 512 } {
        tiles::<S, 6, 4>(simd, w, x, buffers, out);
    } else {
        tiles::<S, 2, 2>(simd, w, x, buffers, out);
    }
}

/// The products of rows with several tokens, in tiles of `R` rows and `T` tokens.
#[inline(always)]
fn tiles<S: Integers, const R: usize, const T: usize>(
    simd: S,
    w: DenseMatrix<'_>,
    x: &WideCodes,
    buffers: &mut BlockBuffers,
    out: &mut [f32],
) {
    match dispatch!(w.ty, form()) {
        (false, false) => blocks::<S, false, false, R, T>(simd, w, x, buffers, out),
        (false, true) => blocks::<S, false, true, R, T>(simd, w, x, buffers, out),
        (true, false) => blocks::<S, true, false, R, T>(simd, w, x, buffers, out),
        (true, true) => blocks::<S, true, true, R, T>(simd, w, x, buffers, out),
    }
}

/// Whether a type has scales, and whether it has minimums.
fn form<F: Format<N, B>, const N: usize, const B: usize>() -> (bool, bool) {
    (F::SCALES, F::MINIMUMS)
}

/// The products of rows with one token.
#[inline(always)]
fn one_token<F: Format<N, B>, const N: usize, const B: usize>(
    simd: impl Integers,
    w: &[u8],
    x: WideRow<'_>,
    out: &mut [f32],
) {
    few_tokens::<_, F, N, B, 1>(simd, w, [x], out);
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
    for (r, row) in w.chunks_exact(row_len).enumerate() {
        let (chunks, tail) = row.as_chunks::<N>().0.as_chunks::<B>();
        let last = [padded(tail)];
        let last = if tail.is_empty() { &last[..0] } else { &last[..] };
        let mut acc = [simd.splat_half(0.0); T];
        let mut i = 0;
        // A chain of both would test for its end before every chunk.
        for chunks in [chunks, last] {
            for chunk in chunks {
                for line in chunk.as_flattened().chunks(64) {
                    simd.prefetch(line.as_ptr().wrapping_add(AHEAD));
                }
                let sums = product::<_, F, N, B, T>(simd, chunk, x, i);
                unroll!(TOKEN < T => {
                    let step = simd.splat_half(x[TOKEN].steps[i]);
                    acc[TOKEN] = simd.mul_add_half(sums[TOKEN], step, acc[TOKEN]);
                });
                i += 1;
            }
        }
        unroll!(TOKEN < T => out[TOKEN * rows + r] = simd.sum_half(acc[TOKEN]));
    }
}

/// The products of a chunk with chunk `i` of some tokens, not yet multiplied with the steps of the
/// activations.
#[inline(always)]
fn product<S: Integers, F: Format<N, B>, const N: usize, const B: usize, const T: usize>(
    simd: S,
    chunk: &[[u8; N]; B],
    x: [WideRow<'_>; T],
    i: usize,
) -> [S::Half; T] {
    let Factors { steps, scales, minimums } = F::factors(simd, chunk);
    let codes_of = x.map(|token| &token.codes[i]);
    let mut out = [simd.splat_half(0.0); T];
    if F::SCALES {
        let scales = in_memory(&scales);
        let mut sums = [simd.zero_sums(); T];
        unroll!(G < GROUPS => {
            let codes = F::codes::<_, G>(simd, chunk);
            unroll!(TOKEN < T => {
                let words = simd.load_words(&codes_of[TOKEN][G]);
                sums[TOKEN] = if F::HALVES {
                    let scales = [scales[2 * G], scales[2 * G + 1]];
                    simd.scale_halves(simd.products(codes, words), &scales, sums[TOKEN])
                } else {
                    simd.scale(simd.products(codes, words), &scales[G], sums[TOKEN])
                };
            });
        });
        unroll!(TOKEN < T => {
            let sums = simd.floats(sums[TOKEN]);
            out[TOKEN] = simd.mul_add_half(sums, simd.splat_half(steps[0]), out[TOKEN]);
        });
    } else {
        let steps = in_memory(&steps);
        unroll!(G < GROUPS => {
            let codes = F::codes::<_, G>(simd, chunk);
            let step = simd.splat_half(steps[G]);
            unroll!(TOKEN < T => {
                let dot = simd.products(codes, simd.load_words(&codes_of[TOKEN][G]));
                out[TOKEN] = simd.mul_add_half(simd.floats(dot), step, out[TOKEN]);
            });
        });
    }
    if F::MINIMUMS {
        unroll!(TOKEN < T => {
            out[TOKEN] = simd.mul_add_lower(&minimums, &x[TOKEN].sums[i], out[TOKEN]);
        });
    }
    out
}

/// The blocks, padded with zeros.
fn padded<const N: usize, const B: usize>(blocks: &[[u8; N]]) -> [[u8; N]; B] {
    let mut chunk = [[0; N]; B];
    chunk[..blocks.len()].copy_from_slice(blocks);
    chunk
}

/// Hides the address of factors from the compiler. Loading one factor into all lanes costs no more
/// than a load, but the compiler would load several at once and shuffle each into its lanes.
#[inline(always)]
fn in_memory<T>(factors: &T) -> &T {
    std::hint::black_box(factors)
}

/// A block of widened weights, in panels with the rows of a tile, and sums.
#[derive(Debug, Default)]
pub(crate) struct BlockBuffers {
    /// Codes times scales, `[panel][group][R]`.
    words: Vec<WideGroup>,
    /// `[panel][chunk][GROUPS][R]`, or `[panel][chunk][R]` if there are scales.
    steps: Vec<f32>,
    /// `[panel][chunk][R]`
    minimums: Vec<[f32; GROUPS]>,
    /// `[tokens][ROWS]`
    sums: Vec<Half>,
}

/// The products of rows with several tokens, for types with `SCALES` and `MINIMUMS`.
#[inline(always)]
fn blocks<S: Integers, const SCALES: bool, const MINIMUMS: bool, const R: usize, const T: usize>(
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
    let kept = if chunks > DEPTH { tokens } else { T };
    // A single tile takes one panel at a time from the first-level cache.
    let size = if tokens > T { ROWS } else { R };

    buffers.sums.resize(kept * size, Half::ZERO);
    for first_row in (0..rows).step_by(size) {
        let count = size.min(rows - first_row);
        for chunk in (0..chunks).step_by(DEPTH) {
            let depth = DEPTH.min(chunks - chunk);
            buffers.reset::<R>(size, depth);
            for r in 0..count {
                let row = &w[(first_row + r) * row_len..][..row_len];
                let row = &row[chunk * chunk_len..row_len.min((chunk + depth) * chunk_len)];
                // Panels of R rows are adjacent.
                let place = PanelRow { first: r / R * depth * R + r % R, rows: R };
                dispatch!(ty, widen(simd, row, place, buffers));
            }
            for first in (0..tokens).step_by(T) {
                let n = T.min(tokens - first);
                let sums = first % kept * size;
                let x = ChunkRange { x, first, chunk, depth };
                match n {
                    1 => buffers.multiply::<S, SCALES, MINIMUMS, R, 1>(simd, x, count, size, sums),
                    2 if const { T > 2 } => {
                        buffers.multiply::<S, SCALES, MINIMUMS, R, 2>(simd, x, count, size, sums)
                    }
                    3 if const { T > 3 } => {
                        buffers.multiply::<S, SCALES, MINIMUMS, R, 3>(simd, x, count, size, sums)
                    }
                    _ => buffers.multiply::<S, SCALES, MINIMUMS, R, T>(simd, x, count, size, sums),
                }
                if chunk + depth == chunks {
                    for t in 0..n {
                        let out = &mut out[(first + t) * rows + first_row..][..count];
                        for (out, sum) in out.iter_mut().zip(&buffers.sums[sums + t * size..]) {
                            *out = simd.sum_half(simd.load_half(sum));
                        }
                    }
                }
            }
        }
    }
}

/// The destination of a row in a panel: the index of its first chunk, and the number of rows of the
/// panel.
#[derive(Clone, Copy)]
struct PanelRow {
    first: usize,
    rows: usize,
}

/// Widens some chunks of a row. The last may be incomplete.
#[inline(always)]
fn widen<F: Format<N, B>, const N: usize, const B: usize>(
    simd: impl Integers,
    row: &[u8],
    place: PanelRow,
    out: &mut BlockBuffers,
) {
    let (chunks, tail) = row.as_chunks::<N>().0.as_chunks::<B>();
    let last = padded(tail);
    let last = if tail.is_empty() { None } else { Some(&last) };
    let PanelRow { first, rows } = place;
    let r = first % rows;
    for (i, chunk) in chunks.iter().chain(last).enumerate() {
        for line in chunk.as_flattened().chunks(64) {
            simd.prefetch(line.as_ptr().wrapping_add(AHEAD));
        }
        let Factors { steps, scales, minimums } = F::factors(simd, chunk);
        let place = first + i * rows;
        // The groups of a chunk are adjacent, like its rows.
        let groups = (place - r) * GROUPS + r;
        unroll!(G < GROUPS => {
            let mut codes = F::codes::<_, G>(simd, chunk);
            if F::SCALES {
                let (a, b) = if F::HALVES { (2 * G, 2 * G + 1) } else { (G, G) };
                codes = simd.mul_words(codes, scales[a] as i16, scales[b] as i16);
            }
            simd.store_words(codes, &mut out.words[groups + G * rows]);
        });
        if F::SCALES {
            out.steps[place] = steps[0];
        } else {
            for (g, step) in steps.into_iter().enumerate() {
                out.steps[groups + g * rows] = step;
            }
        }
        if F::MINIMUMS {
            out.minimums[place] = minimums;
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

impl BlockBuffers {
    /// Resizes for `rows` rows of `depth` chunks.
    fn reset<const R: usize>(&mut self, rows: usize, depth: usize) {
        let chunks = rows.next_multiple_of(R) * depth;
        self.words.resize(self.words.len().max(chunks * GROUPS), WideGroup::ZERO);
        self.steps.resize(self.steps.len().max(chunks * GROUPS), 0.0);
        self.minimums.resize(self.minimums.len().max(chunks), [0.0; GROUPS]);
    }

    /// Adds the products of `count` rows with `T` tokens to sums from `first` on, or sets them if
    /// these are the first columns. Each token has `size` sums.
    #[inline(always)]
    fn multiply<
        S: Integers,
        const SCALES: bool,
        const MINIMUMS: bool,
        const R: usize,
        const T: usize,
    >(
        &mut self,
        simd: S,
        x: ChunkRange<'_>,
        count: usize,
        size: usize,
        first: usize,
    ) {
        let tokens: [WideRow<'_>; T] =
            std::array::from_fn(|t| x.x.row(x.first + t).chunks(x.chunk..x.chunk + x.depth));
        let groups = if SCALES { 1 } else { GROUPS };
        let panels = self.words.chunks_exact(x.depth * GROUPS * R);
        let panels = panels.zip(self.steps.chunks_exact(x.depth * groups * R));
        let panels = panels.zip(self.minimums.chunks_exact(x.depth * R));
        for (panel, ((words, steps), minimums)) in panels.take(count.div_ceil(R)).enumerate() {
            let chunks = words.chunks_exact(GROUPS * R).zip(steps.chunks_exact(groups * R));
            let chunks = chunks.zip(minimums.as_chunks::<R>().0);
            for (i, ((words, steps), minimums)) in chunks.enumerate() {
                let codes = tokens.each_ref().map(|token| &token.codes[i]);
                let tile = tile::<S, SCALES, R, T>(simd, words, steps, codes);
                unroll!(TOKEN < T => {
                    let token = &tokens[TOKEN];
                    let step = simd.splat_half(token.steps[i]);
                    let sums = &mut self.sums[first + TOKEN * size + panel * R..][..R];
                    unroll!(ROW < R => {
                        let mut acc = tile[TOKEN][ROW];
                        if MINIMUMS {
                            acc = simd.mul_add_lower(&minimums[ROW], &token.sums[i], acc);
                        }
                        let sum = match x.chunk + i {
                            0 => simd.splat_half(0.0),
                            _ => simd.load_half(&sums[ROW]),
                        };
                        simd.store_half(simd.mul_add_half(acc, step, sum), &mut sums[ROW]);
                    });
                });
            }
        }
    }
}

/// The products of a chunk of `R` rows and `T` tokens, without minimums and steps of activations.
#[inline(always)]
fn tile<S: Integers, const SCALES: bool, const R: usize, const T: usize>(
    simd: S,
    words: &[WideGroup],
    steps: &[f32],
    x: [&[WideGroup; GROUPS]; T],
) -> [[S::Half; R]; T] {
    // Hides the number of groups: if it were known, the compiler would unroll loops and move loads
    // up until registers run out.
    let words = std::hint::black_box(words).as_chunks::<R>().0;
    let x = x.map(|x| std::hint::black_box(&x[..]));
    let steps = steps.as_chunks::<R>().0;
    let mut out = [[simd.splat_half(0.0); R]; T];
    if SCALES {
        let mut sums = [[simd.zero_sums(); R]; T];
        for (g, words) in words.iter().enumerate() {
            unroll!(TOKEN < T => {
                let x = simd.load_words(&x[TOKEN][g]);
                unroll!(ROW < R => {
                    let words = simd.load_words(&words[ROW]);
                    sums[TOKEN][ROW] = simd.dot(words, x, sums[TOKEN][ROW]);
                });
            });
        }
        unroll!(TOKEN < T => {
            unroll!(ROW < R => {
                let step = simd.splat_half(steps[0][ROW]);
                let sums = simd.floats(sums[TOKEN][ROW]);
                out[TOKEN][ROW] = simd.mul_add_half(sums, step, out[TOKEN][ROW]);
            });
        });
    } else {
        for (g, words) in words.iter().enumerate() {
            let steps = &steps[g];
            unroll!(TOKEN < T => {
                let x = simd.load_words(&x[TOKEN][g]);
                unroll!(ROW < R => {
                    let sums = simd.products(simd.load_words(&words[ROW]), x);
                    let step = simd.splat_half(steps[ROW]);
                    out[TOKEN][ROW] = simd.mul_add_half(simd.floats(sums), step, out[TOKEN][ROW]);
                });
            });
        }
    }
    out
}

/// Widens a matrix of one row.
#[inline(always)]
pub(crate) fn row<S: Integers>(simd: S, w: DenseMatrix<'_>, out: &mut [f32]) {
    let DenseMatrix { ty, bytes: w, .. } = w;
    let (weights, bytes) = ty.block();
    let (scales, minimums) = dispatch!(ty, form());
    let mut wide = BlockBuffers::default();
    wide.reset::<1>(1, 1);
    for (out, w) in out.chunks_mut(CHUNK).zip(w.chunks(CHUNK / weights * bytes)) {
        dispatch!(ty, widen(simd, w, PanelRow { first: 0, rows: 1 }, &mut wide));
        for (g, out) in out.chunks_exact_mut(GROUP).enumerate() {
            let step = wide.steps[if scales { 0 } else { g }];
            simd.restore(&mut wide.words[g]);
            for (out, word) in out.iter_mut().zip(wide.words[g].0) {
                *out = f32::from(word) * step;
                if minimums {
                    *out += wide.minimums[0][g];
                }
            }
        }
    }
}
