//! The bytes of sixteen rows of a matrix.

use super::codes::{CHUNK, GROUPS};
use super::format::RowBytes;
use super::simd::{Integers, LANES};
use crate::dense::types::DenseMatrix;

/// Number of rows of a panel.
pub(super) const PANEL: usize = LANES;
/// Number of bytes of the longest chunk, of Q8_0.
const MAX_CHUNK_LEN: usize = 8 * 34;

/// Room for a chunk of sixteen rows.
pub(super) type PanelBytes = [u8; PANEL * MAX_CHUNK_LEN];

/// The rows of a matrix, sixteen at a time.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    bytes: &'a [u8],
    rows: usize,
    /// Number of bytes of a row.
    row_len: usize,
    /// Number of bytes of a whole chunk.
    chunk_len: usize,
    /// Number of rows of a tile.
    tile: usize,
    /// Whether to prefetch to the second level.
    second_level: bool,
}

/// A chunk of up to sixteen rows.
#[derive(Clone, Copy)]
pub(super) struct SourceChunk<'a> {
    /// The remaining bytes of the matrix, from the chunk in the first row on.
    bytes: &'a [u8],
    /// Number of bytes from row to row.
    distance: usize,
    /// Number of rows.
    rows: usize,
    /// Number of bytes of the chunk that belong to a row.
    pub(super) len: usize,
    /// As many bytes as the chunk has in sixteen rows, to be prefetched: the rows of the next tile
    /// in order, one part with every chunk.
    next: *const u8,
    second_level: bool,
}

impl<'a> Source<'a> {
    /// `tile` is the number of rows of a tile.
    #[inline(always)]
    pub(super) fn new(simd: impl Integers, w: DenseMatrix<'a>, tile: usize) -> Self {
        let DenseMatrix { ty, bytes, rows, .. } = w;
        let (weights, block) = ty.block();
        Source {
            bytes,
            rows,
            row_len: bytes.len() / rows,
            chunk_len: CHUNK / weights * block,
            tile,
            second_level: simd.prefers_second_level(),
        }
    }

    /// Chunk `i` of the rows from `row` on.
    #[inline(always)]
    pub(super) fn chunk(self, row: usize, i: usize) -> SourceChunk<'a> {
        let (panel, at) = (row * self.row_len, i * self.chunk_len);
        SourceChunk {
            bytes: &self.bytes[panel + at..],
            distance: self.row_len,
            rows: PANEL.min(self.rows - row),
            len: self.chunk_len.min(self.row_len - at),
            next: self.bytes.as_ptr().wrapping_add(panel + self.tile * self.row_len + at * PANEL),
            second_level: self.second_level,
        }
    }
}

impl<'a> SourceChunk<'a> {
    /// The bytes of sixteen rows, copied to `last` and padded with zeros if there are fewer.
    #[inline(always)]
    pub(super) fn panel(self, last: &'a mut PanelBytes) -> RowBytes<'a> {
        if self.rows == PANEL {
            return RowBytes { bytes: self.bytes, distance: self.distance };
        }
        last.fill(0);
        for (row, to) in self.bytes.chunks(self.distance).zip(last.chunks_mut(MAX_CHUNK_LEN)) {
            to[..self.len].copy_from_slice(&row[..self.len]);
        }
        RowBytes { bytes: last, distance: MAX_CHUNK_LEN }
    }

    /// Prefetches the part of group `g`.
    #[inline(always)]
    pub(super) fn prefetch<const N: usize, const B: usize>(self, simd: impl Integers, g: usize) {
        let len = const { PANEL * N * B / GROUPS };
        let address = self.next.wrapping_add(g * len);
        if self.second_level {
            simd.prefetch_second(address, len);
        } else {
            simd.prefetch(address, len);
        }
    }
}
