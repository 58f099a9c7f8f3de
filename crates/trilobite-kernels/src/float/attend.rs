//! Attention of query rows over the cached keys and values of one head: see [`kv`](crate::kv) for how
//! they are stored.
//!
//! A key's tile has one element of 32 positions in its lanes, so the 32 sums of a dot product lie in 32
//! vectors, and adding them pairwise gives the scores of 32 positions at once. Some rows share every
//! load, and the tiles of 32 positions stay in cache while all rows pass.

use super::simd::{LANES, Simd};
use crate::kv::{Cells, Visible};
use std::ops::Range;

/// 32 rows of 32 cells.
type Tile<T> = [[T; LANES]; LANES];

/// Tiles of one type of cell.
trait Tiles: Copy {
    /// These tiles alone.
    fn part(self, tiles: Range<usize>) -> Self;
    /// Row `row` of a tile, an element of 32 keys.
    fn key<S: Simd>(self, simd: S, tile: usize, row: usize) -> S::Lanes;
    /// Row `row` of a tile, 32 elements of a value.
    fn value<S: Simd>(self, simd: S, tile: usize, row: usize) -> S::Lanes;
}

impl Tiles for &[Tile<f32>] {
    #[inline(always)]
    fn part(self, tiles: Range<usize>) -> Self {
        &self[tiles]
    }

    #[inline(always)]
    fn key<S: Simd>(self, simd: S, tile: usize, row: usize) -> S::Lanes {
        simd.load(&self[tile][row])
    }

    #[inline(always)]
    fn value<S: Simd>(self, simd: S, tile: usize, row: usize) -> S::Lanes {
        simd.load(&self[tile][row])
    }
}

/// f16, as bits.
impl Tiles for &[Tile<u16>] {
    #[inline(always)]
    fn part(self, tiles: Range<usize>) -> Self {
        &self[tiles]
    }

    #[inline(always)]
    fn key<S: Simd>(self, simd: S, tile: usize, row: usize) -> S::Lanes {
        simd.load_f16(&self[tile][row])
    }

    #[inline(always)]
    fn value<S: Simd>(self, simd: S, tile: usize, row: usize) -> S::Lanes {
        simd.load_f16(&self[tile][row])
    }
}

/// int8 codes and, for every tile, the steps of its 32 positions.
#[derive(Clone, Copy)]
struct Q8<'a> {
    codes: &'a [Tile<i8>],
    steps: &'a [[f32; LANES]],
}

impl Tiles for Q8<'_> {
    #[inline(always)]
    fn part(self, tiles: Range<usize>) -> Self {
        Self { codes: &self.codes[tiles.clone()], steps: &self.steps[tiles] }
    }

    #[inline(always)]
    fn key<S: Simd>(self, simd: S, tile: usize, row: usize) -> S::Lanes {
        simd.mul(simd.load_i8(&self.codes[tile][row]), simd.load(&self.steps[tile]))
    }

    #[inline(always)]
    fn value<S: Simd>(self, simd: S, tile: usize, row: usize) -> S::Lanes {
        simd.mul(simd.load_i8(&self.codes[tile][row]), simd.splat(self.steps[tile][row]))
    }
}

/// Calls a function with the tiles of some cells.
macro_rules! with_tiles {
    ($cells:expr, $tiles:ident => $call:expr) => {
        match $cells {
            Cells::F32(cells) => {
                let $tiles = tiles(cells);
                $call
            }
            Cells::F16(cells) => {
                let $tiles = tiles(cells);
                $call
            }
            Cells::Q8 { codes, steps } => {
                let $tiles = Q8 { codes: tiles(codes), steps: steps.as_chunks().0 };
                $call
            }
        }
    };
}

fn tiles<T>(cells: &[T]) -> &[Tile<T>] {
    cells.as_chunks().0.as_chunks().0
}

/// See [`Kernels::attend_scores`](crate::Kernels::attend_scores), which checks the lengths.
#[inline(always)]
pub(crate) fn scores(
    simd: impl Simd,
    q: &[f32],
    keys: Cells<'_>,
    visible: Visible,
    scale: f32,
    out: &mut [f32],
) {
    with_tiles!(keys, keys => scores_of(simd, q, keys, visible, scale, out));
}

#[inline(always)]
fn scores_of<S: Simd>(
    simd: S,
    q: &[f32],
    keys: impl Tiles,
    visible: Visible,
    scale: f32,
    out: &mut [f32],
) {
    let (rows, panels) = (visible.rows, q.len() / visible.rows / LANES);
    let positions = out.len() / rows;
    let q: &[[f32; LANES]] = q.as_chunks().0;
    let out: &mut [[f32; LANES]] = out.as_chunks_mut().0;
    for block in 0..positions / LANES {
        let keys = keys.part(block * panels..(block + 1) * panels);
        let mut out = Columns { chunks: &mut *out, stride: positions / LANES, column: block };
        let mut row = 0;
        while row < rows {
            let n = take::<S>(rows - row);
            if (row..row + n).any(|row| !visible.within(row, block).is_empty()) {
                let q = &q[row * panels..];
                match n {
                    4 => score_rows::<S, 4>(simd, q, panels, keys, scale, row, &mut out),
                    2 => score_rows::<S, 2>(simd, q, panels, keys, scale, row, &mut out),
                    _ => score_rows::<S, 1>(simd, q, panels, keys, scale, row, &mut out),
                }
            }
            row += n;
        }
    }
}

/// How many of the `left` rows go together: their 32 lanes each, and a few more, have to fit in the
/// registers.
#[inline(always)]
fn take<S: Simd>(left: usize) -> usize {
    match left {
        4.. if S::REGISTERS * S::WIDTH >= 16 * LANES => 4,
        2.. => 2,
        _ => 1,
    }
}

/// One block of 32 columns of a matrix.
struct Columns<'a> {
    chunks: &'a mut [[f32; LANES]],
    stride: usize,
    column: usize,
}

impl Columns<'_> {
    #[inline(always)]
    fn row(&mut self, row: usize) -> &mut [f32; LANES] {
        &mut self.chunks[row * self.stride + self.column]
    }
}

/// The scores of the first `N` rows of `q` at the 32 positions of a block.
#[inline(always)]
fn score_rows<S: Simd, const N: usize>(
    simd: S,
    q: &[[f32; LANES]],
    panels: usize,
    keys: impl Tiles,
    scale: f32,
    row: usize,
    out: &mut Columns<'_>,
) {
    let mut rows = [q; N];
    for n in 0..N {
        rows[n] = &q[n * panels..(n + 1) * panels];
    }
    let q = rows;
    let mut eights = [[simd.splat(0.0); N]; 4];
    for (l, eight) in eights.iter_mut().enumerate() {
        let a = four(simd, q, keys, panels, l);
        *eight = add(simd, a, four(simd, q, keys, panels, l + 4));
    }
    let [a, b, c, d] = eights;
    let dots = add(simd, add(simd, a, c), add(simd, b, d));
    for (n, dots) in dots.into_iter().enumerate() {
        simd.store(simd.mul(dots, simd.splat(scale)), out.row(row + n));
    }
}

/// Lane `l` of the dot products: the sum over the elements `l`, `l + 32`, and so on.
#[inline(always)]
fn lane<S: Simd, const N: usize>(
    simd: S,
    q: [&[[f32; LANES]]; N],
    keys: impl Tiles,
    panels: usize,
    l: usize,
) -> [S::Lanes; N] {
    let mut acc = [simd.splat(0.0); N];
    for panel in 0..panels {
        let key = keys.key(simd, panel, l);
        for (acc, q) in acc.iter_mut().zip(q) {
            *acc = simd.mul_add(simd.splat(q[panel][l]), key, *acc);
        }
    }
    acc
}

/// The lanes `l`, `l + 16`, `l + 8` and `l + 24`, added pairwise.
#[inline(always)]
fn four<S: Simd, const N: usize>(
    simd: S,
    q: [&[[f32; LANES]]; N],
    keys: impl Tiles,
    panels: usize,
    l: usize,
) -> [S::Lanes; N] {
    let a = lane(simd, q, keys, panels, l);
    let a = add(simd, a, lane(simd, q, keys, panels, l + 16));
    let b = lane(simd, q, keys, panels, l + 8);
    add(simd, a, add(simd, b, lane(simd, q, keys, panels, l + 24)))
}

#[inline(always)]
fn add<S: Simd, const N: usize>(simd: S, mut a: [S::Lanes; N], b: [S::Lanes; N]) -> [S::Lanes; N] {
    for n in 0..N {
        a[n] = simd.add(a[n], b[n]);
    }
    a
}

/// See [`Kernels::attend_values`](crate::Kernels::attend_values), which checks the lengths.
#[inline(always)]
pub(crate) fn values(
    simd: impl Simd,
    weights: &[f32],
    values: Cells<'_>,
    panels: Range<usize>,
    visible: Visible,
    out: &mut [f32],
) {
    let all = values.count() / (weights.len() / visible.rows) / LANES;
    with_tiles!(values, values => values_of(simd, weights, values, all, panels, visible, out));
}

#[inline(always)]
fn values_of<S: Simd>(
    simd: S,
    weights: &[f32],
    values: impl Tiles,
    all: usize,
    panels: Range<usize>,
    visible: Visible,
    out: &mut [f32],
) {
    let rows = visible.rows;
    let weights: &[[f32; LANES]] = weights.as_chunks().0;
    let out: &mut [[f32; LANES]] = out.as_chunks_mut().0;
    let blocks = weights.len() / rows;
    out.fill([0.0; LANES]);
    for block in 0..blocks {
        for (column, panel) in panels.clone().enumerate() {
            let tile = values.part(block * all + panel..block * all + panel + 1);
            let mut out = Columns { chunks: &mut *out, stride: panels.len(), column };
            let mut row = 0;
            while row < rows {
                let weights = &weights[row * blocks + block..];
                let n = take::<S>(rows - row);
                match n {
                    4 => weigh_rows::<S, 4>(
                        simd, weights, blocks, tile, visible, block, row, &mut out,
                    ),
                    2 => weigh_rows::<S, 2>(
                        simd, weights, blocks, tile, visible, block, row, &mut out,
                    ),
                    _ => weigh_rows::<S, 1>(
                        simd, weights, blocks, tile, visible, block, row, &mut out,
                    ),
                }
                row += n;
            }
        }
    }
}

/// Adds a tile of values to `N` rows, each weighted by its first 32 `weights`.
#[inline(always)]
fn weigh_rows<S: Simd, const N: usize>(
    simd: S,
    weights: &[[f32; LANES]],
    stride: usize,
    tile: impl Tiles,
    visible: Visible,
    block: usize,
    row: usize,
    out: &mut Columns<'_>,
) {
    // What all rows see is added to all at once, what comes before and after it to one at a time.
    let mut seen = [const { 0..0 }; N];
    let (mut start, mut end) = (0, LANES);
    let mut acc = [simd.splat(0.0); N];
    let mut rows = [&weights[0]; N];
    for n in 0..N {
        seen[n] = visible.within(row + n, block);
        (start, end) = (start.max(seen[n].start), end.min(seen[n].end));
        acc[n] = simd.load(out.row(row + n));
        rows[n] = &weights[n * stride];
    }
    let (end, weights) = (end.max(start), rows);
    for n in 0..N {
        let before = seen[n].start..seen[n].end.min(start);
        [acc[n]] = weigh(simd, [acc[n]], [weights[n]], tile, before);
    }
    acc = weigh(simd, acc, weights, tile, start..end);
    for n in 0..N {
        let after = seen[n].start.max(end)..seen[n].end;
        [acc[n]] = weigh(simd, [acc[n]], [weights[n]], tile, after);
        simd.store(acc[n], out.row(row + n));
    }
}

/// Adds some positions of a tile in their order.
#[inline(always)]
fn weigh<S: Simd, const N: usize>(
    simd: S,
    mut acc: [S::Lanes; N],
    weights: [&[f32; LANES]; N],
    tile: impl Tiles,
    positions: Range<usize>,
) -> [S::Lanes; N] {
    for position in positions.start..positions.end.min(LANES) {
        let value = tile.value(simd, 0, position);
        for (acc, weights) in acc.iter_mut().zip(weights) {
            *acc = simd.mul_add(value, simd.splat(weights[position]), *acc);
        }
    }
    acc
}
