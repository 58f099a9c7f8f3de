//! Products with many tokens: weights are widened once, to panels.

use std::ops::Range;

use super::codes::{GROUPS, WideCodes, WideGroup};
use super::format::{self, Factors, Format, RowBytes, dispatch};
use super::simd::{Half, Integers, LANES};
use super::source::{PANEL, PanelBytes, Source, SourceChunk};
use super::sums::{add_product, scaled, sum_lanes};
use crate::dense::types::{DenseMatrix, DenseType};

/// Number of chunks of a block of widened weights. A tile's activations then stay in the
/// first-level cache.
const DEPTH: usize = 8;
/// Number of rows of a block, whose weights, 384 KB, stay in the second-level cache.
const ROWS: usize = 96;

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

/// The products of rows with many tokens, for types with `HALVES` or `MINIMUMS`.
#[inline(always)]
pub(super) fn many_tokens<S: Integers, const HALVES: bool, const MINIMUMS: bool>(
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
    let (source, mut last) = (Source::new(w, ROWS), [0; size_of::<PanelBytes>()]);
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
    let mut tokens = [x.x.row(x.first); T];
    unroll!(TOKEN < T => tokens[TOKEN] = x.x.row(x.first + TOKEN));
    let i = x.chunk + i;
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
            unroll!(P_ < P => {
                let PanelChunk { steps, minimums, .. } = panels[P_];
                let sum = &mut sums[TOKEN * distance + P_ * GROUPS + g];
                if i == 0 {
                    *sum = Half::ZERO;
                }
                let acc = [lower[TOKEN][P_], upper[TOKEN][P_]];
                let factors = (&steps[g], &minimums[g]);
                let product =
                    scaled(simd, (HALVES, MINIMUMS), acc, factors, token.sums[i][g]);
                add_product(simd, product, token.steps[i], sum);
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
    pairs: Range<usize>,
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
