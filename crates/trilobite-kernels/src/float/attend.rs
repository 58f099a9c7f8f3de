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

/// Number of bytes of keys to prefetch ahead, at most a whole block: the distance that measured
/// fastest with keys from memory. Values are prefetched a whole block ahead.
const KEYS_AHEAD: usize = 8192;

/// Rows of 32 cells of one type. A tile has 32 of them.
trait CellRows: Copy {
    /// Number of bytes in a row.
    const BYTES: usize;
    /// Number of bytes of the steps of a tile.
    const STEPS: usize;
    /// Number of rows.
    fn count(self) -> usize;
    /// Address of the first row.
    fn address(self) -> *const u8;
    /// The rows of a range of tiles.
    fn tiles(self, tiles: Range<usize>) -> Self;
    /// A range of rows of keys, one for each panel.
    fn panels(self, rows: Range<usize>) -> Self;
    /// Loads an element of panel `panel` at 32 positions, from the rows of the panels.
    fn key<S: Simd>(self, simd: S, panel: usize) -> S::Lanes;
    /// Loads row `row` of a tile: 32 elements of a value.
    fn value<S: Simd>(self, simd: S, row: usize) -> S::Lanes;

    /// Address of the row `distance` rows after `row`, at most a block further. The rows at `next`
    /// follow the last row.
    #[inline(always)]
    fn ahead(self, row: usize, distance: usize, next: *const u8) -> *const u8 {
        let ahead = row + distance.min(self.count());
        match ahead.checked_sub(self.count()) {
            None => self.address().wrapping_add(ahead * Self::BYTES),
            Some(row) => next.wrapping_add(row * Self::BYTES),
        }
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
    const STEPS: usize = 0;

    #[inline(always)]
    fn count(self) -> usize {
        self.len()
    }

    #[inline(always)]
    fn address(self) -> *const u8 {
        self.as_ptr().cast()
    }

    #[inline(always)]
    fn tiles(self, tiles: Range<usize>) -> Self {
        &self[tiles.start * LANES..tiles.end * LANES]
    }

    #[inline(always)]
    fn panels(self, rows: Range<usize>) -> Self {
        &self[rows]
    }

    #[inline(always)]
    fn key<S: Simd>(self, simd: S, panel: usize) -> S::Lanes {
        T::load(simd, &self[panel])
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
    const STEPS: usize = size_of::<[f32; LANES]>();

    #[inline(always)]
    fn count(self) -> usize {
        self.codes.len()
    }

    #[inline(always)]
    fn address(self) -> *const u8 {
        self.codes.as_ptr().cast()
    }

    #[inline(always)]
    fn tiles(self, tiles: Range<usize>) -> Self {
        Self {
            codes: &self.codes[tiles.start * LANES..tiles.end * LANES],
            steps: &self.steps[tiles],
        }
    }

    #[inline(always)]
    fn panels(self, rows: Range<usize>) -> Self {
        let steps = &self.steps[..rows.len()];
        Self { codes: &self.codes[rows], steps }
    }

    #[inline(always)]
    fn key<S: Simd>(self, simd: S, panel: usize) -> S::Lanes {
        simd.mul(simd.load_i8(&self.codes[panel]), simd.load(&self.steps[panel]))
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
    next: NextBlock,
}

/// The block that is read after another one, for prefetching.
#[derive(Clone, Copy)]
struct NextBlock {
    /// Addresses of the rows and of the steps.
    rows: *const u8,
    steps: *const u8,
    /// Whether to prefetch to the second level. The cache is read once for a token, as weights are.
    second_level: bool,
}

impl NextBlock {
    #[inline(always)]
    fn new(simd: impl Simd, cells: Cells<'_>) -> Self {
        let (rows, steps) = cells.addresses();
        Self { rows, steps, second_level: simd.prefers_second_level() }
    }

    /// Prefetches some bytes of the block from an address on.
    #[inline(always)]
    fn prefetch(self, simd: impl Simd, address: *const u8, bytes: usize) {
        if self.second_level {
            simd.prefetch_second(address, bytes);
        } else {
            simd.prefetch(address, bytes);
        }
    }
}

/// Calls a function with the rows of a block.
macro_rules! with_tiles {
    ($simd:expr, $block:expr, $tiles:ident => $call:expr) => {{
        let Block { index, cells, next } = $block;
        let next = NextBlock::new($simd, next);
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
    with_tiles!(simd, keys, keys => scores_of(simd, q, keys, visible, scale, out));
}

#[inline(always)]
fn scores_of<S: Simd, R: CellRows>(
    simd: S,
    q: &[f32],
    keys: BlockRows<R>,
    visible: Visible,
    scale: f32,
    out: &mut [f32],
) {
    let (rows, panels) = (visible.rows, q.len() / visible.rows / LANES);
    let positions = out.len() / rows;
    keys.next.prefetch(simd, keys.next.steps, panels * R::STEPS);
    let q: &[[f32; LANES]] = q.as_chunks().0;
    let chunks: &mut [[f32; LANES]] = out.as_chunks_mut().0;
    let mut out = BlockColumns { chunks, stride: positions / LANES, column: keys.index };
    let mut row = 0;
    while row < rows {
        let n = take::<S>(rows - row);
        if (row..row + n).any(|row| !visible.within(row, keys.index).is_empty()) {
            let q = &q[row * panels..];
            match n {
                4 if const { several::<S>() } => {
                    score_rows::<S, 4>(simd, q, panels, keys, scale, row, &mut out)
                }
                2 if const { several::<S>() } => {
                    score_rows::<S, 2>(simd, q, panels, keys, scale, row, &mut out)
                }
                _ => score_rows::<S, 1>(simd, q, panels, keys, scale, row, &mut out),
            }
        }
        row += n;
    }
}

/// The number of rows to process together, of the `left` rows.
fn take<S: Simd>(left: usize) -> usize {
    match left {
        4.. if several::<S>() => 4,
        2.. if several::<S>() => 2,
        _ => 1,
    }
}

/// Whether the registers hold the sums of several rows.
const fn several<S: Simd>() -> bool {
    S::REGISTERS > 2
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
    let ahead = (row == 0).then_some(keys.next);
    let dots = Dots { simd, q: rows, keys: keys.rows, panels, ahead };
    dots.store::<0>(scale, row, out);
    if S::CHUNKS == 2 {
        Dots { ahead: None, ..dots }.store::<1>(scale, row, out);
    }
}

/// The dot products of `N` query rows with the keys of a block.
#[derive(Clone, Copy)]
struct Dots<'a, S, R, const N: usize> {
    simd: S,
    q: [&'a [[f32; LANES]]; N],
    keys: R,
    panels: usize,
    /// The next block, if keys are to be prefetched.
    ahead: Option<NextBlock>,
}

impl<S: Simd, R: CellRows, const N: usize> Dots<'_, S, R, N> {
    /// Stores the scores at the positions of chunk `C`.
    #[inline(always)]
    fn store<const C: usize>(self, scale: f32, row: usize, out: &mut BlockColumns<'_>) {
        let simd = self.simd;
        // The lanes are added pairwise in the order in which they are stored. Sums of two, four and
        // more lanes wait for the sums of as many.
        const PAIRS: usize = LANES / 2;
        let mut waiting = [[simd.chunk::<0>(simd.splat(0.0)); N]; PAIRS.ilog2() as usize + 1];
        for pair in 0..PAIRS {
            let first = self.lane::<C>(2 * pair);
            let mut sums = self.add(first, self.lane::<C>(2 * pair + 1));
            let level = pair.trailing_ones() as usize;
            for waiting in &waiting[..level] {
                sums = self.add(*waiting, sums);
            }
            waiting[level] = sums;
        }
        let dots = waiting[PAIRS.ilog2() as usize];
        let scale = simd.chunk::<0>(simd.splat(scale));
        // Adding -0.0 changes nothing: the product alone is rounded.
        let zero = simd.chunk::<0>(simd.splat(-0.0));
        for (n, dots) in dots.into_iter().enumerate() {
            simd.store_chunk::<C>(simd.mul_add_chunk(dots, scale, zero), out.row(row + n));
        }
    }

    #[inline(always)]
    fn add(self, mut a: [S::Chunk; N], b: [S::Chunk; N]) -> [S::Chunk; N] {
        for n in 0..N {
            a[n] = self.simd.add_chunk(a[n], b[n]);
        }
        a
    }

    /// The lane of the dot products that is stored at a place; [`rank`](kv::rank) is its own
    /// inverse. Lane `l` is the sum over the elements `l`, `l + 32`, and so on, whose keys are
    /// adjacent.
    #[inline(always)]
    fn lane<const C: usize>(self, place: usize) -> [S::Chunk; N] {
        let Dots { simd, q, keys, panels, ahead } = self;
        let l = kv::rank(place);
        let ahead =
            ahead.map(|next| (next, keys.ahead(place * panels, KEYS_AHEAD / R::BYTES, next.rows)));
        let keys = keys.panels(place * panels..(place + 1) * panels);
        let mut acc = [simd.chunk::<0>(simd.splat(0.0)); N];
        for panel in 0..panels {
            if let Some((next, rows)) = ahead {
                next.prefetch(simd, rows.wrapping_add(panel * R::BYTES), R::BYTES);
            }
            let key = simd.chunk::<C>(keys.key(simd, panel));
            for (acc, q) in acc.iter_mut().zip(q) {
                let q = simd.chunk::<0>(simd.splat(q[panel][l]));
                *acc = simd.mul_add_chunk(q, key, *acc);
            }
        }
        acc
    }
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
    with_tiles!(simd, values, values => values_of(simd, weights, values, panels, visible, out));
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
        let mut next = values.next;
        next.prefetch(simd, next.steps.wrapping_add(panel * R::STEPS), R::STEPS);
        next.rows = next.rows.wrapping_add(panel * LANES * R::BYTES);
        let tile = BlockRows { rows: rows_of_panel, next, ..values };
        let mut out = BlockColumns { chunks: &mut *out, stride: panels.len(), column };
        let mut row = 0;
        while row < rows {
            let weights = &weights[row * blocks + values.index..];
            let n = take::<S>(rows - row);
            match n {
                4 if const { several::<S>() } => {
                    weigh_rows::<S, R, 4>(simd, weights, blocks, tile, visible, row, &mut out)
                }
                2 if const { several::<S>() } => {
                    weigh_rows::<S, R, 2>(simd, weights, blocks, tile, visible, row, &mut out)
                }
                _ => weigh_rows::<S, R, 1>(simd, weights, blocks, tile, visible, row, &mut out),
            }
            row += n;
        }
    }
}

/// Adds a tile of values to `N` rows, weighted by the first 32 `weights` of each row.
#[inline(always)]
fn weigh_rows<S: Simd, R: CellRows, const N: usize>(
    simd: S,
    weights: &[[f32; LANES]],
    stride: usize,
    tile: BlockRows<R>,
    visible: Visible,
    row: usize,
    out: &mut BlockColumns<'_>,
) {
    let mut rows = [&weights[0]; N];
    let mut seen = [const { 0..0 }; N];
    for n in 0..N {
        rows[n] = &weights[n * stride];
        seen[n] = visible.within(row + n, tile.index);
    }
    let ahead = (row == 0).then_some(tile.next);
    weigh_chunk::<S, R, 0, N>(simd, rows, tile.rows, &seen, ahead, row, out);
    if S::CHUNKS == 2 {
        weigh_chunk::<S, R, 1, N>(simd, rows, tile.rows, &seen, None, row, out);
    }
}

/// Adds the elements of chunk `C` of a tile of values at the positions that each row has `seen`.
#[inline(always)]
fn weigh_chunk<S: Simd, R: CellRows, const C: usize, const N: usize>(
    simd: S,
    weights: [&[f32; LANES]; N],
    tile: R,
    seen: &[Range<usize>; N],
    ahead: Option<NextBlock>,
    row: usize,
    out: &mut BlockColumns<'_>,
) {
    // Positions that all rows see are added to all rows at once; the positions before and after
    // them to one row at a time.
    let (mut start, mut end) = (0, LANES);
    let mut acc = [simd.chunk::<0>(simd.splat(0.0)); N];
    for n in 0..N {
        (start, end) = (start.max(seen[n].start), end.min(seen[n].end));
        acc[n] = simd.chunk::<C>(simd.load(out.row(row + n)));
    }
    let end = end.max(start);
    for n in 0..N {
        let before = seen[n].start..seen[n].end.min(start);
        [acc[n]] = weigh::<S, R, C, 1>(simd, [acc[n]], [weights[n]], tile, before, None);
    }
    acc = weigh::<S, R, C, N>(simd, acc, weights, tile, start..end, ahead);
    for n in 0..N {
        let after = seen[n].start.max(end)..seen[n].end;
        [acc[n]] = weigh::<S, R, C, 1>(simd, [acc[n]], [weights[n]], tile, after, None);
        simd.store_chunk::<C>(acc[n], out.row(row + n));
    }
}

/// Adds chunk `C` of a range of positions of a tile, in order.
#[inline(always)]
fn weigh<S: Simd, R: CellRows, const C: usize, const N: usize>(
    simd: S,
    mut acc: [S::Chunk; N],
    weights: [&[f32; LANES]; N],
    tile: R,
    positions: Range<usize>,
    ahead: Option<NextBlock>,
) -> [S::Chunk; N] {
    for position in positions.start..positions.end.min(LANES) {
        if let Some(next) = ahead {
            next.prefetch(simd, next.rows.wrapping_add(position * R::BYTES), R::BYTES);
        }
        let value = simd.chunk::<C>(tile.value(simd, position));
        for (acc, weights) in acc.iter_mut().zip(weights) {
            let weight = simd.chunk::<0>(simd.splat(weights[position]));
            *acc = simd.mul_add_chunk(value, weight, *acc);
        }
    }
    acc
}
