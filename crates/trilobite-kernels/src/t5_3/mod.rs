//! T5_3: three weights in five bits, 32 rows side by side.
//!
//! Three neighbouring weights of a row are a number `n = w0 + 3 w1 + 9 w2` in -13..=13, kept as the
//! index `|n| + 1` of four bits and a sign bit. Eight such triples, 24 columns, make a block: five
//! planes of 32 bytes with a byte for each row of the tile, see [`INDEX`] and [`SIGN`]. A last block
//! of fewer triples leaves out the planes that it does not use.
//!
//! As the rows lie in the lanes, a kernel looks the index up in a table of the 14 sums that three
//! activations can have, and never forms the weights.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod check;
pub(crate) mod scalar;
#[cfg(test)]
mod tests;

use crate::packing::{Packing, row_count};

/// Rows in a tile: the lanes of a plane.
pub const TILE: usize = 32;

/// Weights in a triple.
const TRIPLE: usize = 3;
/// Triples in a block.
const TRIPLES: usize = 8;
/// Columns of a block.
pub(crate) const BLOCK_COLS: usize = TRIPLES * TRIPLE;
/// Planes of a whole block.
const PLANES: usize = 5;

/// Plane and shift of the index of each triple of a block.
const INDEX: [(usize, u32); TRIPLES] =
    [(0, 0), (1, 0), (1, 4), (2, 0), (2, 4), (3, 0), (4, 0), (4, 4)];
/// Plane and bit of the sign of each triple of a block.
const SIGN: [(usize, u32); TRIPLES] =
    [(0, 7), (0, 6), (0, 5), (0, 4), (3, 7), (3, 6), (3, 5), (3, 4)];

/// A plane of a tile: a byte for each row.
pub(crate) type Plane = [u8; TILE];

/// The layout.
pub(crate) struct Tiles;

impl Packing for Tiles {
    fn packed_len(&self, rows: usize, cols: usize) -> Option<usize> {
        packed_len(rows, cols)
    }

    fn pack(&self, trits: &[i8], cols: usize, out: &mut [u8]) {
        pack(trits, cols, out);
    }

    fn unpack(&self, packed: &[u8], cols: usize, trits: &mut [i8]) {
        unpack(packed, cols, trits);
    }

    fn find_unused(&self, packed: &[u8], _: usize, cols: usize) -> Option<(usize, usize)> {
        check::find_unused(packed, cols)
    }

    fn is_zero(&self, packed: &[u8], cols: usize) -> bool {
        check::is_zero(packed, cols)
    }
}

/// A packed matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    pub(crate) planes: &'a [Plane],
    pub(crate) cols: usize,
}

/// Rows of a matrix times the codes of some tokens.
pub(crate) type Product<'a> = crate::product::Product<'a, Matrix<'a>>;

impl<'a> Matrix<'a> {
    /// The planes of a tile.
    fn tile(&self, index: usize) -> &'a [Plane] {
        let planes = planes(self.cols);
        &self.planes[index * planes..(index + 1) * planes]
    }
}

/// Planes of a row of `cols` weights: five bits a triple, in whole bytes.
fn planes(cols: usize) -> usize {
    let triples = cols.div_ceil(TRIPLE);
    triples / TRIPLES * PLANES + (triples % TRIPLES * PLANES).div_ceil(TRIPLES)
}

/// Bytes of a `rows` x `cols` matrix, without the scale that follows them in a file; `None` if the
/// size does not fit in `usize`.
pub fn packed_len(rows: usize, cols: usize) -> Option<usize> {
    rows.checked_next_multiple_of(TILE)?.checked_mul(planes(cols))
}

/// Packs row-major trits (-1, 0 or 1) of rows of `cols` weights.
///
/// # Panics
/// If `trits` is not a whole number of rows, holds any other value, or `out` is not
/// [`packed_len`] bytes.
pub fn pack(trits: &[i8], cols: usize, out: &mut [u8]) {
    let rows = row_count(trits.len(), cols);
    assert_eq!(Some(out.len()), packed_len(rows, cols), "packed length of {rows}x{cols}");
    assert!(trits.iter().all(|trit| (-1..=1).contains(trit)), "a weight is not -1, 0 or 1");
    let tiles = out.as_chunks_mut::<TILE>().0.chunks_exact_mut(planes(cols).max(1));
    for (trits, tile) in trits.chunks(TILE * cols.max(1)).zip(tiles) {
        for (lane, row) in (0..TILE).map(|r| (r, trits.get(r * cols..(r + 1) * cols))) {
            // Rows and columns beyond the end are zeros.
            let row = row.unwrap_or_default();
            for (b, block) in tile.chunks_mut(PLANES).enumerate() {
                let start = row.len().min(b * BLOCK_COLS);
                let bytes = pack_block(&row[start..row.len().min(start + BLOCK_COLS)]);
                for (plane, byte) in block.iter_mut().zip(bytes) {
                    plane[lane] = byte;
                }
            }
        }
    }
}

/// One row's bytes of a block of up to 24 weights.
fn pack_block(trits: &[i8]) -> [u8; PLANES] {
    let mut columns = [0; BLOCK_COLS];
    columns[..trits.len()].copy_from_slice(trits);
    let mut bytes = [0; PLANES];
    for (i, [w0, w1, w2]) in columns.as_chunks().0.iter().enumerate() {
        let n = w0 + 3 * w1 + 9 * w2;
        bytes[INDEX[i].0] |= (n.unsigned_abs() + 1) << INDEX[i].1;
        bytes[SIGN[i].0] |= u8::from(n < 0) << SIGN[i].1;
    }
    bytes
}

/// Unpacks into row-major trits of rows of `cols` weights: the inverse of [`pack`].
///
/// Indices that [`pack`] never writes become 2.
///
/// # Panics
/// If `trits` is not a whole number of rows or `packed` is not [`packed_len`] bytes.
pub fn unpack(packed: &[u8], cols: usize, trits: &mut [i8]) {
    let rows = row_count(trits.len(), cols);
    assert_eq!(Some(packed.len()), packed_len(rows, cols), "packed length of {rows}x{cols}");
    let matrix = Matrix { planes: packed.as_chunks().0, cols };
    for (r, row) in trits.chunks_mut(cols.max(1)).enumerate() {
        let blocks = matrix.tile(r / TILE).chunks(PLANES);
        for (trits, block) in row.chunks_mut(BLOCK_COLS).zip(blocks) {
            let triples = unpack_block(block, r % TILE);
            trits.copy_from_slice(&triples.as_flattened()[..trits.len()]);
        }
    }
}

/// The weights of one lane of a block.
fn unpack_block(block: &[Plane], lane: usize) -> [[i8; TRIPLE]; TRIPLES] {
    let mut bytes = [0; PLANES];
    for (byte, plane) in bytes.iter_mut().zip(block) {
        *byte = plane[lane];
    }
    std::array::from_fn(|i| {
        let index = bytes[INDEX[i].0] >> INDEX[i].1 & 15;
        let negative = bytes[SIGN[i].0] >> SIGN[i].1 & 1 == 1;
        WEIGHTS[usize::from(index)].map(|w| if negative && w != UNUSED { -w } else { w })
    })
}

/// What stands for each weight of an index that is not used.
const UNUSED: i8 = 2;
/// The weights of every index, with a positive sign.
const WEIGHTS: [[i8; TRIPLE]; 16] = weights();

const fn weights() -> [[i8; TRIPLE]; 16] {
    let mut weights = [[UNUSED; TRIPLE]; 16];
    let mut n = 0;
    while n <= 13 {
        // The digits of n in base 3, each from -1 to 1: those of n + 13 from 0 to 2, less 1.
        let m = n + 13;
        weights[n as usize + 1] = [m % 3 - 1, m / 3 % 3 - 1, m / 9 - 1];
        n += 1;
    }
    weights
}
