//! Attention of query rows over the cached keys and values of one head: see [`kv`](crate::kv) for how
//! they are stored.
//!
//! A row of keys has one element of 32 positions in its lanes, so the 32 sums of a dot product lie in 32
//! vectors, and adding them pairwise gives the scores of 32 positions at once. Some rows share every
//! load, and the tiles of 32 positions stay in cache while all rows pass.

use crate::kv::{self, Block, Cells, Visible};
use crate::simd::{LANES, Simd};
use std::ops::Range;

/// Rows of keys that are prefetched ahead of their use: the distance that measured fastest when they
/// come from memory. Values are prefetched a whole block ahead.
const KEYS_AHEAD: usize = 64;

/// Rows of 32 cells of one type, 32 to a tile.
trait Rows: Copy {
    /// Bytes of a row.
    const BYTES: usize;
    /// The rows of these tiles alone.
    fn tiles(self, tiles: Range<usize>) -> Self;
    /// Prefetches the cells `ahead` rows after `row`; the rows at `next` follow the last.
    fn prefetch<S: Simd>(self, simd: S, row: usize, ahead: usize, next: *const u8);
    /// Row `row`, an element of panel `panel` of 32 keys.
    fn key<S: Simd>(self, simd: S, row: usize, panel: usize) -> S::Lanes;
    /// Row `row` of a tile, 32 elements of a value.
    fn value<S: Simd>(self, simd: S, row: usize) -> S::Lanes;
}

/// Prefetches the cache lines of the row `ahead` rows after `row`.
#[inline(always)]
fn prefetch<S: Simd, T>(simd: S, rows: &[[T; LANES]], row: usize, ahead: usize, next: *const u8) {
    let start = match rows.get(row + ahead) {
        Some(row) => row.as_ptr().cast(),
        None => next.wrapping_add((row + ahead - rows.len()) * size_of::<[T; LANES]>()),
    };
    for line in (0..size_of::<[T; LANES]>()).step_by(64) {
        simd.prefetch(start.wrapping_add(line));
    }
}

/// A cell that is a number by itself.
trait Cell: Copy {
    fn load<S: Simd>(simd: S, cells: &[Self; LANES]) -> S::Lanes;
}

impl Cell for f32 {
    #[inline(always)]
    fn load<S: Simd>(simd: S, cells: &[f32; LANES]) -> S::Lanes {
        simd.load(cells)
    }
}

/// f16, as bits.
impl Cell for u16 {
    #[inline(always)]
    fn load<S: Simd>(simd: S, cells: &[u16; LANES]) -> S::Lanes {
        simd.load_f16(cells)
    }
}

impl<T: Cell> Rows for &[[T; LANES]] {
    const BYTES: usize = size_of::<[T; LANES]>();

    #[inline(always)]
    fn tiles(self, tiles: Range<usize>) -> Self {
        &self[tiles.start * LANES..tiles.end * LANES]
    }

    #[inline(always)]
    fn prefetch<S: Simd>(self, simd: S, row: usize, ahead: usize, next: *const u8) {
        prefetch(simd, self, row, ahead, next);
    }

    #[inline(always)]
    fn key<S: Simd>(self, simd: S, row: usize, _: usize) -> S::Lanes {
        T::load(simd, &self[row])
    }

    #[inline(always)]
    fn value<S: Simd>(self, simd: S, row: usize) -> S::Lanes {
        T::load(simd, &self[row])
    }
}

/// int8 codes and, for every tile, the steps of its 32 positions.
#[derive(Clone, Copy)]
struct Q8<'a> {
    codes: &'a [[i8; LANES]],
    steps: &'a [[f32; LANES]],
}

impl Rows for Q8<'_> {
    const BYTES: usize = LANES;

    #[inline(always)]
    fn tiles(self, tiles: Range<usize>) -> Self {
        Self {
            codes: &self.codes[tiles.start * LANES..tiles.end * LANES],
            steps: &self.steps[tiles],
        }
    }

    #[inline(always)]
    fn prefetch<S: Simd>(self, simd: S, row: usize, ahead: usize, next: *const u8) {
        prefetch(simd, self.codes, row, ahead, next);
    }

    #[inline(always)]
    fn key<S: Simd>(self, simd: S, row: usize, panel: usize) -> S::Lanes {
        simd.mul(simd.load_i8(&self.codes[row]), simd.load(&self.steps[panel]))
    }

    #[inline(always)]
    fn value<S: Simd>(self, simd: S, row: usize) -> S::Lanes {
        simd.mul(simd.load_i8(&self.codes[row]), simd.splat(self.steps[0][row]))
    }
}

/// The rows of a [`Block`], or of one of its tiles.
#[derive(Clone, Copy)]
struct Tiles<R> {
    rows: R,
    /// Which block it is.
    index: usize,
    /// Where the next block's rows lie, for prefetching.
    next: *const u8,
}

/// Calls a function with the rows of a block.
macro_rules! with_tiles {
    ($block:expr, $tiles:ident => $call:expr) => {{
        let Block { index, cells, next } = $block;
        let next = next.address();
        match cells {
            Cells::F32(cells) => {
                let rows: &[[f32; LANES]] = cells.as_chunks().0;
                let $tiles = Tiles { rows, index, next };
                $call
            }
            Cells::F16(cells) => {
                let rows: &[[u16; LANES]] = cells.as_chunks().0;
                let $tiles = Tiles { rows, index, next };
                $call
            }
            Cells::Q8 { codes, steps } => {
                let rows = Q8 { codes: codes.as_chunks().0, steps: steps.as_chunks().0 };
                let $tiles = Tiles { rows, index, next };
                $call
            }
        }
    }};
}

/// See [`Kernels::attend_scores`](crate::Kernels::attend_scores), which checks the lengths.
#[inline(always)]
pub(crate) fn scores(
    simd: impl Simd,
    q: &[f32],
    keys: Block<'_>,
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
    keys: Tiles<impl Rows>,
    visible: Visible,
    scale: f32,
    out: &mut [f32],
) {
    let (rows, panels) = (visible.rows, q.len() / visible.rows / LANES);
    let positions = out.len() / rows;
    let q: &[[f32; LANES]] = q.as_chunks().0;
    let chunks: &mut [[f32; LANES]] = out.as_chunks_mut().0;
    let mut out = Columns { chunks, stride: positions / LANES, column: keys.index };
    let mut row = 0;
    while row < rows {
        let n = take::<S>(rows - row);
        if (row..row + n).any(|row| !visible.within(row, keys.index).is_empty()) {
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
    keys: Tiles<impl Rows>,
    scale: f32,
    row: usize,
    out: &mut Columns<'_>,
) {
    let mut rows = [q; N];
    for n in 0..N {
        rows[n] = &q[n * panels..(n + 1) * panels];
    }
    let q = rows;
    let Tiles { rows: keys, next, .. } = keys;
    let ahead = (row == 0).then_some(next);
    let mut eights = [[simd.splat(0.0); N]; 4];
    for (l, eight) in [0, 2, 1, 3].into_iter().zip(&mut eights) {
        let a = four(simd, q, keys, panels, l, ahead);
        *eight = add(simd, a, four(simd, q, keys, panels, l + 4, ahead));
    }
    let [a, b, c, d] = eights;
    let dots = add(simd, add(simd, a, b), add(simd, c, d));
    for (n, dots) in dots.into_iter().enumerate() {
        simd.store(simd.mul(dots, simd.splat(scale)), out.row(row + n));
    }
}

/// Lane `l` of the dot products: the sum over the elements `l`, `l + 32`, and so on, whose keys follow
/// each other.
#[inline(always)]
fn lane<S: Simd, const N: usize>(
    simd: S,
    q: [&[[f32; LANES]]; N],
    keys: impl Rows,
    panels: usize,
    l: usize,
    ahead: Option<*const u8>,
) -> [S::Lanes; N] {
    let mut acc = [simd.splat(0.0); N];
    let first = kv::rank(l) * panels;
    for panel in 0..panels {
        if let Some(next) = ahead {
            keys.prefetch(simd, first + panel, KEYS_AHEAD, next);
        }
        let key = keys.key(simd, first + panel, panel);
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
    keys: impl Rows,
    panels: usize,
    l: usize,
    ahead: Option<*const u8>,
) -> [S::Lanes; N] {
    let a = lane(simd, q, keys, panels, l, ahead);
    let a = add(simd, a, lane(simd, q, keys, panels, l + 16, ahead));
    let b = lane(simd, q, keys, panels, l + 8, ahead);
    add(simd, a, add(simd, b, lane(simd, q, keys, panels, l + 24, ahead)))
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
    values: Block<'_>,
    panels: Range<usize>,
    visible: Visible,
    out: &mut [f32],
) {
    with_tiles!(values, values => values_of(simd, weights, values, panels, visible, out));
}

#[inline(always)]
fn values_of<S: Simd, R: Rows>(
    simd: S,
    weights: &[f32],
    values: Tiles<R>,
    panels: Range<usize>,
    visible: Visible,
    out: &mut [f32],
) {
    let rows = visible.rows;
    let weights: &[[f32; LANES]] = weights.as_chunks().0;
    let out: &mut [[f32; LANES]] = out.as_chunks_mut().0;
    let blocks = weights.len() / rows;
    for (column, panel) in panels.clone().enumerate() {
        let rows_of_panel = values.rows.tiles(panel..panel + 1);
        let next = values.next.wrapping_add(panel * LANES * R::BYTES);
        let tile = Tiles { rows: rows_of_panel, next, ..values };
        let mut out = Columns { chunks: &mut *out, stride: panels.len(), column };
        let mut row = 0;
        while row < rows {
            let weights = &weights[row * blocks + values.index..];
            let n = take::<S>(rows - row);
            match n {
                4 => weigh_rows::<S, 4>(simd, weights, blocks, tile, visible, row, &mut out),
                2 => weigh_rows::<S, 2>(simd, weights, blocks, tile, visible, row, &mut out),
                _ => weigh_rows::<S, 1>(simd, weights, blocks, tile, visible, row, &mut out),
            }
            row += n;
        }
    }
}

/// Adds a tile of values to `N` rows, each weighted by its first 32 `weights`.
#[inline(always)]
fn weigh_rows<S: Simd, const N: usize>(
    simd: S,
    weights: &[[f32; LANES]],
    stride: usize,
    tile: Tiles<impl Rows>,
    visible: Visible,
    row: usize,
    out: &mut Columns<'_>,
) {
    let Tiles { rows: tile, index: block, next } = tile;
    let ahead = (row == 0).then_some(next);
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
        [acc[n]] = weigh(simd, [acc[n]], [weights[n]], tile, before, None);
    }
    acc = weigh(simd, acc, weights, tile, start..end, ahead);
    for n in 0..N {
        let after = seen[n].start.max(end)..seen[n].end;
        [acc[n]] = weigh(simd, [acc[n]], [weights[n]], tile, after, None);
        simd.store(acc[n], out.row(row + n));
    }
}

/// Adds some positions of a tile in their order.
#[inline(always)]
fn weigh<S: Simd, const N: usize>(
    simd: S,
    mut acc: [S::Lanes; N],
    weights: [&[f32; LANES]; N],
    tile: impl Rows,
    positions: Range<usize>,
    ahead: Option<*const u8>,
) -> [S::Lanes; N] {
    for position in positions.start..positions.end.min(LANES) {
        if let Some(next) = ahead {
            tile.prefetch(simd, position, LANES, next);
        }
        let value = tile.value(simd, position);
        for (acc, weights) in acc.iter_mut().zip(weights) {
            *acc = simd.mul_add(value, simd.splat(weights[position]), *acc);
        }
    }
    acc
}
