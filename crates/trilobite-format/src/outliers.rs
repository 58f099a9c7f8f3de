//! The tensor of a packed matrix's outliers: weights that its type cannot hold.

use std::ops::Range;

/// A number that is added to a weight of a matrix. The weight itself is stored as 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlier {
    /// The row of the weight.
    pub row: u32,
    /// The column of the weight.
    pub col: u32,
    /// The number to add.
    pub value: f32,
}

impl Outlier {
    /// Bytes of an outlier: row, column and value.
    pub const BYTES: usize = 12;

    /// The bytes in a tensor.
    pub fn to_bytes(self) -> [u8; Outlier::BYTES] {
        let mut out = [0; Outlier::BYTES];
        out[..4].copy_from_slice(&self.row.to_le_bytes());
        out[4..8].copy_from_slice(&self.col.to_le_bytes());
        out[8..].copy_from_slice(&self.value.to_le_bytes());
        out
    }

    /// Reads the outliers of a matrix of the given size.
    ///
    /// # Errors
    /// The index of an outlier that is outside the matrix, not after the one before in row-major
    /// order, or not finite.
    pub fn read(bytes: &[u8], rows: usize, cols: usize) -> Result<Vec<Outlier>, usize> {
        let mut next = (0, 0);
        let outlier = |(i, bytes): (usize, &[u8; Outlier::BYTES])| {
            let [a, b, c, d, e, f, g, h, value @ ..] = *bytes;
            let (row, col) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
            let value = f32::from_le_bytes(value);
            let inside = (row as usize) < rows && (col as usize) < cols;
            if !inside || (row, col) < next || !value.is_finite() {
                return Err(i);
            }
            next = (row, col.saturating_add(1));
            Ok(Outlier { row, col, value })
        };
        bytes.as_chunks().0.iter().enumerate().map(outlier).collect()
    }

    /// Those of a range of rows, among outliers in the order of rows.
    pub fn of_rows(outliers: &[Outlier], rows: Range<usize>) -> &[Outlier] {
        let start = |row| outliers.partition_point(|outlier| (outlier.row as usize) < row);
        &outliers[start(rows.start)..start(rows.end)]
    }

    /// The name of the tensor with the outliers of `weight`.
    pub fn tensor(weight: &str) -> String {
        format!("{}.outliers", weight.strip_suffix(".weight").unwrap_or(weight))
    }
}
