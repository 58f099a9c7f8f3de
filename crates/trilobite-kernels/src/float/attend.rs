//! Attention of query rows over the cached keys and values of one head. [`kv`](crate::kv) defines
//! their layout.
//!
//! A row of keys holds one element of 32 positions, in 32 lanes. The 32 sums of a dot product are
//! thus in 32 vectors, and adding the vectors pairwise gives the scores of 32 positions at once.
//! Several query rows share every load, and the tiles of 32 positions stay in the cache while all
//! query rows pass.

use crate::kv::{self, Block, Cells, Visible};
use crate::simd::{LANES, Simd};
use std::ops::Range;

/// Number of rows of keys to prefetch ahead: the distance that measured fastest with keys from
/// memory. Values are prefetched a whole block ahead.
const KEYS_AHEAD: usize = 64;

/// Rows of 32 cells of one type. A tile has 32 of them.
trait CellRows: Copy {
    /// Number of bytes in a row.
    const BYTES: usize;
    /// The rows of a range of tiles.
    fn tiles(self, tiles: Range<usize>) -> Self;
    /// Prefetches the cells `ahead` rows after `row`. The rows at `next` follow the last row.
    fn prefetch<S: Simd>(self, simd: S, row: usize, ahead: usize, next: *const u8);
    /// Loads row `row`: an element of panel `panel` at 32 positions.
    fn key<S: Simd>(self, simd: S, row: usize, panel: usize) -> S::Lanes;
    /// Loads row `row` of a tile: 32 elements of a value.
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

/// A cell that is a float by itself.
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

impl<T: Cell> CellRows for &[[T; LANES]] {
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

/// int8 codes, and the steps of the 32 positions of every tile.
#[derive(Clone, Copy)]
struct Q8<'a> {
    codes: &'a [[i8; LANES]],
    steps: &'a [[f32; LANES]],
}

impl CellRows for Q8<'_> {
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
struct BlockRows<R> {
    rows: R,
    /// Index of the block.
    index: usize,
    /// Address of the rows of the next block, for prefetching.
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
                let $tiles = BlockRows { rows, index, next };
                $call
            }
            Cells::F16(cells) => {
                let rows: &[[u16; LANES]] = cells.as_chunks().0;
                let $tiles = BlockRows { rows, index, next };
                $call
            }
            Cells::Q8 { codes, steps } => {
                let rows = Q8 { codes: codes.as_chunks().0, steps: steps.as_chunks().0 };
                let $tiles = BlockRows { rows, index, next };
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
    keys: BlockRows<impl CellRows>,
    visible: Visible,
    scale: f32,
    out: &mut [f32],
) {
    let (rows, panels) = (visible.rows, q.len() / visible.rows / LANES);
    let positions = out.len() / rows;
    let q: &[[f32; LANES]] = q.as_chunks().0;
    let chunks: &mut [[f32; LANES]] = out.as_chunks_mut().0;
    let mut out = BlockColumns { chunks, stride: positions / LANES, column: keys.index };
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

/// The number of rows to process together, of the `left` rows. The 32 lanes of each, and a few
/// more, must fit in the registers.
#[inline(always)]
fn take<S: Simd>(left: usize) -> usize {
    match left {
        4.. if S::REGISTERS * S::WIDTH >= 16 * LANES => 4,
        2.. => 2,
        _ => 1,
    }
}

/// A block of 32 columns of a matrix.
struct BlockColumns<'a> {
    chunks: &'a mut [[f32; LANES]],
    stride: usize,
    column: usize,
}

impl BlockColumns<'_> {
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
    keys: BlockRows<impl CellRows>,
    scale: f32,
    row: usize,
    out: &mut BlockColumns<'_>,
) {
    let mut rows = [q; N];
    for n in 0..N {
        rows[n] = &q[n * panels..(n + 1) * panels];
    }
    let q = rows;
    let BlockRows { rows: keys, next, .. } = keys;
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

/// Lane `l` of the dot products: the sum over the elements `l`, `l + 32`, and so on, whose keys are
/// adjacent.
#[inline(always)]
fn lane<S: Simd, const N: usize>(
    simd: S,
    q: [&[[f32; LANES]]; N],
    keys: impl CellRows,
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

/// The pairwise sum of the lanes `l`, `l + 16`, `l + 8` and `l + 24`.
#[inline(always)]
fn four<S: Simd, const N: usize>(
    simd: S,
    q: [&[[f32; LANES]]; N],
    keys: impl CellRows,
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
fn values_of<S: Simd, R: CellRows>(
    simd: S,
    weights: &[f32],
    values: BlockRows<R>,
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
        let tile = BlockRows { rows: rows_of_panel, next, ..values };
        let mut out = BlockColumns { chunks: &mut *out, stride: panels.len(), column };
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

/// Adds a tile of values to `N` rows, weighted by the first 32 `weights` of each row.
#[inline(always)]
fn weigh_rows<S: Simd, const N: usize>(
    simd: S,
    weights: &[[f32; LANES]],
    stride: usize,
    tile: BlockRows<impl CellRows>,
    visible: Visible,
    row: usize,
    out: &mut BlockColumns<'_>,
) {
    let BlockRows { rows: tile, index: block, next } = tile;
    let ahead = (row == 0).then_some(next);
    // Positions that all rows see are added to all rows at once; the positions before and after
    // them to one row at a time.
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

/// Adds a range of positions of a tile, in order.
#[inline(always)]
fn weigh<S: Simd, const N: usize>(
    simd: S,
    mut acc: [S::Lanes; N],
    weights: [&[f32; LANES]; N],
    tile: impl CellRows,
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
