//! Products with many tokens: weights are widened once, to panels.

use std::ops::Range;

use super::codes::{BlockCodes, CodeChunk, GROUPS};
use super::form::{CodeType, Form, Line, code_type};
use super::format::{self, Factors, Format, Quads, RowBytes, dispatch};
use super::simd::{Half, Products};
use super::source::{PANEL, PanelBytes, Source, SourceChunk};
use super::sums::{add_product, scaled, sum_lanes};
use crate::dense::types::{DenseMatrix, DenseType};

/// Number of chunks of a block of widened weights. A tile's activations then stay in the
/// first-level cache.
const DEPTH: usize = 8;
/// Number of rows of a block, whose weights, 384 KB, stay in the second-level cache.
const ROWS: usize = 96;
/// Number of panels of a block.
const PANELS: usize = ROWS / PANEL;

/// The sums of the rows of a block with one token.
type TokenSums = [[Half; GROUPS]; PANELS];

/// A block of widened weights, in panels, and sums.
#[derive(Debug, Default)]
pub(crate) struct BlockBuffers {
    /// `[panel][chunk][GROUPS][8]`: quads of columns, each of the rows of the panel.
    lines: Vec<Line>,
    /// Steps of the groups or of their halves, `[panel][chunk][GROUPS]`.
    steps: Vec<[Half; 2]>,
    /// `[panel][chunk][GROUPS]`
    minimums: Vec<Half>,
    /// `[tokens]`
    sums: Vec<TokenSums>,
}

/// The products of rows with many tokens, for types with `HALVES` or `MINIMUMS`.
#[inline(always)]
pub(super) fn many_tokens<
    S: Products,
    G: Form,
    const HALVES: bool,
    const MINIMUMS: bool,
    const SIGNED: bool,
>(
    simd: S,
    w: DenseMatrix<'_>,
    x: &BlockCodes<G>,
    buffers: &mut BlockBuffers,
    out: &mut [f32],
) {
    let DenseMatrix { ty, rows, .. } = w;
    let code_type = dispatch!(ty, code_type::<S, G>());
    let tokens = x.tokens();
    let chunks = x.row(0).steps.len();
    const { assert!(ROWS.is_multiple_of(S::PANELS_AT_ONCE * PANEL), "panels are left over") };
    let (source, mut last) = (Source::new(simd, w, ROWS), [0; size_of::<PanelBytes>()]);
    // Sums are kept for the next block of columns, if there is one.
    let kept = if chunks > DEPTH { tokens } else { S::TOKENS_AT_ONCE };

    buffers.sums.resize(buffers.sums.len().max(kept), [[Half::ZERO; GROUPS]; PANELS]);
    for first_row in (0..rows).step_by(ROWS) {
        let count = ROWS.min(rows - first_row);
        for chunk in (0..chunks).step_by(DEPTH) {
            let depth = DEPTH.min(chunks - chunk);
            buffers.reset::<G>(depth);
            for first in (0..count).step_by(PANEL) {
                for i in 0..depth {
                    let source = source.chunk(first_row + first, chunk + i);
                    let place = first / PANEL * depth + i;
                    let rows = source.panel(&mut last);
                    dispatch!(ty, widen::<S, G>[HALVES, MINIMUMS](simd, source, rows, place, buffers));
                }
            }
            let mut first = 0;
            while first < tokens {
                let range = ChunkRange { x, first, chunk, depth, code_type };
                let left = S::TOKENS_AT_ONCE.min(tokens - first);
                let n = if left == S::TOKENS_AT_ONCE || G::FEW { 1 << left.ilog2() } else { 1 };
                let sums = first % kept;
                if chunk == 0 {
                    buffers.sums[sums..][..n].fill([[Half::ZERO; GROUPS]; PANELS]);
                }
                match n {
                    1 => buffers
                        .multiply::<S, G, HALVES, MINIMUMS, SIGNED, 1>(simd, range, count, sums),
                    2 if const { S::TOKENS_AT_ONCE == 2 || S::TOKENS_AT_ONCE > 1 && G::FEW } => {
                        buffers
                            .multiply::<S, G, HALVES, MINIMUMS, SIGNED, 2>(simd, range, count, sums)
                    }
                    4 if const { S::TOKENS_AT_ONCE == 4 || S::TOKENS_AT_ONCE > 2 && G::FEW } => {
                        buffers
                            .multiply::<S, G, HALVES, MINIMUMS, SIGNED, 4>(simd, range, count, sums)
                    }
                    _ if const { S::TOKENS_AT_ONCE > 4 } => buffers
                        .multiply::<S, G, HALVES, MINIMUMS, SIGNED, 8>(simd, range, count, sums),
                    _ => unreachable!("more tokens than at once"),
                }
                if chunk + depth == chunks {
                    for t in 0..n {
                        let out = &mut out[(first + t) * rows + first_row..][..count];
                        for (out, sums) in out.chunks_mut(PANEL).zip(&buffers.sums[sums + t]) {
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
    S: Products,
    G: Form,
    F: Format<N, B>,
    const N: usize,
    const B: usize,
    const HALVES: bool,
    const MINIMUMS: bool,
>(
    simd: S,
    source: SourceChunk<'_>,
    rows: RowBytes<'_>,
    place: usize,
    out: &mut BlockBuffers,
) {
    if const { HALVES != F::HALVES || MINIMUMS != F::MINIMUMS } {
        unreachable!("a type of another form");
    }
    let BlockBuffers { lines, steps, minimums, .. } = out;
    let valid = source.len / N * (GROUPS / B);
    let steps = &mut steps.as_chunks_mut().0[place];
    let minimums = &mut minimums.as_chunks_mut().0[place];
    let lines = &mut G::lines_mut(lines)[place * GROUPS..][..GROUPS];
    F::factors(simd, rows, valid, Factors { steps, minimums });
    if valid < GROUPS {
        steps[valid..].fill([Half::ZERO; 2]);
        minimums[valid..].fill(Half::ZERO);
    }
    let signed = code_type::<S, G, F, N, B>().signed;
    for set in 0..valid / F::SET {
        let groups = set * F::SET..(set + 1) * F::SET;
        for g in groups.clone() {
            source.prefetch::<N, B>(simd, g);
        }
        F::codes(
            simd,
            rows,
            set,
            &mut Widened::<G> { signed, bias: F::BIAS, lines: &mut lines[groups] },
        );
    }
}

/// Where the quads of a set of groups are widened to.
struct Widened<'a, G: Form> {
    signed: bool,
    bias: u8,
    lines: &'a mut [G::Lines],
}

impl<S: Products, G: Form> Quads<S> for Widened<'_, G> {
    #[inline(always)]
    fn quad(&mut self, simd: S, group: usize, i: usize, codes: S::Rows) {
        let quad = G::quad(simd, self.signed, self.bias, codes);
        G::store(simd, quad, i, &mut self.lines[group]);
    }
}

/// A range of chunks of some tokens.
struct ChunkRange<'a, G> {
    x: &'a BlockCodes<G>,
    /// The first token.
    first: usize,
    /// The first chunk.
    chunk: usize,
    /// Number of chunks.
    depth: usize,
    /// The type of the weights' codes.
    code_type: CodeType,
}

impl<G> Clone for ChunkRange<'_, G> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<G> Copy for ChunkRange<'_, G> {}

/// A chunk of the weights of a panel: codes, steps and minimums.
struct PanelChunk<'a, G: Form> {
    lines: &'a [G::Lines; GROUPS],
    steps: &'a [[Half; 2]; GROUPS],
    minimums: &'a [Half; GROUPS],
}

impl<G: Form> Clone for PanelChunk<'_, G> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<G: Form> Copy for PanelChunk<'_, G> {}

impl BlockBuffers {
    /// Resizes for panels of `depth` chunks.
    fn reset<G: Form>(&mut self, depth: usize) {
        let groups = PANELS * depth * GROUPS;
        let lines = groups * size_of::<G::Lines>() / size_of::<Line>();
        self.lines.resize(self.lines.len().max(lines), Line::ZERO);
        self.steps.resize(self.steps.len().max(groups), [Half::ZERO; 2]);
        self.minimums.resize(self.minimums.len().max(groups), Half::ZERO);
    }

    /// Adds the products of `count` rows with `T` tokens to their sums, from `first` on.
    #[inline(always)]
    fn multiply<
        S: Products,
        G: Form,
        const HALVES: bool,
        const MINIMUMS: bool,
        const SIGNED: bool,
        const T: usize,
    >(
        &mut self,
        simd: S,
        x: ChunkRange<'_, G>,
        count: usize,
        first: usize,
    ) {
        let BlockBuffers { lines, steps, minimums, sums } = self;
        let Some(sums) = sums[first..].first_chunk_mut::<T>() else {
            unreachable!("all tokens have sums")
        };
        let mut tokens = [x.x.row(x.first); T];
        unroll!(TOKEN < T => tokens[TOKEN] = x.x.row(x.first + TOKEN));
        let (steps, minimums) = (steps.as_chunks().0, minimums.as_chunks().0);
        let lines = G::lines(lines).as_chunks().0;
        let chunk = |panel: usize, i: usize| {
            let at = panel * x.depth + i;
            PanelChunk::<G> { lines: &lines[at], steps: &steps[at], minimums: &minimums[at] }
        };
        // The panels of a tile may have more rows than the matrix.
        for panel in (0..count.div_ceil(PANEL)).step_by(S::PANELS_AT_ONCE) {
            for i in 0..x.depth {
                let mut codes = [tokens[0].chunk(x.chunk + i); T];
                unroll!(TOKEN < T => codes[TOKEN] = tokens[TOKEN].chunk(x.chunk + i));
                if const { S::PANELS_AT_ONCE == 2 } {
                    let chunks = [chunk(panel, i), chunk(panel + 1, i)];
                    tile::<S, G, HALVES, MINIMUMS, SIGNED, T, 2>(
                        simd,
                        chunks,
                        codes,
                        x.code_type,
                        panel,
                        sums,
                    );
                } else {
                    let chunks = [chunk(panel, i)];
                    tile::<S, G, HALVES, MINIMUMS, SIGNED, T, 1>(
                        simd,
                        chunks,
                        codes,
                        x.code_type,
                        panel,
                        sums,
                    );
                }
            }
        }
    }
}

/// Adds the products of a chunk of `P` panels and `T` tokens to the sums of the panels from `first` on.
#[inline(always)]
fn tile<
    S: Products,
    G: Form,
    const HALVES: bool,
    const MINIMUMS: bool,
    const SIGNED: bool,
    const T: usize,
    const P: usize,
>(
    simd: S,
    panels: [PanelChunk<'_, G>; P],
    tokens: [CodeChunk<'_, G>; T],
    code_type: CodeType,
    first: usize,
    sums: &mut [TokenSums; T],
) {
    for g in 0..GROUPS {
        let mut lower = [[simd.zero_sums(); P]; T];
        let mut upper = lower;
        let mut codes = [&tokens[0].codes[g]; T];
        unroll!(TOKEN < T => codes[TOKEN] = &tokens[TOKEN].codes[g]);
        let mut lines = [&panels[0].lines[g]; P];
        unroll!(P_ < P => lines[P_] = &panels[P_].lines[g]);
        // A number that is not known here keeps the compiler from unrolling the loop over quads, which
        // moves registers to memory.
        let quads = if const { G::UNITS == 2 } { 8 } else { code_type.quads };
        if HALVES {
            let quads = quads.min(4);
            dots::<_, _, false, T, P>(simd, lines, codes, quads, 0..4, &mut lower);
            dots::<_, _, false, T, P>(simd, lines, codes, quads, 4..8, &mut upper);
        } else if const { SIGNED && G::UNITS == 1 } {
            dots::<_, _, true, T, P>(simd, lines, codes, quads, 0..8, &mut lower);
        } else {
            dots::<_, _, false, T, P>(simd, lines, codes, quads, 0..8, &mut lower);
        }
        unroll!(P_ < P => {
            let PanelChunk { steps, minimums, .. } = panels[P_];
            unroll!(TOKEN < T => {
                let CodeChunk { step, sums: totals, .. } = tokens[TOKEN];
                let mut acc = [lower[TOKEN][P_], upper[TOKEN][P_]];
                // Neither words nor the codes of types with minimums have a bias.
                if const { G::UNITS == 1 && !MINIMUMS } {
                    let less = codes[TOKEN].start(simd, code_type.bias, HALVES, totals[g]);
                    acc[0] = simd.add_sums(acc[0], less[0]);
                    if HALVES {
                        acc[1] = simd.add_sums(acc[1], less[1]);
                    }
                }
                let factors = (&steps[g], &minimums[g]);
                let product = scaled(simd, (HALVES, MINIMUMS), acc, factors, totals[g]);
                add_product(simd, product, step, &mut sums[TOKEN][first + P_][g]);
            });
        });
    }
}

/// Adds the products of a range of quads of columns of a group, `together` quads between
/// [`Form::begin`] and its end.
#[inline(always)]
fn dots<S: Products, G: Form, const SIGNED: bool, const T: usize, const P: usize>(
    simd: S,
    lines: [&G::Lines; P],
    codes: [&G; T],
    together: usize,
    quads: Range<usize>,
    sums: &mut [[S::Sums; P]; T],
) {
    let mut acc = *sums;
    for first in quads.step_by(together) {
        let mut products = acc;
        unroll!(TOKEN < T => {
            unroll!(P_ < P => products[TOKEN][P_] = G::begin(simd, SIGNED, acc[TOKEN][P_]));
        });
        for i in first * G::UNITS..(first + together) * G::UNITS {
            // Shows that `i` is within the arrays.
            let i = i % (8 * G::UNITS);
            let mut unit = [G::load(simd, i, lines[0]); P];
            unroll!(P_ < P => unit[P_] = G::load(simd, i, lines[P_]));
            unroll!(TOKEN < T => {
                unroll!(P_ < P => {
                    let products = &mut products[TOKEN][P_];
                    *products = codes[TOKEN].dot_unit(simd, SIGNED, unit[P_], i, *products);
                });
            });
        }
        unroll!(TOKEN < T => {
            unroll!(P_ < P => {
                acc[TOKEN][P_] = G::end(simd, SIGNED, products[TOKEN][P_], acc[TOKEN][P_]);
            });
        });
    }
    *sums = acc;
}
