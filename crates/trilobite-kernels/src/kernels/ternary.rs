//! Products of ternary matrices with int8 activations.

use super::method::Method;
use super::{Kernels, ManyTokens, call};
use crate::i2_s::transposed::{self, ColumnList, Skip};
use crate::product::{MAX_COLS, Product};
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
        let method = self.fastest_method(matrix.layout(), rows.len(), x.tokens());
        self.ternary_gemm_by(method, matrix, rows, x, workspace, out);
    }

    /// The fastest method for this number of rows and tokens in one call.
    pub fn fastest_method(&self, layout: Layout, rows: usize, tokens: usize) -> Method {
        let repays =
            |many: &&ManyTokens| rows >= many.min_rows && tokens >= many.min_tokens(layout);
        self.many.iter().find(repays).map_or(Method::MultiplyAdd, |many| many.method)
    }

    /// The methods that this instruction set has.
    pub fn methods(&self) -> impl Iterator<Item = Method> {
        std::iter::once(Method::MultiplyAdd).chain(self.many.iter().map(|many| many.method))
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
        let many = self.many.iter().find(|many| many.method == method);
        let many = many.filter(|_| matrix.cols() < MAX_COLS);
        match matrix.layout() {
            Layout::I2S(layout) => {
                let product = product.of(i2_s_matrix(layout, matrix.packed(), matrix.cols()));
                self.multiply_i2_s(many, &product, &mut workspace.many, out);
            }
            Layout::I2T => {
                self.multiply_i2_t(many, &product.of(i2_t_matrix(matrix)), workspace, out)
            }
            Layout::T5_3 => {
                let planes = matrix.packed().as_chunks().0;
                let product = product.of(t5_3::Matrix { planes, cols: matrix.cols() });
                self.multiply_t5_3(many, &product, workspace, out);
            }
        }
    }

    fn multiply_i2_s(
        &self,
        many: Option<&ManyTokens>,
        product: &i2_s::Product<'_>,
        buffers: &mut ManyBuffers,
        out: &mut [i32],
    ) {
        let Some(many) = many.filter(|_| product.matrix.is_aligned()) else {
            return call!(self.i2_s_gemm(product, out));
        };
        let [(most, out), (rest, others)] = many.divide(product, out);
        call!(many.i2_s.gemm(&most, buffers, out));
        if !others.is_empty() {
            call!(self.i2_s_gemm(&rest, others));
        }
    }

    fn multiply_i2_t(
        &self,
        many: Option<&ManyTokens>,
        product: &transposed::Product<'_>,
        workspace: &mut Workspace,
        out: &mut [i32],
    ) {
        let add = |product: &transposed::Product<'_>, list: &mut ColumnList, out: &mut [i32]| {
            let part = 0..product.matrix.cols;
            // SAFETY: as in `call`.
            unsafe { transposed::gemm(self.i2_t_add, product, part, Skip::Nothing, list, out) };
        };
        let Workspace { repacked, many: buffers, columns, .. } = workspace;
        if let Some((many, kernel)) = many.and_then(|many| Some((many, many.i2_t?))) {
            let [(most, out), (rest, others)] = many.divide(product, out);
            call!(kernel.gemm(&most, buffers, out));
            if !others.is_empty() {
                add(&rest, columns, others);
            }
            return;
        }
        let (least, repack) = self.i2_t_repack;
        if product.tokens.len() < least {
            return add(product, columns, out);
        }
        // SAFETY: as in `call`.
        let rows = unsafe { repack(&product.matrix, product.rows.clone(), repacked) };
        let matrix = i2_s_matrix(i2_s::Rows::Padded, repacked, product.matrix.cols);
        let product = Product { rows, ..product.clone().of(matrix) };
        self.multiply_i2_s(many, &product, buffers, out);
    }

    fn multiply_t5_3(
        &self,
        many: Option<&ManyTokens>,
        product: &t5_3::Product<'_>,
        workspace: &mut Workspace,
        out: &mut [i32],
    ) {
        let Workspace { repacked, many: buffers, .. } = workspace;
        if let Some((many, kernel)) = many.and_then(|many| Some((many, many.t5_3?))) {
            let [(most, out), (rest, others)] = many.divide(product, out);
            call!(kernel.gemm(&most, buffers, out));
            if !others.is_empty() {
                call!(self.t5_3_gemm(&rest, others));
            }
            return;
        }
        let repack = self.t5_3_repack.filter(|(least, _)| product.tokens.len() >= *least);
        let Some((_, repack)) = repack else { return call!(self.t5_3_gemm(product, out)) };
        // SAFETY: as in `call`.
        let rows = unsafe { repack(&product.matrix, product.rows.clone(), repacked) };
        let matrix = i2_s_matrix(i2_s::Rows::Padded, repacked, product.matrix.cols);
        let product = Product { rows, ..product.clone().of(matrix) };
        self.multiply_i2_s(many, &product, buffers, out);
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

impl ManyTokens {
    /// The number of tokens from which the method is faster than multiply-add.
    fn min_tokens(&self, layout: Layout) -> usize {
        let own = match layout {
            Layout::I2S(_) => None,
            Layout::I2T => self.i2_t.map(|kernel| kernel.min_tokens),
            Layout::T5_3 => self.t5_3.map(|kernel| kernel.min_tokens),
        };
        own.unwrap_or(self.i2_s.min_tokens)
    }

    /// The product with the tokens to multiply together, and with the few that are left, with their
    /// parts of the outputs.
    fn divide<'a, 'o, M: Copy>(
        &self,
        product: &Product<'a, M>,
        out: &'o mut [i32],
    ) -> [(Product<'a, M>, &'o mut [i32]); 2] {
        let tokens = product.tokens.clone();
        let rest = tokens.len() % self.lanes;
        let split = tokens.end - if rest < self.min_rest { rest } else { 0 };
        let (most, others) = out.split_at_mut((split - tokens.start) * product.rows.len());
        let of = |tokens| Product { tokens, ..product.clone() };
        [(of(tokens.start..split), most), (of(split..tokens.end), others)]
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
