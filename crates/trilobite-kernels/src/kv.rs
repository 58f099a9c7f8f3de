//! How the keys and values of one head are cached.
//!
//! Positions come in blocks of 32 and the elements of a head in panels of 32, the last filled up with
//! zeros. Where a block and a panel meet is a tile of 32 x 32 cells; a block is its panels, one after
//! the other. A tile of keys is `[element][position]`, so that the 32 lanes of a vector are positions
//! and a score needs no sum across lanes; a tile of values is `[position][element]`.

use crate::Kernels;
use std::ops::Range;

/// Positions of a block, and elements of a panel.
pub const BLOCK: usize = 32;
/// Cells of a tile.
const TILE: usize = BLOCK * BLOCK;

/// The width of a head of `head_dim` elements in whole panels.
pub fn padded(head_dim: usize) -> usize {
    head_dim.next_multiple_of(BLOCK)
}

/// Keys or values of one head in whole blocks.
#[derive(Clone, Copy, Debug)]
pub enum Cells<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Half precision, as bits.
    F16(&'a [u16]),
    /// A cell is `code * step`, rounded to f32. A step belongs to one position and panel: for each
    /// tile there are 32, one for each position.
    Q8 {
        /// int8 codes.
        codes: &'a [i8],
        /// A 32nd as many.
        steps: &'a [f32],
    },
}

impl Cells<'_> {
    /// Number of cells.
    pub fn count(&self) -> usize {
        match self {
            Cells::F32(cells) => cells.len(),
            Cells::F16(cells) => cells.len(),
            Cells::Q8 { codes, steps } => codes.len().min(steps.len() * BLOCK),
        }
    }
}

/// [`Cells`] that can be written.
#[derive(Debug)]
pub enum CellsMut<'a> {
    /// Single precision.
    F32(&'a mut [f32]),
    /// Half precision, as bits.
    F16(&'a mut [u16]),
    /// int8.
    Q8 {
        /// int8 codes.
        codes: &'a mut [i8],
        /// A 32nd as many.
        steps: &'a mut [f32],
    },
}

/// Which positions the query rows of an attention see: `rows / group` tokens after each other, with
/// `group` query heads each.
#[derive(Clone, Copy, Debug)]
pub struct Visible {
    /// Query rows, token after token.
    pub rows: usize,
    /// Rows of one token.
    pub group: usize,
    /// Positions before the first cell given.
    pub first: usize,
    /// Positions up to the first token's own, that included.
    pub end: usize,
    /// Positions that a token sees, its own the last of them; `usize::MAX` is all.
    pub window: usize,
}

impl Visible {
    /// The positions that a row sees, counted from the first cell given.
    pub fn of(&self, row: usize) -> Range<usize> {
        let end = self.end + row / self.group;
        let start = end.saturating_sub(self.window);
        start.saturating_sub(self.first)..end.saturating_sub(self.first)
    }

    /// The positions of a block that a row sees, counted from the block's first.
    #[inline(always)]
    pub(crate) fn within(&self, row: usize, block: usize) -> Range<usize> {
        let (seen, start) = (self.of(row), block * BLOCK);
        seen.start.saturating_sub(start).min(BLOCK)..seen.end.saturating_sub(start).min(BLOCK)
    }
}

impl Kernels {
    /// Stores the key of a position of one head.
    ///
    /// Q8 takes 32 elements at a time as [`quantize_row`](Kernels::quantize_row) does.
    pub fn store_key(&self, key: &[f32], cells: &mut CellsMut<'_>, position: usize) {
        let tile = position / BLOCK * key.len().div_ceil(BLOCK);
        for (tile, key) in (tile..).zip(key.chunks(BLOCK)) {
            self.store(key, cells, tile, position % BLOCK, (position % BLOCK, BLOCK));
        }
    }

    /// Stores the value of a position of one head: see [`store_key`](Kernels::store_key).
    pub fn store_value(&self, value: &[f32], cells: &mut CellsMut<'_>, position: usize) {
        let tile = position / BLOCK * value.len().div_ceil(BLOCK);
        for (tile, value) in (tile..).zip(value.chunks(BLOCK)) {
            self.store(value, cells, tile, position % BLOCK, (position % BLOCK * BLOCK, 1));
        }
    }

    /// Stores at most 32 elements in the cells of a tile that begin at `from`, `stride` apart.
    fn store(
        &self,
        x: &[f32],
        cells: &mut CellsMut<'_>,
        tile: usize,
        position: usize,
        (from, stride): (usize, usize),
    ) {
        let tile_cells = tile * TILE..(tile + 1) * TILE;
        match cells {
            CellsMut::F32(cells) => spread(x, &mut cells[tile_cells][from..], stride),
            CellsMut::F16(cells) => {
                let mut bits = [0; BLOCK];
                self.to_f16(x, &mut bits[..x.len()]);
                spread(&bits[..x.len()], &mut cells[tile_cells][from..], stride);
            }
            CellsMut::Q8 { codes, steps } => {
                let mut row = [0; BLOCK];
                let (scale, _) = self.quantize_row(x, &mut row[..x.len()]);
                steps[tile * BLOCK + position] = 1.0 / scale;
                spread(&row[..x.len()], &mut codes[tile_cells][from..], stride);
            }
        }
    }
}

fn spread<T: Copy>(x: &[T], cells: &mut [T], stride: usize) {
    for (cell, x) in cells.iter_mut().step_by(stride).zip(x) {
        *cell = *x;
    }
}
