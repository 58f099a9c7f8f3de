//! NumPy files.

use anyhow::{Context, Result, ensure};

/// The header of an f32 array in version 1.0 of NumPy's format: magic, version, length, a Python dictionary padded to 64 bytes.
pub(super) fn header(rows: usize, cols: usize) -> Vec<u8> {
    let mut dictionary =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {cols}), }}");
    while (10 + dictionary.len() + 1) % 64 != 0 {
        dictionary.push(' ');
    }
    dictionary.push('\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend((dictionary.len() as u16).to_le_bytes());
    header.extend(dictionary.as_bytes());
    header
}

/// A two-dimensional f32 array.
pub(super) struct Array {
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// `[rows][cols]`
    pub(super) values: Vec<f32>,
}

impl Array {
    /// Reads a version 1 file with little-endian f32 values in C order.
    ///
    /// # Errors
    /// The file has another version, type, order or number of dimensions, or its size does not match.
    pub(super) fn parse(file: &[u8]) -> Result<Array> {
        let rest = file.strip_prefix(b"\x93NUMPY\x01\x00").context("not a version 1 .npy file")?;
        let (length, rest) = rest.split_first_chunk().context("the header is cut off")?;
        let (header, data) = rest
            .split_at_checked(u16::from_le_bytes(*length).into())
            .context("the header is cut off")?;
        let header = std::str::from_utf8(header).context("the header is no text")?;
        ensure!(header.contains("'descr': '<f4'"), "not an array of f32");
        ensure!(header.contains("'fortran_order': False"), "not in C order");
        let shape = header.split_once("'shape': (").and_then(|(_, rest)| rest.split_once(')'));
        let sides = shape.map(|(shape, _)| shape.split(',').map(|side| side.trim().parse().ok()));
        let sides: Option<Vec<usize>> = sides.and_then(Iterator::collect);
        let Some([rows, cols]) = sides.as_deref() else { anyhow::bail!("not two dimensions") };
        let size = rows.checked_mul(*cols).and_then(|count| count.checked_mul(4));
        ensure!(size == Some(data.len()), "{} bytes for [{rows}, {cols}]", data.len());
        let values = data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        Ok(Array { rows: *rows, cols: *cols, values })
    }

    /// The rows.
    pub(super) fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.cols.max(1))
    }

    /// The standard deviation of all values.
    pub(super) fn std(&self) -> f64 {
        let n = self.values.len() as f64;
        let mean = self.values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        (self.values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n).sqrt()
    }
}
