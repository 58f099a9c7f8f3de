//! What a ternary kernel computes.

use crate::codes::Codes;
use std::ops::Range;

/// Some rows of a packed matrix times the codes of some tokens.
///
/// A kernel fills `[tokens][rows]` sums: row `r` and token `t` give the sum over the columns `k` of
/// `trit[r][k] * code[t][k]`. Whoever makes a product sees to it that it is not empty, that the matrix
/// has the rows, that there are codes for the tokens, and that a token has as many as the matrix has
/// columns.
#[derive(Clone, Debug)]
pub(crate) struct Product<'a, M, R = Range<usize>> {
    /// The matrix, in the form that the kernels of its layout take.
    pub(crate) matrix: M,
    /// Some of its rows: a range, or a list that rises.
    pub(crate) rows: R,
    pub(crate) x: &'a Codes,
    pub(crate) tokens: Range<usize>,
}

impl<'a, M, R> Product<'a, M, R> {
    /// The same rows of a matrix in another form.
    pub(crate) fn of<N>(self, matrix: N) -> Product<'a, N, R> {
        Product { matrix, rows: self.rows, x: self.x, tokens: self.tokens }
    }
}
