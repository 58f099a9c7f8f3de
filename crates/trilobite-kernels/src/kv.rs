//! How the keys and values of one head are cached.
//!
//! Positions come in blocks of 32 and the elements of a head in panels of 32, the last filled up with
//! zeros. Where a block and a panel meet is a tile of 32 x 32 cells. A block of values is
//! `[panel][position][element]`. A block of keys is `[element][panel][position]`, so that the 32 lanes
//! of a vector are positions and a score needs no sum across lanes; the elements lie in the order in
//! which their products are added up, [`rank`], so that a block is read from end to end.

use std::ops::Range;

/// Positions of a block, and elements of a panel.
pub const BLOCK: usize = 32;

/// The width of a head of `head_dim` elements in whole panels.
pub fn padded(head_dim: usize) -> usize {
    head_dim.next_multiple_of(BLOCK)
}

/// The place of element `l` of every panel in a block of keys: pairs, pairs of pairs and so on follow
/// each other as they are added.
#[inline(always)]
pub(crate) const fn rank(l: usize) -> usize {
    (l as u8).reverse_bits() as usize >> 3
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

    /// Some of the cells, whole tiles.
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

    /// Where the cells begin.
    pub(crate) fn address(&self) -> *const u8 {
        match self {
            Cells::F32(cells) => cells.as_ptr().cast(),
            Cells::F16(cells) => cells.as_ptr().cast(),
            Cells::Q8 { codes, .. } => codes.as_ptr().cast(),
        }
    }
}

/// Keys or values of one head at the 32 positions of one block.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// Which block of the attention this is: its first position is the `32 * index`th that the
    /// attention is given.
    pub index: usize,
    /// The cells.
    pub cells: Cells<'a>,
    /// The cells of the block that is read after this one. They are prefetched and do not count.
    pub next: Cells<'a>,
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

impl<'a> CellsMut<'a> {
    /// Splits off the first `count` cells, whole tiles.
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
