//! I2_S: two bits a weight in blocks of 128, the layout of bitnet.cpp's x86 builds.
//!
//! Element `e` of a block is stored in byte `e % 32` at shift `6 - 2 * (e / 32)`, as the code
//! `trit + 1`. A block is thus one 32-byte vector, and each of its four bit planes holds 32
//! consecutive weights.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512_vnni;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx_vnni;
#[cfg(feature = "c-kernels")]
pub(crate) mod c;
pub(crate) mod check;
#[cfg(target_arch = "aarch64")]
pub(crate) mod dotprod;
#[cfg(all(target_arch = "aarch64", feature = "c-kernels"))]
pub(crate) mod i8mm;
#[cfg(target_arch = "x86_64")]
mod indices;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
#[cfg(target_arch = "x86_64")]
pub(crate) mod panels;
pub(crate) mod scalar;
#[cfg(target_arch = "x86_64")]
pub(crate) mod square;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) mod tiles;
pub mod transposed;

use crate::codes::MARGIN;
use crate::packing::{Packing, row_count};
use std::ops::Range;

/// Number of weights in a block.
pub const BLOCK: usize = 128;
const _: () = assert!(BLOCK <= MARGIN, "a block may begin before a row and end after it");
/// Number of bytes in a block.
pub(crate) const BLOCK_BYTES: usize = BLOCK / 4;
/// A block of zero trits.
const ZERO_BLOCK: [u8; BLOCK_BYTES] = [0b01_01_01_01; BLOCK_BYTES];

/// How the rows of a matrix are divided into blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rows {
    /// Blocks divide the flattened matrix, so a row may start inside a block (GGUF type I2_S).
    Flat,
    /// Every row is padded with zero trits to whole blocks (GGUF type I2_R).
    Padded,
}

impl Packing for Rows {
    fn packed_len(&self, rows: usize, cols: usize) -> Option<usize> {
        packed_len(rows, cols, *self)
    }

    fn pack(&self, trits: &[i8], cols: usize, out: &mut [u8]) {
        pack(trits, cols, *self, out);
    }

    fn unpack(&self, packed: &[u8], cols: usize, trits: &mut [i8]) {
        unpack(packed, cols, *self, trits);
    }

    fn find_invalid(&self, packed: &[u8], _: usize, cols: usize) -> Option<(usize, usize)> {
        let element = check::find_invalid(packed)?;
        let stride = match self {
            Rows::Flat => cols.max(1),
            Rows::Padded => cols.max(1).next_multiple_of(BLOCK),
        };
        Some((element / stride, element % stride))
    }

    fn is_zero(&self, packed: &[u8], _: usize) -> bool {
        check::is_zero(packed)
    }
}

/// A packed matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    /// How its rows are divided into blocks.
    pub(crate) layout: Rows,
    pub(crate) blocks: &'a [[u8; BLOCK_BYTES]],
    pub(crate) cols: usize,
}

/// The product of rows of a matrix (a range, or another selection `R`) with the codes of some
/// tokens.
pub(crate) type Product<'a, R = Range<usize>> = crate::product::Product<'a, Matrix<'a>, R>;

impl Matrix<'_> {
    /// The blocks that contain a row, and the index of the row's first element in the first of
    /// them.
    pub(crate) fn row(&self, row: usize) -> (Range<usize>, usize) {
        let cols = self.cols;
        let (first, offset) = match self.layout {
            Rows::Flat => (row * cols / BLOCK, row * cols % BLOCK),
            Rows::Padded => (row * cols.div_ceil(BLOCK), 0),
        };
        (first..first + (offset + cols).div_ceil(BLOCK), offset)
    }

    /// Whether every row starts at the start of a block, which the kernels for many tokens need.
    pub(crate) fn is_aligned(&self) -> bool {
        self.layout == Rows::Padded || self.cols.is_multiple_of(BLOCK)
    }
}

/// Size in bytes of the codes of a `rows` x `cols` matrix, without the scale that follows them in a
/// file.
///
/// `None` if the matrix cannot be stored this way: [`Rows::Flat`] needs a multiple of [`BLOCK`]
/// weights, and the size must fit in `usize`.
pub fn packed_len(rows: usize, cols: usize, layout: Rows) -> Option<usize> {
    let weights = match layout {
        Rows::Flat => rows.checked_mul(cols).filter(|n| n.is_multiple_of(BLOCK))?,
        Rows::Padded => rows.checked_mul(cols.checked_next_multiple_of(BLOCK)?)?,
    };
    Some(weights / 4)
}

/// Packs row-major trits (-1, 0 or 1), in rows of `cols` weights.
///
/// # Panics
/// If `trits` is not a whole number of rows or holds another value, or if `out` does not have
/// [`packed_len`] bytes.
pub fn pack(trits: &[i8], cols: usize, layout: Rows, out: &mut [u8]) {
    let rows = row_count(trits.len(), cols);
    assert_eq!(Some(out.len()), packed_len(rows, cols, layout), "packed length of {rows}x{cols}");
    out.as_chunks_mut().0.fill(ZERO_BLOCK);
    // A flat matrix is packed as one long row.
    let run = if layout == Rows::Flat { trits.len() } else { cols };
    let run_bytes = run.div_ceil(BLOCK) * BLOCK_BYTES;
    let mut invalid = false;
    for (trits, out) in trits.chunks(run.max(1)).zip(out.chunks_mut(run_bytes.max(1))) {
        for (trits, block) in trits.chunks(BLOCK).zip(out.as_chunks_mut::<BLOCK_BYTES>().0) {
            let mut codes = [1; BLOCK];
            for (code, trit) in codes.iter_mut().zip(trits) {
                *code = trit.wrapping_add(1) as u8;
                invalid |= *code > 2;
            }
            for (m, byte) in block.iter_mut().enumerate() {
                *byte = codes[m] << 6 | codes[m + 32] << 4 | codes[m + 64] << 2 | codes[m + 96];
            }
        }
    }
    assert!(!invalid, "a weight is not -1, 0 or 1");
}

/// Unpacks into row-major trits, in rows of `cols` weights: the inverse of [`pack`].
///
/// The invalid code 3 unpacks to 2.
///
/// # Panics
/// If `trits` is not a whole number of rows, or if `packed` does not have [`packed_len`] bytes.
pub fn unpack(packed: &[u8], cols: usize, layout: Rows, trits: &mut [i8]) {
    let rows = row_count(trits.len(), cols);
    assert_eq!(
        Some(packed.len()),
        packed_len(rows, cols, layout),
        "packed length of {rows}x{cols}"
    );
    let run = if layout == Rows::Flat { trits.len() } else { cols };
    let run_bytes = run.div_ceil(BLOCK) * BLOCK_BYTES;
    for (trits, packed) in trits.chunks_mut(run.max(1)).zip(packed.chunks(run_bytes.max(1))) {
        for (trits, block) in trits.chunks_mut(BLOCK).zip(packed.as_chunks::<BLOCK_BYTES>().0) {
            for (plane, trits) in trits.chunks_mut(BLOCK_BYTES).enumerate() {
                let shift = (6 - 2 * plane) % 8;
                for (trit, byte) in trits.iter_mut().zip(block) {
                    *trit = (byte >> shift & 3) as i8 - 1;
                }
            }
        }
    }
}
