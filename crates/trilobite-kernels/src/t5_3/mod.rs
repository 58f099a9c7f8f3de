//! T5_3: three weights in five bits, 32 rows side by side.
//!
//! Three adjacent weights of a row form a number `n = w0 + 3 w1 + 9 w2` in -13..=13. It is stored
//! as the index `|n| + 1`, of four bits, and a sign bit. Eight such triples, 24 columns, form a
//! block of five planes. A plane has 32 bytes, one for each row of the tile; see `INDEX` and
//! `SIGN`. A last block of fewer triples omits unused planes.
//!
//! Lanes are rows. A kernel looks up the index in a table of the 14 sums of three activations, and
//! never computes the weights.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod check;
pub(crate) mod scalar;

use crate::packing::{Packing, row_count};

/// Number of rows in a tile: the lanes of a plane.
pub const TILE: usize = 32;

/// Number of weights in a triple.
const TRIPLE: usize = 3;
/// Number of triples in a block.
const TRIPLES: usize = 8;
/// Number of columns of a block.
pub(crate) const BLOCK_COLS: usize = TRIPLES * TRIPLE;
/// Number of planes of a whole block.
const PLANES: usize = 5;

/// Plane and shift of the index of each triple of a block.
const INDEX: [(usize, u32); TRIPLES] =
    [(0, 0), (1, 0), (1, 4), (2, 0), (2, 4), (3, 0), (4, 0), (4, 4)];
/// Plane and bit of the sign of each triple of a block.
const SIGN: [(usize, u32); TRIPLES] =
    [(0, 7), (0, 6), (0, 5), (0, 4), (3, 7), (3, 6), (3, 5), (3, 4)];

/// A plane of a tile: a byte for each row.
pub(crate) type Plane = [u8; TILE];

/// The packing of this layout.
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

    fn find_invalid(&self, packed: &[u8], _: usize, cols: usize) -> Option<(usize, usize)> {
        check::find_invalid(packed, cols)
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

/// The product of rows of a matrix with the codes of some tokens.
pub(crate) type Product<'a> = crate::product::Product<'a, Matrix<'a>>;

impl<'a> Matrix<'a> {
    /// The planes of a tile.
    fn tile(&self, index: usize) -> &'a [Plane] {
        let planes = planes(self.cols);
        &self.planes[index * planes..(index + 1) * planes]
    }
}

/// The number of planes of a row of `cols` weights: five bits a triple, rounded up to whole bytes.
fn planes(cols: usize) -> usize {
    let triples = cols.div_ceil(TRIPLE);
    triples / TRIPLES * PLANES + (triples % TRIPLES * PLANES).div_ceil(TRIPLES)
}

/// Size in bytes of a `rows` x `cols` matrix, without the scale that follows it in a file. `None`
/// if the size does not fit in `usize`.
pub fn packed_len(rows: usize, cols: usize) -> Option<usize> {
    rows.checked_next_multiple_of(TILE)?.checked_mul(planes(cols))
}

/// Packs row-major trits (-1, 0 or 1), in rows of `cols` weights.
///
/// # Panics
/// If `trits` is not a whole number of rows or holds another value, or if `out` does not have
/// [`packed_len`] bytes.
pub fn pack(trits: &[i8], cols: usize, out: &mut [u8]) {
    let rows = row_count(trits.len(), cols);
    assert_eq!(Some(out.len()), packed_len(rows, cols), "packed length of {rows}x{cols}");
    assert!(trits.iter().all(|trit| (-1..=1).contains(trit)), "a weight is not -1, 0 or 1");
    let tiles = out.as_chunks_mut::<TILE>().0.chunks_exact_mut(planes(cols).max(1));
    for (trits, tile) in trits.chunks(TILE * cols.max(1)).zip(tiles) {
        for (lane, row) in (0..TILE).map(|r| (r, trits.get(r * cols..(r + 1) * cols))) {
            // Padding rows and columns are zeros.
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

/// The bytes of one row in a block of up to 24 weights.
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

/// Unpacks into row-major trits, in rows of `cols` weights: the inverse of [`pack`].
///
/// Invalid indices unpack to 2.
///
/// # Panics
/// If `trits` is not a whole number of rows, or if `packed` does not have [`packed_len`] bytes.
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
        WEIGHTS[usize::from(index)].map(|w| if negative && w != INVALID { -w } else { w })
    })
}

/// The value of each weight of an invalid index.
const INVALID: i8 = 2;
/// The weights of every index, for a positive sign.
const WEIGHTS: [[i8; TRIPLE]; 16] = weights();

const fn weights() -> [[i8; TRIPLE]; 16] {
    let mut weights = [[INVALID; TRIPLE]; 16];
    let mut n = 0;
    while n <= 13 {
        // The digits of n in base 3, each from -1 to 1: those of n + 13, which are 0 to 2, less 1.
        let m = n + 13;
        weights[n as usize + 1] = [m % 3 - 1, m / 3 % 3 - 1, m / 9 - 1];
        n += 1;
    }
    weights
}
