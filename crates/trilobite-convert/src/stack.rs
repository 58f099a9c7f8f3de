//! Matrices of one shape that are written as one tensor: those of the experts of a layer, or a single
//! matrix that is packed as TQ2_0.

use std::ops::Range;

use rayon::prelude::*;
use trilobite_format::TensorType;
use trilobite_kernels::{DenseMatrix, DenseType, Kernels, pack_tq2_0};

use crate::Error;
use crate::dense::{Dense, pieces};
use crate::source::View;

/// The matrices, first to last.
pub(crate) struct Stack<'a> {
    pub(crate) views: Vec<View<'a>>,
}

impl Stack<'_> {
    /// Whether TQ2_0 represents all weights exactly. Reads them until one shows that it does not.
    pub(crate) fn is_ternary(&self) -> bool {
        self.views.iter().all(|view| {
            let cols = view.cols();
            let Some(row_bytes) = DenseType::TQ2_0.row_len(cols).filter(|bytes| *bytes > 0) else {
                return false;
            };
            let fits = |(wide, packed): &mut (Vec<f32>, Vec<u8>), row: usize| {
                view.widen(row * cols..(row + 1) * cols, wide);
                packed.resize(row_bytes, 0);
                pack_tq2_0(wide, packed).is_ok()
            };
            let unfit = (0..view.count() / cols)
                .into_par_iter()
                .map_init(Default::default, fits)
                .find_any(|fits| !fits);
            unfit.is_none()
        })
    }

    /// Passes the bytes of the tensor as type `ty` to `sink`, in order. `name` is the tensor's name
    /// in the output, for errors.
    pub(crate) fn stream(
        &self,
        name: &str,
        ty: TensorType,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for view in &self.views {
            match ty {
                TensorType::Tq2_0 => stream_tq2_0(view, sink)?,
                _ => Dense { view: view.clone(), head_dim: None }.stream(name, ty, sink)?,
            }
        }
        Ok(())
    }

    /// Whether the bytes of a written TQ2_0 tensor hold the weights.
    pub(crate) fn matches(&self, written: &[u8]) -> bool {
        let mut rest = written;
        self.views.iter().all(|view| {
            let cols = view.cols();
            let rows = view.count() / cols;
            let len = DenseType::TQ2_0.row_len(cols).unwrap_or(0) * rows;
            let Some((bytes, others)) = rest.split_at_checked(len) else { return false };
            rest = others;
            same_weights(view, 0..rows, bytes)
        }) && rest.is_empty()
    }
}

/// Packs a matrix as TQ2_0. Each piece is unpacked again and compared before it is passed on.
fn stream_tq2_0(
    view: &View<'_>,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let cols = view.cols();
    let rows = view.count() / cols;
    let changed = || Error::Changed { file: view.file.to_owned(), tensor: view.name.clone() };
    let row_bytes = DenseType::TQ2_0.row_len(cols).filter(|bytes| *bytes > 0);
    let row_bytes = row_bytes.ok_or_else(changed)?;
    pieces(rows, row_bytes, |first, piece| {
        let packed = piece
            .par_chunks_mut(row_bytes)
            .enumerate()
            .map_init(Vec::new, |wide, (i, out)| {
                let row = first + i;
                view.widen(row * cols..(row + 1) * cols, wide);
                pack_tq2_0(wide, out)
            })
            .all(|packed| packed.is_ok());
        let last = first + piece.len() / row_bytes;
        match packed && same_weights(view, first..last, piece) {
            true => sink(piece),
            false => Err(changed()),
        }
    })
}

/// Whether packed rows have the weights of the source. Zeros of both signs are equal.
fn same_weights(view: &View<'_>, rows: Range<usize>, packed: &[u8]) -> bool {
    let cols = view.cols();
    let Some(matrix) = DenseMatrix::new(DenseType::TQ2_0, packed, rows.len(), cols) else {
        return false;
    };
    let kernels = Kernels::best();
    rows.clone()
        .into_par_iter()
        .map_init(Default::default, |buffers, row| {
            let (wide, unpacked): &mut (Vec<f32>, Vec<f32>) = buffers;
            view.widen(row * cols..(row + 1) * cols, wide);
            unpacked.resize(cols, 0.0);
            kernels.dense_row(&matrix, row - rows.start, unpacked);
            wide == unpacked
        })
        .all(|same| same)
}
