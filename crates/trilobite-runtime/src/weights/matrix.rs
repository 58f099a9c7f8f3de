//! Weight matrices and their places in the files of a model.

use std::ops::Range;

use trilobite_format::{Outlier, TensorInfo};
use trilobite_kernels::{DenseType, Layout};

/// A weight matrix `[rows][cols]` (out, in) in the model file.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// Number of rows, the width of the output.
    pub rows: usize,
    /// Number of columns, the width of the input.
    pub cols: usize,
    /// The place of the packed weights.
    pub place: Place,
    /// How the weights are stored.
    pub kind: Kind,
    /// The bias, which is added to the product, `[rows]`.
    pub bias: Option<Vec<f32>>,
    /// The norm of the input of this matrix alone, after all other norms, `[cols]` (BitNet embedding
    /// models).
    pub input_norm: Option<Vec<f32>>,
    /// Numbers to add to some weights, in row-major order.
    pub outliers: Vec<Outlier>,
}

/// A range of bytes in one of the model's files.
#[derive(Clone, Debug)]
pub struct Place {
    /// Index of the file.
    pub part: usize,
    /// The bytes within the file.
    pub range: Range<usize>,
}

/// The storage format of a matrix, which decides how it is multiplied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Packed trits, multiplied exactly with int8 activations.
    Ternary {
        /// How the trits are packed.
        layout: Layout,
        /// The value of a trit of 1.
        scale: f32,
    },
    /// Floats or a block format, multiplied with f32 activations.
    Dense(DenseType),
}

impl Place {
    pub(super) fn of(info: &TensorInfo) -> Self {
        Self { part: info.part, range: info.range.clone() }
    }
}

impl Matrix {
    /// The outliers of a range of rows.
    pub(crate) fn outliers_of(&self, rows: Range<usize>) -> &[Outlier] {
        Outlier::of_rows(&self.outliers, rows)
    }
}
