//! The layout of the cached keys and values of one head.
//!
//! Positions are grouped in blocks of 32, and the elements of a head in panels of 32; the last
//! panel is padded with zeros. The intersection of a block and a panel is a tile of 32 x 32 cells.
//! A block of values is `[panel][position][element]`. A block of keys is
//! `[element][panel][position]`: the 32 lanes of a vector are positions, so a score needs no sum
//! across lanes. The elements of keys are stored in the order in which their products are added,
//! `rank`, so a block is read from start to end.

use std::ops::Range;

/// Number of positions in a block, and of elements in a panel.
pub const BLOCK: usize = 32;

/// The width of a head of `head_dim` elements, rounded up to whole panels.
pub fn padded(head_dim: usize) -> usize {
    head_dim.next_multiple_of(BLOCK)
}

/// The place of element `l` of every panel in a block of keys. Pairs that are added together are
/// adjacent, and so are pairs of pairs, and so on.
#[inline(always)]
pub(crate) const fn rank(l: usize) -> usize {
    (l as u8).reverse_bits() as usize >> 3
}

/// Keys or values of one head, in whole blocks.
#[derive(Clone, Copy, Debug)]
pub enum Cells<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Half precision, as bits.
    F16(&'a [u16]),
    /// int8 with steps: a cell is `code * step`, rounded to f32. Each position and panel has a
    /// step, so a tile has 32, one for each position.
    Q8 {
        /// int8 codes.
        codes: &'a [i8],
        /// The steps, one for every 32 codes.
        steps: &'a [f32],
    },
}

impl Cells<'_> {
    /// The number of cells.
    pub fn count(&self) -> usize {
        match self {
            Cells::F32(cells) => cells.len(),
            Cells::F16(cells) => cells.len(),
            Cells::Q8 { codes, steps } => codes.len().min(steps.len() * BLOCK),
        }
    }

    /// A range of the cells, in whole tiles.
    pub fn range(self, cells: Range<usize>) -> Self {
        match self {
            Cells::F32(all) => Cells::F32(&all[cells]),
            Cells::F16(all) => Cells::F16(&all[cells]),
            Cells::Q8 { codes, steps } => {
                let steps = &steps[cells.start / BLOCK..cells.end / BLOCK];
                Cells::Q8 { codes: &codes[cells], steps }
            }
        }
    }

    /// The addresses of the first cell and of the first step. Only codes have steps.
    pub(crate) fn addresses(&self) -> (*const u8, *const u8) {
        match self {
            Cells::F32(cells) => (cells.as_ptr().cast(), std::ptr::null()),
            Cells::F16(cells) => (cells.as_ptr().cast(), std::ptr::null()),
            Cells::Q8 { codes, steps } => (codes.as_ptr().cast(), steps.as_ptr().cast()),
        }
    }
}

/// Keys or values of one head at the 32 positions of one block.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// Index of the block among those passed to the attention: its first position is `32 * index`.
    pub index: usize,
    /// The cells.
    pub cells: Cells<'a>,
    /// The cells of a block that is read soon after this one, for prefetching only.
    pub next: Cells<'a>,
}

/// Mutable [`Cells`].
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
        /// The steps, one for every 32 codes.
        steps: &'a mut [f32],
    },
}

impl<'a> CellsMut<'a> {
    /// Splits off the first `count` cells, in whole tiles.
    pub fn take(&mut self, count: usize) -> CellsMut<'a> {
        fn first<'a, T>(rest: &mut &'a mut [T], count: usize) -> &'a mut [T] {
            let (first, others) = std::mem::take(rest).split_at_mut(count);
            *rest = others;
            first
        }
        match self {
            CellsMut::F32(cells) => CellsMut::F32(first(cells, count)),
            CellsMut::F16(cells) => CellsMut::F16(first(cells, count)),
            CellsMut::Q8 { codes, steps } => {
                CellsMut::Q8 { codes: first(codes, count), steps: first(steps, count / BLOCK) }
            }
        }
    }
}

/// The positions that the query rows of an attention see. The rows belong to `rows / group`
/// consecutive tokens, each with `group` query heads.
#[derive(Clone, Copy, Debug)]
pub struct Visible {
    /// Number of query rows. Those of a token are adjacent.
    pub rows: usize,
    /// Number of rows of one token.
    pub group: usize,
    /// Number of positions before the first cell passed to the attention.
    pub first: usize,
    /// Number of positions up to and including that of the first token.
    pub end: usize,
    /// Number of positions that a token sees, including its own; `usize::MAX` for all.
    pub window: usize,
}

impl Visible {
    /// The range of positions that a row sees, relative to the first cell passed to the attention.
    pub fn of(&self, row: usize) -> Range<usize> {
        let end = self.end + row / self.group;
        let start = end.saturating_sub(self.window);
        start.saturating_sub(self.first)..end.saturating_sub(self.first)
    }

    /// The range of positions of a block that a row sees, relative to the start of the block.
    #[inline(always)]
    pub(crate) fn within(&self, row: usize, block: usize) -> Range<usize> {
        let (seen, start) = (self.of(row), block * BLOCK);
        seen.start.saturating_sub(start).min(BLOCK)..seen.end.saturating_sub(start).min(BLOCK)
    }
}
