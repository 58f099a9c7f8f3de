//! Types and views of dense matrices.

use super::low_bit::codes::ColumnOrder;
use super::trits;
use std::ops::Range;

/// The type of the weights of a dense matrix. They are little-endian, and rows are adjacent.
///
/// The block types are ggml's. `d` and `m` are a scale and a minimum in f16, `q` is a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DenseType {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an f32.
    BF16,
    /// 32 codes of 4 bits: `d (q - 8)`.
    Q4_0,
    /// 32 codes of 4 bits: `d q + m`.
    Q4_1,
    /// 32 codes of 5 bits: `d (q - 16)`.
    Q5_0,
    /// 32 codes of 5 bits: `d q + m`.
    Q5_1,
    /// 32 codes of 8 bits, signed: `d q`.
    Q8_0,
    /// 256 codes of 4 bits and, for every 32, factors `s` and `t` of 6 bits: `d s q - m t`.
    Q4K,
    /// 256 codes of 5 bits and, for every 32, factors `s` and `t` of 6 bits: `d s q - m t`.
    Q5K,
    /// 256 codes of 6 bits and, for every 16, a factor `s` of 8 bits, signed: `d s (q - 32)`.
    Q6K,
    /// 256 trits, five a byte: `d q`.
    TQ1_0,
    /// 256 trits, four a byte: `d q`.
    TQ2_0,
    /// 128 codes of a bit: `d (2 q - 1)`.
    Q1_0,
    /// 64 codes of 2 bits: `d (q - 1)`.
    Q2_0,
    /// 128 codes of 2 bits: `d (q - 1)`.
    PQ2_0,
    /// 128 trits, five a byte: `d q`.
    PTQ1_0,
}

impl DenseType {
    /// Every type.
    pub const ALL: [DenseType; 17] = [
        DenseType::F32,
        DenseType::F16,
        DenseType::BF16,
        DenseType::Q4_0,
        DenseType::Q4_1,
        DenseType::Q5_0,
        DenseType::Q5_1,
        DenseType::Q8_0,
        DenseType::Q4K,
        DenseType::Q5K,
        DenseType::Q6K,
        DenseType::TQ1_0,
        DenseType::TQ2_0,
        DenseType::Q1_0,
        DenseType::Q2_0,
        DenseType::PQ2_0,
        DenseType::PTQ1_0,
    ];

    /// Whether weights are stored in blocks, whose products are computed in integers instead of
    /// floats.
    pub fn has_blocks(self) -> bool {
        self.block().0 > 1
    }

    /// Whether blocks have codes of at most two bits and one scale. They are multiplied with
    /// activations that are [split](crate::SplitCodes) into bytes.
    pub fn is_low_bit(self) -> bool {
        self.column_order().is_some()
    }

    /// The order of columns in the codes of activations for this type, if it is
    /// [low-bit](Self::is_low_bit).
    pub fn column_order(self) -> Option<ColumnOrder> {
        match self {
            Self::Q1_0 | Self::Q2_0 | Self::PQ2_0 => Some(ColumnOrder::Adjacent),
            Self::PTQ1_0 | Self::TQ1_0 | Self::TQ2_0 => Some(ColumnOrder::Apart),
            _ => None,
        }
    }

    /// Number of weights and of bytes in a block.
    pub(crate) const fn block(self) -> (usize, usize) {
        match self {
            DenseType::F32 => (1, 4),
            DenseType::F16 | DenseType::BF16 => (1, 2),
            DenseType::Q4_0 => (32, 18),
            DenseType::Q4_1 => (32, 20),
            DenseType::Q5_0 => (32, 22),
            DenseType::Q5_1 => (32, 24),
            DenseType::Q8_0 => (32, 34),
            DenseType::Q4K => (256, 144),
            DenseType::Q5K => (256, 176),
            DenseType::Q6K => (256, 210),
            DenseType::TQ1_0 => (256, 54),
            DenseType::TQ2_0 => (256, 66),
            DenseType::Q1_0 => (128, 18),
            DenseType::Q2_0 => (64, 18),
            DenseType::PQ2_0 => (128, 34),
            DenseType::PTQ1_0 => (128, 28),
        }
    }

    /// Size in bytes of a row of `cols` weights. `None` if rows of this type cannot have that
    /// length.
    pub fn row_len(self, cols: usize) -> Option<usize> {
        let (weights, bytes) = self.block();
        (cols / weights).checked_mul(bytes).filter(|_| cols.is_multiple_of(weights))
    }

    /// Row and column of the first weight with an invalid code, in the order of the bytes of `w`.
    /// Rows have `cols` weights. Only types of trits have invalid codes.
    pub fn find_invalid(self, w: &[u8], cols: usize) -> Option<(usize, usize)> {
        let element = match self {
            DenseType::TQ1_0 => trits::tq1_0(w)?,
            DenseType::TQ2_0 => trits::tq2_0(w)?,
            DenseType::PTQ1_0 => trits::ptq1_0(w)?,
            _ => return None,
        };
        Some((element / cols.max(1), element % cols.max(1)))
    }
}

/// A dense matrix. Its size in bytes matches its type and shape.
#[derive(Clone, Copy, Debug)]
pub struct DenseMatrix<'a> {
    pub(super) ty: DenseType,
    pub(super) bytes: &'a [u8],
    pub(super) rows: usize,
    pub(super) cols: usize,
}

impl<'a> DenseMatrix<'a> {
    /// Creates a matrix of `rows` rows of `cols` weights. `None` if the size of `bytes` does not
    /// match, or if rows of the type cannot have that length.
    pub fn new(ty: DenseType, bytes: &'a [u8], rows: usize, cols: usize) -> Option<Self> {
        let fits = ty.row_len(cols)?.checked_mul(rows) == Some(bytes.len());
        fits.then_some(Self { ty, bytes, rows, cols })
    }

    /// The type of the weights.
    pub fn ty(&self) -> DenseType {
        self.ty
    }

    /// The stored weights.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The number of rows, and of outputs for a token.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of columns, and of activations of a token.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The matrix of a range of rows.
    ///
    /// # Panics
    /// If the range exceeds the rows of the matrix.
    pub fn part(&self, rows: Range<usize>) -> DenseMatrix<'a> {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        let row_len = self.bytes.len().checked_div(self.rows).unwrap_or(0);
        let bytes = &self.bytes[rows.start * row_len..rows.end * row_len];
        DenseMatrix { bytes, rows: rows.len(), ..*self }
    }

    /// Row and column of the first weight with an invalid code: see [`DenseType::find_invalid`].
    pub fn find_invalid(&self) -> Option<(usize, usize)> {
        self.ty.find_invalid(self.bytes, self.cols)
    }
}
