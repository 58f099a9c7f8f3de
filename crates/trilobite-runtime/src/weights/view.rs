//! Matrices in the form that kernels take.

use trilobite_kernels::{DenseMatrix, Kernels, TernaryMatrix};

use super::matrix::{Kind, Matrix};

/// The weights of a [`Matrix`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum MatrixView<'a> {
    /// Packed trits, and the value of a trit of 1.
    Ternary(TernaryMatrix<'a>, f32),
    /// Floats or a block format.
    Dense(DenseMatrix<'a>),
}

impl Matrix {
    /// A view of the weights in `bytes`, or `None` if their number does not match shape and kind.
    pub(crate) fn view<'a>(&self, bytes: &'a [u8]) -> Option<MatrixView<'a>> {
        let Matrix { rows, cols, kind, .. } = *self;
        match kind {
            Kind::Ternary { layout, scale } => {
                let matrix = TernaryMatrix::new(layout, bytes, rows, cols)?;
                Some(MatrixView::Ternary(matrix, scale))
            }
            Kind::Dense(ty) => Some(MatrixView::Dense(DenseMatrix::new(ty, bytes, rows, cols)?)),
        }
    }
}

impl MatrixView<'_> {
    /// Row and column of the first invalid code, if there is one.
    pub(super) fn find_invalid(&self) -> Option<(usize, usize)> {
        match self {
            MatrixView::Ternary(matrix, _) => matrix.find_invalid(),
            MatrixView::Dense(matrix) => matrix.find_invalid(),
        }
    }

    /// Whether all weights are zeros.
    pub(super) fn is_zero(&self, kernels: &Kernels) -> bool {
        match self {
            MatrixView::Ternary(matrix, _) => matrix.is_zero(),
            MatrixView::Dense(matrix) => kernels.dense_is_zero(matrix),
        }
    }
}
