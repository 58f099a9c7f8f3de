//! The coarse copy of the head, defined in `trilobite_kernels::scan`.

use rayon::prelude::*;
use trilobite_format::TensorType;
use trilobite_format::model::HeadScanPart;
use trilobite_kernels::scan::{Bounds, code_bytes, pack, refinement_bytes};

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
}

/// The type and the number of columns of a part of the copy, for a head with `cols` columns.
pub(crate) fn columns(part: HeadScanPart, cols: usize) -> (TensorType, usize) {
    match part {
        HeadScanPart::Factors => (TensorType::F32, cols),
        HeadScanPart::Codes => (TensorType::I8, code_bytes(cols)),
        HeadScanPart::Refinements => (TensorType::I8, refinement_bytes(cols)),
        HeadScanPart::Bounds => (TensorType::F32, Bounds::COUNT),
    }
}

impl Scan<'_> {
    /// Passes the bytes of the tensor to `sink`, in order.
    pub(crate) fn stream(
        &self,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let cols = self.view.cols();
        let rows = self.view.count() / cols;
        let factors = self.factors();
        if self.part == HeadScanPart::Factors {
            return sink(
                &factors.iter().flat_map(|factor| factor.to_le_bytes()).collect::<Vec<u8>>(),
            );
        }
        let row_bytes = match columns(self.part, cols) {
            (TensorType::F32, columns) => 4 * columns,
            (_, columns) => columns,
        };
        let group = (PIECE / cols.max(1)).clamp(1, rows.max(1));
        let mut out = vec![0; group * row_bytes];
        for first in (0..rows).step_by(group) {
            let last = (first + group).min(rows);
            let piece = &mut out[..(last - first) * row_bytes];
            let failed = piece
                .par_chunks_mut(row_bytes)
                .enumerate()
                .map_init(RowBuffers::default, |buffers, (i, out)| {
                    self.row(first + i, &factors, buffers, out)
                })
                .find_map_first(Result::err);
            if let Some(value) = failed {
                return Err(beyond_range(&self.view.name, self.head, value));
            }
            sink(piece)?;
        }
        Ok(())
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

    /// Computes one row of the tensor. The error is a weight that the head's type cannot represent.
    fn row(
        &self,
        row: usize,
        factors: &[f32],
        buffers: &mut RowBuffers,
        out: &mut [u8],
    ) -> Result<(), f32> {
        let cols = self.view.cols();
        let RowBuffers { wide, stored, codes, refinements } = buffers;
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
        codes.resize(code_bytes(cols), 0);
        refinements.resize(refinement_bytes(cols), 0);
        let bounds = pack(wide, factors, codes, refinements);
        match self.part {
            HeadScanPart::Codes => out.copy_from_slice(codes),
            HeadScanPart::Refinements => out.copy_from_slice(refinements),
            HeadScanPart::Bounds => out.copy_from_slice(&bounds.to_bytes()),
            HeadScanPart::Factors => {}
        }
        Ok(())
    }
}

/// The buffers of a thread.
#[derive(Default)]
struct RowBuffers {
    wide: Vec<f32>,
    stored: Vec<u8>,
    codes: Vec<u8>,
    refinements: Vec<u8>,
}
