//! How a ternary matrix is packed and multiplied.

use crate::{i2_s, t5_3};

/// The layout of a packed ternary matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layout {
    /// Two bits a weight: see [`i2_s`].
    I2S(i2_s::Rows),
    /// Two bits a weight, transposed: see [`i2_s::transposed`].
    I2T,
    /// Five bits for three weights: see [`t5_3`].
    T5_3,
}

impl Layout {
    /// Bytes of a `rows` x `cols` matrix; `None` if this layout cannot hold it.
    pub fn packed_len(self, rows: usize, cols: usize) -> Option<usize> {
        match self {
            Layout::I2S(layout) => i2_s::packed_len(rows, cols, layout),
            Layout::I2T => i2_s::packed_len(cols, rows, i2_s::Rows::Padded),
            Layout::T5_3 => t5_3::packed_len(rows, cols),
        }
    }

    /// Packs row-major trits (-1, 0 or 1) of rows of `cols` weights.
    ///
    /// # Panics
    /// If `trits` is not a whole number of rows, holds any other value, or `out` is not
    /// [`packed_len`](Layout::packed_len) bytes.
    pub fn pack(self, trits: &[i8], cols: usize, out: &mut [u8]) {
        match self {
            Layout::I2S(layout) => i2_s::pack(trits, cols, layout, out),
            Layout::I2T => i2_s::transposed::pack(trits, cols, out),
            Layout::T5_3 => t5_3::pack(trits, cols, out),
        }
    }

    /// Unpacks into row-major trits of rows of `cols` weights. Where `packed` holds codes that the
    /// layout does not use, they become 2.
    ///
    /// # Panics
    /// If `trits` is not a whole number of rows or `packed` is not
    /// [`packed_len`](Layout::packed_len) bytes.
    pub fn unpack(self, packed: &[u8], cols: usize, trits: &mut [i8]) {
        match self {
            Layout::I2S(layout) => i2_s::unpack(packed, cols, layout, trits),
            Layout::I2T => i2_s::transposed::unpack(packed, cols, trits),
            Layout::T5_3 => t5_3::unpack(packed, cols, trits),
        }
    }

    /// Row and column of a weight whose code the layout does not use: the first one in the order of
    /// the bytes of a `rows` x `cols` matrix. A row or column beyond the matrix is its padding's.
    ///
    /// It takes as long as reading the codes does.
    pub fn find_unused(self, packed: &[u8], rows: usize, cols: usize) -> Option<(usize, usize)> {
        match self {
            Layout::I2S(layout) => {
                let element = i2_s::check::find_unused(packed)?;
                let stride = match layout {
                    i2_s::Rows::Flat => cols.max(1),
                    i2_s::Rows::Padded => cols.max(1).next_multiple_of(i2_s::BLOCK),
                };
                Some((element / stride, element % stride))
            }
            Layout::I2T => {
                let rows_of = Layout::I2S(i2_s::Rows::Padded);
                rows_of.find_unused(packed, cols, rows).map(|(col, row)| (row, col))
            }
            Layout::T5_3 => t5_3::check::find_unused(packed, cols),
        }
    }

    /// Whether all weights of a packed matrix of rows of `cols` weights are zeros, and its padding.
    pub fn is_zero(self, packed: &[u8], cols: usize) -> bool {
        match self {
            Layout::I2S(_) | Layout::I2T => i2_s::check::is_zero(packed),
            Layout::T5_3 => t5_3::check::is_zero(packed, cols),
        }
    }
}

/// How a ternary matrix is multiplied; the products are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Codes are multiplied with activations.
    MultiplyAdd,
    /// Sums of a few activations are tabulated for many tokens, and codes point into the tables.
    LookUp,
}

impl Method {
    /// Both.
    pub const ALL: [Method; 2] = [Method::MultiplyAdd, Method::LookUp];
    /// The fewest rows and tokens that repay tables. From there on look-up was at least 1.1 times
    /// as fast as multiply-add (AVX2 on Zen 5, one thread), and 1.5 times with 1280 rows and 128
    /// tokens; with half as many rows or tokens it could be slower.
    const LOOK_UP: (usize, usize) = (192, 32);

    /// The faster one for this many rows and tokens at a time.
    pub fn fastest(rows: usize, tokens: usize) -> Method {
        let (least_rows, least_tokens) = Method::LOOK_UP;
        if rows >= least_rows && tokens >= least_tokens {
            Method::LookUp
        } else {
            Method::MultiplyAdd
        }
    }
}
