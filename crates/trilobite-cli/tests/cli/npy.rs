//! The part of NumPy's file format that reference outputs use.

use anyhow::{Context, Result, ensure};

/// A two-dimensional f32 array.
pub(crate) struct Array {
    pub(crate) cols: usize,
    pub(crate) values: Vec<f32>,
}

impl Array {
    /// Reads a version 1 file with little-endian f32 values in C order.
    pub(crate) fn parse(file: &[u8]) -> Result<Array> {
        let rest = file.strip_prefix(b"\x93NUMPY\x01\x00").context("not a version 1 .npy file")?;
        let (length, rest) = rest.split_first_chunk().context("no header length")?;
        let (header, data) =
            rest.split_at_checked(u16::from_le_bytes(*length).into()).context("header cut off")?;
        let header = std::str::from_utf8(header)?;
        ensure!(header.contains("'descr': '<f4'"), "not f32: {header}");
        ensure!(header.contains("'fortran_order': False"), "not in C order: {header}");
        let (_, shape) = header.split_once("'shape': (").context("no shape")?;
        let (shape, _) = shape.split_once(')').context("no shape")?;
        let (rows, cols) = shape.split_once(',').context("one dimension")?;
        let (rows, cols) = (rows.trim().parse::<usize>()?, cols.trim().parse::<usize>()?);
        let values: Vec<f32> =
            data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        ensure!(data.len() == 4 * rows * cols, "{} bytes for {rows} x {cols}", data.len());
        Ok(Array { cols, values })
    }

    /// The rows, one per position.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks(self.cols)
    }

    /// Standard deviation of all values.
    pub(crate) fn std(&self) -> f64 {
        let n = self.values.len() as f64;
        let mean = self.values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        (self.values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n).sqrt()
    }
}
