//! The coarse copy of the head, defined in `trilobite_kernels::scan`.

use std::sync::{Arc, OnceLock};

use rayon::prelude::*;
use trilobite_format::TensorType;
use trilobite_format::model::HeadScanPart;
use trilobite_kernels::scan::{
    Bounds, REFINEMENTS, bounds, code_bytes, pack, pack_refinement, refinement_bytes,
};

use crate::Error;
use crate::dense::{PIECE, beyond_range, encode};
use crate::source::{Dtype, View};

/// One of the tensors of the copy.
pub(crate) struct Scan<'a> {
    /// The head in the source.
    pub(crate) view: View<'a>,
    /// The type in which the head is stored. The copy approximates the stored weights.
    pub(crate) head: TensorType,
    pub(crate) part: HeadScanPart,
    /// The bounds of the rows, which all parts need.
    pub(crate) bounds: Arc<OnceLock<Vec<Bounds>>>,
}

/// The type and the shape of a part of the copy of a head.
pub(crate) fn form(part: HeadScanPart, rows: u64, cols: u64) -> (TensorType, Vec<u64>) {
    let n = cols as usize;
    match part {
        HeadScanPart::Codes => (TensorType::I8, vec![rows, code_bytes(n) as u64]),
        HeadScanPart::Refinements => {
            (TensorType::I8, vec![REFINEMENTS as u64, rows, refinement_bytes(n) as u64])
        }
        HeadScanPart::Bounds => (TensorType::F32, vec![Bounds::COUNT as u64, rows]),
        HeadScanPart::Factors => (TensorType::F32, vec![cols]),
    }
}

impl Scan<'_> {
    /// Passes the bytes of the tensor to `sink`, in order.
    pub(crate) fn stream(
        &self,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (factors, cols) = (self.factors(), self.view.cols());
        match self.part {
            HeadScanPart::Codes => {
                let write = |row: &[f32], bounds: &Bounds, out: &mut [u8]| {
                    pack(row, &factors, bounds.scale, out);
                };
                self.rows(&factors, code_bytes(cols), write, sink)
            }
            HeadScanPart::Refinements => (0..REFINEMENTS).try_for_each(|refinement| {
                let write = |row: &[f32], bounds: &Bounds, out: &mut [u8]| {
                    pack_refinement(row, &factors, bounds.scale, refinement, out);
                };
                self.rows(&factors, refinement_bytes(cols), write, sink)
            }),
            HeadScanPart::Bounds => {
                let bounds = self.bounds(&factors)?;
                (0..Bounds::COUNT).try_for_each(|number| {
                    sink(&bytes(bounds.iter().map(|bounds| bounds.to_array()[number])))
                })
            }
            HeadScanPart::Factors => sink(&bytes(factors.into_iter())),
        }
    }

    /// Passes the bytes that `write` makes of each row to `sink`, in order.
    fn rows(
        &self,
        factors: &[f32],
        row_bytes: usize,
        write: impl Fn(&[f32], &Bounds, &mut [u8]) + Sync,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let group = (PIECE / self.view.cols().max(1)).max(1);
        let mut out = vec![0; group * row_bytes];
        for (index, bounds) in self.bounds(factors)?.chunks(group).enumerate() {
            let piece = &mut out[..bounds.len() * row_bytes];
            let rows = piece.par_chunks_mut(row_bytes).zip(bounds).enumerate();
            let written = rows.map_init(RowBuffers::default, |buffers, (i, (out, bounds))| {
                write(self.row(index * group + i, buffers)?, bounds, out);
                Ok(())
            });
            self.checked(written.find_map_first(Result::err))?;
            sink(piece)?;
        }
        Ok(())
    }

    /// The bounds of the rows.
    fn bounds(&self, factors: &[f32]) -> Result<&[Bounds], Error> {
        if let Some(bounds) = self.bounds.get() {
            return Ok(bounds);
        }
        let rows = (0..self.view.count() / self.view.cols()).into_par_iter();
        let of_row = |buffers: &mut RowBuffers, row| Ok(bounds(self.row(row, buffers)?, factors));
        let bounds: Vec<Result<Bounds, f32>> = rows.map_init(RowBuffers::default, of_row).collect();
        self.checked(bounds.iter().find_map(|bounds| bounds.err()))?;
        Ok(self.bounds.get_or_init(|| bounds.into_iter().flatten().collect()))
    }

    /// An error for a weight that the head's type cannot represent.
    fn checked(&self, beyond: Option<f32>) -> Result<(), Error> {
        beyond.map_or(Ok(()), |value| Err(beyond_range(&self.view.name, self.head, value)))
    }

    /// The factors of the columns: the root of how large a column is next to the median one. Codes
    /// of the divided weights are finer, and the query, which is multiplied, grows little.
    fn factors(&self) -> Vec<f32> {
        /// Number of rows that tell the sizes of the columns.
        const SAMPLE: usize = 4096;
        let cols = self.view.cols();
        let rows = self.view.count() / cols;
        let (mut squares, mut wide) = (vec![0.0f64; cols], Vec::new());
        for row in (0..rows).step_by(rows.div_ceil(SAMPLE).max(1)) {
            self.view.widen(row * cols..(row + 1) * cols, &mut wide);
            for (square, w) in squares.iter_mut().zip(&wide) {
                *square += f64::from(*w).powi(2);
            }
        }
        let mut sorted = squares.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let median = sorted[cols / 2];
        // The fourth root of a ratio of squares. Zeros and weights that are not finite have none.
        let factor = |square: f64| (square / median).sqrt().sqrt();
        let factors = squares.into_iter().map(factor);
        factors.map(|f| if f > 1e-3 && f < 1e3 { f as f32 } else { 1.0 }).collect()
    }

    /// A row of the head as it is stored. The error is a weight that the head's type cannot represent.
    fn row<'b>(&self, row: usize, buffers: &'b mut RowBuffers) -> Result<&'b [f32], f32> {
        let cols = self.view.cols();
        let RowBuffers { wide, stored } = buffers;
        self.view.widen(row * cols..(row + 1) * cols, wide);
        if self.view.dtype.float_type() != Some(self.head) {
            stored.resize(
                self.head.byte_len(&[cols as u64]).expect("a float type holds every row") as usize,
                0,
            );
            encode(self.head, wide, stored)?;
            View {
                file: self.view.file,
                name: String::new(),
                dtype: match self.head {
                    TensorType::F16 => Dtype::F16,
                    TensorType::Bf16 => Dtype::Bf16,
                    _ => Dtype::F32,
                },
                shape: vec![cols as u64],
                bytes: stored,
            }
            .widen(0..cols, wide);
        }
        Ok(wide)
    }
}

/// Little-endian floats.
fn bytes(numbers: impl Iterator<Item = f32>) -> Vec<u8> {
    numbers.flat_map(f32::to_le_bytes).collect()
}

/// The buffers of a thread.
#[derive(Default)]
struct RowBuffers {
    wide: Vec<f32>,
    stored: Vec<u8>,
}
