//! The operation of ternary kernels.

use crate::codes::Codes;
use std::ops::Range;

/// The kernels for many tokens take matrices with fewer columns: their sums fit in the 24 bits that
/// look-up stores.
pub(crate) const MAX_COLS: usize = 1 << 16;

/// The product of some rows of a packed matrix with the codes of some tokens.
///
/// A kernel fills `[tokens][rows]` sums: row `r` and token `t` give the sum over the columns `k` of
/// `trit[r][k] * code[t][k]`. The creator of a product guarantees that it is not empty, that the
/// matrix has the rows, that there are codes for the tokens, and that each token has as many codes
/// as the matrix has columns.
#[derive(Clone, Debug)]
pub(crate) struct Product<'a, M, R = Range<usize>> {
    /// The matrix, in the form that the kernels of its layout accept.
    pub(crate) matrix: M,
    /// The rows: a range, or an ascending list.
    pub(crate) rows: R,
    pub(crate) x: &'a Codes,
    pub(crate) tokens: Range<usize>,
}

impl<'a, M, R> Product<'a, M, R> {
    /// The same product with the matrix in another form.
    pub(crate) fn of<N>(self, matrix: N) -> Product<'a, N, R> {
        Product { matrix, rows: self.rows, x: self.x, tokens: self.tokens }
    }
}
