//! Layouts of packed ternary matrices.

use crate::packing::Packing;
use crate::{Error, i2_s, t5_3};
use std::str::FromStr;

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
    /// Every layout.
    pub const ALL: [Layout; 4] =
        [Layout::I2S(i2_s::Rows::Flat), Layout::I2S(i2_s::Rows::Padded), Layout::I2T, Layout::T5_3];

    /// The name that [`FromStr`] accepts.
    pub fn name(self) -> &'static str {
        match self {
            Layout::I2S(i2_s::Rows::Flat) => "i2_s",
            Layout::I2S(i2_s::Rows::Padded) => "i2_r",
            Layout::I2T => "i2_t",
            Layout::T5_3 => "t5_3",
        }
    }

    fn packing(self) -> &'static dyn Packing {
        match self {
            Layout::I2S(i2_s::Rows::Flat) => &i2_s::Rows::Flat,
            Layout::I2S(i2_s::Rows::Padded) => &i2_s::Rows::Padded,
            Layout::I2T => &i2_s::transposed::Columns,
            Layout::T5_3 => &t5_3::Tiles,
        }
    }

    /// Size in bytes of a `rows` x `cols` matrix. `None` if this layout cannot hold it.
    pub fn packed_len(self, rows: usize, cols: usize) -> Option<usize> {
        self.packing().packed_len(rows, cols)
    }

    /// Packs row-major trits (-1, 0 or 1), in rows of `cols` weights.
    ///
    /// # Panics
    /// If `trits` is not a whole number of rows or holds another value, or if `out` does not have
    /// [`packed_len`](Layout::packed_len) bytes.
    pub fn pack(self, trits: &[i8], cols: usize, out: &mut [u8]) {
        self.packing().pack(trits, cols, out);
    }

    /// Unpacks into row-major trits, in rows of `cols` weights. Invalid codes unpack to 2.
    ///
    /// # Panics
    /// If `trits` is not a whole number of rows, or if `packed` does not have
    /// [`packed_len`](Layout::packed_len) bytes.
    pub fn unpack(self, packed: &[u8], cols: usize, trits: &mut [i8]) {
        self.packing().unpack(packed, cols, trits);
    }

    /// Row and column of the first weight with an invalid code, in the order of the bytes of a
    /// `rows` x `cols` matrix. A row or column outside the matrix lies in its padding.
    ///
    /// Takes as long as reading the codes.
    pub fn find_invalid(self, packed: &[u8], rows: usize, cols: usize) -> Option<(usize, usize)> {
        self.packing().find_invalid(packed, rows, cols)
    }

    /// Whether all weights of a packed matrix, and its padding, are zero. Rows have `cols` weights.
    pub fn is_zero(self, packed: &[u8], cols: usize) -> bool {
        self.packing().is_zero(packed, cols)
    }
}

impl FromStr for Layout {
    type Err = Error;

    fn from_str(name: &str) -> Result<Layout, Error> {
        Layout::ALL.into_iter().find(|layout| layout.name() == name).ok_or_else(|| {
            let known = Layout::ALL.map(Layout::name).join(", ");
            Error::UnknownLayout { value: name.to_owned(), known }
        })
    }
}

/// A packed ternary matrix. Its size in bytes matches its layout and shape.
#[derive(Clone, Copy, Debug)]
pub struct TernaryMatrix<'a> {
    layout: Layout,
    packed: &'a [u8],
    rows: usize,
    cols: usize,
}

impl<'a> TernaryMatrix<'a> {
    /// Creates a matrix of `rows` rows of `cols` weights. `None` if the size of `packed` does not
    /// match, or if the layout cannot hold the shape.
    pub fn new(layout: Layout, packed: &'a [u8], rows: usize, cols: usize) -> Option<Self> {
        let fits = layout.packed_len(rows, cols) == Some(packed.len());
        fits.then_some(Self { layout, packed, rows, cols })
    }

    /// The layout.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The packed weights.
    pub fn packed(&self) -> &'a [u8] {
        self.packed
    }

    /// The number of rows, and of sums for a token.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of columns, and of codes of a token.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Row and column of the first weight with an invalid code: see [`Layout::find_invalid`].
    pub fn find_invalid(&self) -> Option<(usize, usize)> {
        self.layout.find_invalid(self.packed, self.rows, self.cols)
    }

    /// Whether all weights, and the padding, are zero.
    pub fn is_zero(&self) -> bool {
        self.layout.is_zero(self.packed, self.cols)
    }
}
