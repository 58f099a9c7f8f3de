//! Matrices of one shape that are written as one tensor: those of the experts of a layer, or a single
//! matrix that is packed as TQ2_0 or computed from the codes of MLX.

use std::ops::Range;

use rayon::prelude::*;
use trilobite_format::TensorType;
use trilobite_kernels::source::same;
use trilobite_kernels::{DenseMatrix, DenseType, Kernels, pack_tq2_0};

use crate::Error;
use crate::dense::{Dense, beyond_range, encode, pieces};
use crate::source::View;
use crate::words::Words;

/// The matrices, first to last.
pub(crate) struct Stack<'a> {
    pub(crate) matrices: Vec<Matrix<'a>>,
}

/// A matrix of a source.
pub(crate) enum Matrix<'a> {
    Floats(View<'a>),
    Words(Box<Words<'a>>),
}

impl<'a> Matrix<'a> {
    /// The tensor to name in errors.
    pub(crate) fn view(&self) -> &View<'a> {
        match self {
            Matrix::Floats(view) => view,
            Matrix::Words(words) => &words.words,
        }
    }

    /// The bytes in the source.
    pub(crate) fn sources(&self) -> Vec<&'a [u8]> {
        match self {
            Matrix::Floats(view) => vec![view.bytes],
            Matrix::Words(words) => words.views().map(|view| view.bytes).collect(),
        }
    }

    /// The float type that holds the weights. `None` if they are of a type that is not supported.
    pub(crate) fn float_type(&self) -> Option<TensorType> {
        match self {
            Matrix::Floats(view) => view.dtype.float_type(),
            // A bias of its own can make weights that no smaller type holds.
            Matrix::Words(words) if words.biases.is_some() => Some(TensorType::F32),
            Matrix::Words(words) => words.scales.dtype.float_type(),
        }
    }

    fn rows(&self) -> usize {
        match self {
            Matrix::Floats(view) => view.count() / view.cols(),
            Matrix::Words(words) => words.rows,
        }
    }

    fn cols(&self) -> usize {
        match self {
            Matrix::Floats(view) => view.cols(),
            Matrix::Words(words) => words.cols,
        }
    }

    fn widen(&self, row: usize, out: &mut Vec<f32>) {
        match self {
            Matrix::Floats(view) => {
                let cols = view.cols();
                view.widen(row * cols..(row + 1) * cols, out);
            }
            Matrix::Words(words) => words.widen(row, out),
        }
    }
}

impl Stack<'_> {
    /// Whether TQ2_0 represents all weights exactly. Reads them until one shows that it does not.
    pub(crate) fn is_ternary(&self) -> bool {
        self.matrices.iter().all(|matrix| {
            let Some(row_bytes) =
                DenseType::TQ2_0.row_len(matrix.cols()).filter(|bytes| *bytes > 0)
            else {
                return false;
            };
            let fits = |(wide, packed): &mut (Vec<f32>, Vec<u8>), row: usize| {
                matrix.widen(row, wide);
                packed.resize(row_bytes, 0);
                pack_tq2_0(wide, packed).is_ok()
            };
            let unfit = (0..matrix.rows())
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
        for matrix in &self.matrices {
            match (ty, matrix) {
                (TensorType::Tq2_0, _) => stream_tq2_0(matrix, sink)?,
                (_, Matrix::Floats(view)) => {
                    Dense { view: view.clone(), head_dim: None }.stream(name, ty, sink)?;
                }
                (_, Matrix::Words(words)) => stream_words(words, name, ty, sink)?,
            }
        }
        Ok(())
    }

    /// Whether the bytes of a written TQ2_0 tensor hold the weights.
    pub(crate) fn matches(&self, written: &[u8]) -> bool {
        let mut rest = written;
        self.matrices.iter().all(|matrix| {
            let rows = matrix.rows();
            let len = DenseType::TQ2_0.row_len(matrix.cols()).unwrap_or(0) * rows;
            let Some((bytes, others)) = rest.split_at_checked(len) else { return false };
            rest = others;
            same_weights(matrix, 0..rows, bytes)
        }) && rest.is_empty()
    }
}

/// Packs a matrix as TQ2_0. Each piece is unpacked again and compared before it is passed on.
fn stream_tq2_0(
    matrix: &Matrix<'_>,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let view = matrix.view();
    let changed = || Error::Changed { file: view.file.to_owned(), tensor: view.name.clone() };
    let row_bytes = DenseType::TQ2_0.row_len(matrix.cols()).filter(|bytes| *bytes > 0);
    let row_bytes = row_bytes.ok_or_else(changed)?;
    pieces(matrix.rows(), row_bytes, |first, piece| {
        let packed = piece
            .par_chunks_mut(row_bytes)
            .enumerate()
            .map_init(Vec::new, |wide, (i, out)| {
                matrix.widen(first + i, wide);
                pack_tq2_0(wide, out)
            })
            .all(|packed| packed.is_ok());
        let last = first + piece.len() / row_bytes;
        match packed && same_weights(matrix, first..last, piece) {
            true => sink(piece),
            false => Err(changed()),
        }
    })
}

/// Passes the bytes of a matrix of MLX as type `ty` to `sink`, in order.
fn stream_words(
    words: &Words<'_>,
    name: &str,
    ty: TensorType,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let row_bytes = ty.byte_len(&[words.cols as u64]);
    let row_bytes = row_bytes.expect("types are chosen to hold their shapes") as usize;
    pieces(words.rows, row_bytes, |first, piece| {
        let failed = piece
            .par_chunks_mut(row_bytes)
            .enumerate()
            .map_init(Vec::new, |wide, (i, out)| {
                if ty == TensorType::Q4_1 {
                    words.encode_q4_1(first + i, out);
                    return Ok(());
                }
                words.widen(first + i, wide);
                encode(ty, wide, out)
            })
            .find_map_first(Result::err);
        match failed {
            Some(value) => Err(beyond_range(name, ty, value)),
            None => sink(piece),
        }
    })
}

/// Whether packed rows have the weights of the source. Zeros of both signs are equal.
fn same_weights(matrix: &Matrix<'_>, rows: Range<usize>, packed: &[u8]) -> bool {
    let cols = matrix.cols();
    let Some(packed) = DenseMatrix::new(DenseType::TQ2_0, packed, rows.len(), cols) else {
        return false;
    };
    let kernels = Kernels::best();
    rows.clone()
        .into_par_iter()
        .map_init(Default::default, |buffers, row| {
            let (wide, unpacked): &mut (Vec<f32>, Vec<f32>) = buffers;
            matrix.widen(row, wide);
            unpacked.resize(cols, 0.0);
            kernels.dense_row(&packed, row - rows.start, unpacked);
            same(wide, unpacked)
        })
        .all(|same| same)
}
