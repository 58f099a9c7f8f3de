//! Products of ternary matrices with int8 activations.

use super::method::Method;
use super::{Kernels, ManyTokens, call};
use crate::i2_s::transposed;
use crate::product::Product;
use crate::workspace::ManyBuffers;
use crate::{Codes, Layout, TernaryMatrix, Workspace, i2_s, t5_3};
use std::ops::Range;

impl Kernels {
    /// Quantises the activations of one token to int8 by absmax.
    ///
    /// scale = 127 / max(absmax, 1e-5) and code = rint(x * scale), ties to even, all in f32.
    /// Returns the scale and the sum of the codes. `codes` is as long as `x`.
    ///
    /// NaN counts as 0. If `x` contains an infinity, the scale and all codes are 0.
    pub fn quantize_row(&self, x: &[f32], codes: &mut [i8]) -> (f32, i32) {
        assert_eq!(x.len(), codes.len(), "codes");
        call!(self.quantize_row(x, codes))
    }

    /// Multiplies rows of a ternary matrix with int8 activations, exactly.
    ///
    /// `out[t * rows.len() + (r - rows.start)] = sum_k trit[r][k] * code[t][k]`.
    ///
    /// `x` has as many codes a token as the matrix has columns, and fewer than 2^23. If the matrix
    /// contains invalid codes, the sums are unspecified.
    ///
    /// Many rows and tokens in one call are faster than few.
    pub fn ternary_gemm(
        &self,
        matrix: &TernaryMatrix<'_>,
        rows: Range<usize>,
        x: &Codes,
        workspace: &mut Workspace,
        out: &mut [i32],
    ) {
        let method = self.fastest_method(rows.len(), x.tokens());
        self.ternary_gemm_by(method, matrix, rows, x, workspace, out);
    }

    /// The fastest method for this number of rows and tokens in one call.
    pub fn fastest_method(&self, rows: usize, tokens: usize) -> Method {
        let repays = |many: &&ManyTokens| rows >= many.min_size.0 && tokens >= many.min_size.1;
        let many = self.i2_s_many.iter().find(repays);
        many.map_or(Method::MultiplyAdd, |many| many.method)
    }

    /// The methods that this instruction set has.
    pub fn methods(&self) -> impl Iterator<Item = Method> {
        let many = self.i2_s_many.iter().map(|many| many.method);
        std::iter::once(Method::MultiplyAdd).chain(many)
    }

    /// [`ternary_gemm`](Kernels::ternary_gemm) by a given method. Where the instruction set, the
    /// matrix or the number of tokens does not allow the method, multiply-add is used.
    pub fn ternary_gemm_by(
        &self,
        method: Method,
        matrix: &TernaryMatrix<'_>,
        rows: Range<usize>,
        x: &Codes,
        workspace: &mut Workspace,
        out: &mut [i32],
    ) {
        let (count, end) = (rows.len(), rows.end);
        let Some(product) = product(matrix, rows, (count, end), x, out) else { return };
        match matrix.layout() {
            Layout::I2S(layout) => {
                let product = product.of(i2_s_matrix(layout, matrix.packed(), matrix.cols()));
                self.multiply_i2_s(method, product, &mut workspace.many, out);
            }
            Layout::I2T => {
                let product = product.of(i2_t_matrix(matrix));
                let (many, repack) = self.i2_t_repack;
                if product.tokens.len() < many {
                    let (add, part) = (self.i2_t_add, 0..matrix.cols());
                    let (skip, list) = (transposed::Skip::Nothing, &mut workspace.columns);
                    // SAFETY: as in `call`.
                    unsafe { transposed::gemm(add, &product, part, skip, list, out) };
                    return;
                }
                let Workspace { repacked, many, .. } = workspace;
                // SAFETY: as in `call`.
                let rows = unsafe { repack(&product.matrix, product.rows.clone(), repacked) };
                let matrix = i2_s_matrix(i2_s::Rows::Padded, repacked, matrix.cols());
                self.multiply_i2_s(method, Product { rows, ..product.of(matrix) }, many, out);
            }
            Layout::T5_3 => {
                let planes = matrix.packed().as_chunks().0;
                let product = product.of(t5_3::Matrix { planes, cols: matrix.cols() });
                let Some((_, repack)) =
                    self.t5_3_repack.filter(|(many, _)| product.tokens.len() >= *many)
                else {
                    return call!(self.t5_3_gemm(&product, out));
                };
                let Workspace { repacked, many, .. } = workspace;
                // SAFETY: as in `call`.
                let rows = unsafe { repack(&product.matrix, product.rows.clone(), repacked) };
                let matrix = i2_s_matrix(i2_s::Rows::Padded, repacked, matrix.cols());
                self.multiply_i2_s(method, Product { rows, ..product.of(matrix) }, many, out);
            }
        }
    }

    /// The products of an I2_S matrix, or of a matrix repacked as one.
    fn multiply_i2_s(
        &self,
        method: Method,
        product: i2_s::Product<'_>,
        buffers: &mut ManyBuffers,
        out: &mut [i32],
    ) {
        let many = self.i2_s_many.iter().find(|many| many.method == method);
        let Some(many) = many.filter(|_| product.matrix.allows_many()) else {
            return call!(self.i2_s_gemm(&product, out));
        };
        let (tokens, rows) = (product.tokens.clone(), product.rows.clone());
        let split = tokens.end - tokens.len() % many.lanes;
        let (first, rest) = out.split_at_mut((split - tokens.start) * rows.len());
        let whole = Product { tokens: tokens.start..split, rows, ..product };
        call!(many.gemm(&whole, buffers, first));
        let others = Product { tokens: split..tokens.end, ..product };
        call!(self.i2_s_gemm(&others, rest));
    }

    /// Multiplies some rows of a [`Layout::I2S`] matrix with int8 activations, exactly. Other rows
    /// are not read.
    ///
    /// `out[t * rows.len() + i] = sum_k trit[rows[i]][k] * code[t][k]`. `rows` are ascending.
    /// Otherwise as [`ternary_gemm`](Kernels::ternary_gemm).
    pub fn ternary_rows(
        &self,
        matrix: &TernaryMatrix<'_>,
        rows: &[u32],
        x: &Codes,
        out: &mut [i32],
    ) {
        let Layout::I2S(layout) = matrix.layout() else { panic!("a list of rows of {matrix:?}") };
        let end = rows.last().map_or(0, |last| *last as usize + 1);
        let Some(product) = product(matrix, rows, (rows.len(), end), x, out) else { return };
        assert!(rows.is_sorted(), "rows rise");
        let product = product.of(i2_s_matrix(layout, matrix.packed(), matrix.cols()));
        call!(self.i2_s_rows(&product, out))
    }

    /// Multiplies a part of the columns of a [`Layout::I2T`] matrix with int8 activations, exactly.
    /// Columns whose activations are all 0 are not read.
    ///
    /// `out[t * rows + r] = sum of trit[r][k] * code[t][k]` over the columns `k` of `part`. The
    /// sums over all parts equal those of [`ternary_gemm`](Kernels::ternary_gemm).
    ///
    /// Returns the number of columns read.
    pub fn ternary_part(
        &self,
        matrix: &TernaryMatrix<'_>,
        part: Range<usize>,
        x: &Codes,
        workspace: &mut Workspace,
        out: &mut [i32],
    ) -> usize {
        assert_eq!(matrix.layout(), Layout::I2T, "a part of the columns");
        assert!(part.end <= matrix.cols(), "columns {part:?} of {}", matrix.cols());
        let rows = matrix.rows();
        let Some(product) = product(matrix, 0..rows, (rows, rows), x, out) else { return 0 };
        let (product, skip) = (product.of(i2_t_matrix(matrix)), transposed::Skip::Zeros);
        let (add, list) = (self.i2_t_add, &mut workspace.columns);
        // SAFETY: as in `call`.
        unsafe { transposed::gemm(add, &product, part, skip, list, out) }
    }
}

/// The product of `count` rows, the last before `end`, with all tokens. If it is empty or zero,
/// fills `out` with 0 and returns `None`.
fn product<'a, R>(
    matrix: &TernaryMatrix<'a>,
    rows: R,
    (count, end): (usize, usize),
    x: &'a Codes,
    out: &mut [i32],
) -> Option<Product<'a, TernaryMatrix<'a>, R>> {
    assert_eq!(x.cols(), matrix.cols(), "codes of a token");
    assert_eq!(out.len(), count * x.tokens(), "outputs");
    if out.is_empty() || matrix.cols() == 0 {
        out.fill(0);
        return None;
    }
    assert!(end <= matrix.rows(), "rows up to {end} of {}", matrix.rows());
    Some(Product { matrix: *matrix, rows, x, tokens: 0..x.tokens() })
}

fn i2_s_matrix(layout: i2_s::Rows, packed: &[u8], cols: usize) -> i2_s::Matrix<'_> {
    i2_s::Matrix { layout, blocks: packed.as_chunks().0, cols }
}

fn i2_t_matrix<'a>(matrix: &TernaryMatrix<'a>) -> transposed::Matrix<'a> {
    transposed::Matrix { blocks: matrix.packed().as_chunks().0, cols: matrix.cols() }
}
