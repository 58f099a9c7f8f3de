//! Float operations: dense matrices, norms, activation functions and attention; and scans of a
//! coarse head.

use super::{Kernels, call};
use crate::dense::{blocks, low_bit};
use crate::kv::{self, Block, Cells, Visible};
use crate::{
    BlockCodes, CodeGroup, CodeParts, DenseMatrix, NarrowCodes, NarrowGroup, SplitCodes,
    SplitParts, WideCodes, WideGroup, Workspace, scan,
};
use std::ops::Range;

impl Kernels {
    /// Multiplies rows of a dense matrix of floats with activations.
    ///
    /// `out[t * rows.len() + (r - rows.start)] = sum_k w[r][k] * x[t][k]`, in the order of
    /// [`dot`](Kernels::dot). The results of a token do not depend on the other tokens.
    ///
    /// `x` is `[tokens][cols]`; the length of `out` determines the number of tokens.
    pub fn dense_gemm(
        &self,
        w: &DenseMatrix<'_>,
        rows: Range<usize>,
        x: &[f32],
        workspace: &mut Workspace,
        out: &mut [f32],
    ) {
        assert!(!w.ty().has_blocks(), "a product of floats in {:?}", w.ty());
        let w = w.part(rows);
        let tokens = out.len().checked_div(w.rows()).unwrap_or(0);
        assert_eq!(out.len(), tokens * w.rows(), "outputs");
        if out.is_empty() || w.cols() == 0 {
            return out.fill(0.0);
        }
        assert_eq!(x.len(), tokens * w.cols(), "activations");
        call!(self.dense_gemm(w, x, &mut workspace.floats, out))
    }

    /// Rounds rows of activations to 16-bit codes. `x` is `[tokens][cols]`, one row for each row of
    /// `codes`.
    ///
    /// Every 256 columns have a step: the largest magnitude divided by 32,767. A code is the
    /// activation divided by the step, rounded to nearest, ties to even. If an activation is not
    /// finite, neither is the step, and the products are NaN or infinite.
    pub fn wide_codes(&self, x: &[f32], cols: usize, codes: CodeParts<'_, WideGroup>) {
        each_row(x, cols, codes, |x, codes, steps, sums| {
            call!(self.wide_codes(x, codes, steps, sums))
        });
    }

    /// Rounds rows of activations to 8-bit codes, as [`wide_codes`](Kernels::wide_codes) does to 16-bit
    /// ones. The divisor of steps is 127.
    pub fn narrow_codes(&self, x: &[f32], cols: usize, codes: CodeParts<'_, NarrowGroup>) {
        each_row(x, cols, codes, |x, codes, steps, sums| {
            call!(self.narrow_codes(x, codes, steps, sums))
        });
    }

    /// Multiplies rows of a dense matrix of a block type with the codes of activations.
    ///
    /// `out[t * rows.len() + (r - rows.start)]` is the product of row `r` and token `t`, computed
    /// in integers as far as the factors of blocks allow. The results of a token do not depend on
    /// the other tokens.
    ///
    /// The matrix has as many columns as `x`.
    pub fn block_gemm(
        &self,
        w: &DenseMatrix<'_>,
        rows: Range<usize>,
        x: &WideCodes,
        workspace: &mut Workspace,
        out: &mut [f32],
    ) {
        let w = block_rows(w, rows, x, out);
        if out.is_empty() || w.cols() == 0 {
            return out.fill(0.0);
        }
        call!(self.block_gemm(w, x, &mut workspace.blocks, out))
    }

    /// [`block_gemm`](Kernels::block_gemm) with codes of 8 bits.
    pub fn narrow_gemm(
        &self,
        w: &DenseMatrix<'_>,
        rows: Range<usize>,
        x: &NarrowCodes,
        workspace: &mut Workspace,
        out: &mut [f32],
    ) {
        let w = block_rows(w, rows, x, out);
        if out.is_empty() || w.cols() == 0 {
            return out.fill(0.0);
        }
        call!(self.narrow_gemm(w, x, &mut workspace.blocks, out))
    }

    /// Rounds rows of activations to codes that are split into bytes. `x` is `[tokens][cols]`, one
    /// row for each row of `codes`.
    ///
    /// Every 256 columns have a step: the largest magnitude divided by 4,194,303, or by 127 if codes
    /// are a single byte. A code is the activation divided by the step, rounded to nearest, ties to
    /// even. If an activation is not finite, neither is the step, and the products are NaN or
    /// infinite.
    pub fn split_codes(&self, x: &[f32], cols: usize, codes: SplitParts<'_>) {
        let SplitParts { form, n, chunks, steps } = codes;
        assert_eq!(n, cols.div_ceil(low_bit::CHUNK), "chunks");
        let rows = chunks.chunks_exact_mut(n.max(1)).zip(steps.chunks_exact_mut(n.max(1)));
        assert_eq!(x.len(), rows.len() * cols, "activations");
        for ((chunks, steps), x) in rows.zip(x.chunks_exact(cols.max(1))) {
            call!(self.split_codes(x, form, chunks, steps))
        }
    }

    /// Multiplies rows of a dense matrix with [codes of at most two bits](crate::DenseType::is_low_bit)
    /// with the codes of activations.
    ///
    /// `out[t * rows.len() + (r - rows.start)]` is the product of row `r` and token `t`. Sums of
    /// codes are exact integers. The results of a token do not depend on the other tokens.
    ///
    /// The matrix has as many columns as `x`.
    pub fn low_bit_gemm(
        &self,
        w: &DenseMatrix<'_>,
        rows: Range<usize>,
        x: &SplitCodes,
        workspace: &mut Workspace,
        out: &mut [f32],
    ) {
        let order = Some(x.form().order);
        assert_eq!(w.ty().column_order(), order, "a product of at most two bits in {:?}", w.ty());
        assert_eq!(x.cols(), w.cols(), "codes of a token");
        assert_eq!(out.len(), x.tokens() * rows.len(), "outputs");
        let w = w.part(rows);
        if out.is_empty() || w.cols() == 0 {
            return out.fill(0.0);
        }
        call!(self.low_bit_gemm(w, x, &mut workspace.low_bit, out))
    }

    /// Widens one row of a dense matrix into `out`, `[cols]`.
    pub fn dense_row(&self, w: &DenseMatrix<'_>, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), w.cols(), "outputs");
        call!(self.dense_row(w.part(row..row + 1), out))
    }

    /// Whether all weights of a dense matrix are zero. NaN is not.
    pub fn dense_is_zero(&self, w: &DenseMatrix<'_>) -> bool {
        let mut row = vec![0.0; w.cols()];
        (0..w.rows()).all(|r| {
            self.dense_row(w, r, &mut row);
            row.iter().all(|weight| *weight == 0.0)
        })
    }

    /// The dot product of two vectors of equal length.
    pub fn dot(&self, a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len(), "factors");
        call!(self.dot(a, b))
    }

    /// `out = x / sqrt(mean(x^2) + eps) * weight`. All slices have the same length.
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        assert_eq!(x.len(), weight.len(), "weights");
        assert_eq!(x.len(), out.len(), "outputs");
        call!(self.rms_norm(x, weight, eps, out))
    }

    /// `gate = relu(gate)^2 * up`, element by element.
    pub fn relu2_mul(&self, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len(), "factors");
        call!(self.relu2_mul(gate, up))
    }

    /// `gate = gate / (1 + exp(-gate)) * up`, element by element.
    pub fn silu_mul(&self, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len(), "factors");
        call!(self.silu_mul(gate, up))
    }

    /// `gate = gelu(gate) * up`, element by element. GELU is approximated by
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`.
    pub fn gelu_mul(&self, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len(), "factors");
        call!(self.gelu_mul(gate, up))
    }

    /// `x = exp(x - max(x)) / sum(exp(x - max(x)))`, with exp within 2 ulp.
    ///
    /// Entries of negative infinity become 0. If there are no others, all become NaN.
    pub fn softmax(&self, x: &mut [f32]) {
        call!(self.softmax(x))
    }

    /// Rotary embedding of one head, in place, on the pairs `(i, i + n)`. `cos` and `sin` have
    /// length `n`. Elements from `2 n` on are unchanged.
    pub fn rope_neox(&self, head: &mut [f32], cos: &[f32], sin: &[f32]) {
        assert_eq!(cos.len(), sin.len(), "sines");
        assert!(head.len() >= 2 * cos.len(), "{} of {} elements", 2 * cos.len(), head.len());
        call!(self.rope_neox(head, cos, sin))
    }

    /// Rotary embedding of one head, in place, on the pairs `(2 i, 2 i + 1)`, one for each element
    /// of `cos` and `sin`.
    pub fn rope_adjacent(&self, head: &mut [f32], cos: &[f32], sin: &[f32]) {
        assert_eq!(cos.len(), sin.len(), "sines");
        assert!(head.len() >= 2 * cos.len(), "{} of {} elements", 2 * cos.len(), head.len());
        call!(self.rope_adjacent(head, cos, sin))
    }

    /// Rounds to f16, as bits: to nearest, ties to even, to infinity outside the range.
    pub fn to_f16(&self, x: &[f32], out: &mut [u16]) {
        assert_eq!(x.len(), out.len(), "outputs");
        call!(self.to_f16(x, out))
    }

    /// The scores of query rows at the positions of one block of keys:
    /// `out[r][p] = scale * (q[r] keys[p])` for every `p` that row `r` sees. The product has the
    /// order of [`dot`](Kernels::dot). Other outputs of the block are unspecified.
    ///
    /// `q` is `[rows][head_dim]`, padded with zeros to whole panels. `out` is `[rows][positions]`;
    /// the 32 columns of the block are written.
    pub fn attend_scores(
        &self,
        q: &[f32],
        keys: Block<'_>,
        visible: Visible,
        scale: f32,
        out: &mut [f32],
    ) {
        let (width, positions) = (q.len() / visible.rows, out.len() / visible.rows);
        assert!(width.is_multiple_of(kv::BLOCK) && q.len() == width * visible.rows, "queries");
        assert!(positions.is_multiple_of(kv::BLOCK), "{positions} positions");
        assert_eq!(out.len(), positions * visible.rows, "outputs");
        assert!(keys.index < positions / kv::BLOCK, "block {} of {positions}", keys.index);
        assert_eq!(keys.cells.count(), width * kv::BLOCK, "keys");
        call!(self.attend_scores(q, keys, visible, scale, out))
    }

    /// Adds the values of one block, weighted by `weights`, to the sums of query rows.
    ///
    /// For every row and element, the positions that the row sees are added in order, by fused
    /// multiply-add. `weights` is `[rows][positions]`. `out` has the given panels,
    /// `[rows][32 panels]`.
    pub fn attend_values(
        &self,
        weights: &[f32],
        values: Block<'_>,
        panels: Range<usize>,
        visible: Visible,
        out: &mut [f32],
    ) {
        let positions = weights.len() / visible.rows;
        assert!(positions.is_multiple_of(kv::BLOCK), "{positions} positions");
        assert_eq!(weights.len(), positions * visible.rows, "weights");
        assert!(values.index < positions / kv::BLOCK, "block {} of {positions}", values.index);
        let width = values.cells.count() / kv::BLOCK;
        assert!(width.is_multiple_of(kv::BLOCK), "values of {width} elements");
        assert_eq!(values.cells.count(), width * kv::BLOCK, "values");
        assert!(panels.end * kv::BLOCK <= width, "panels {panels:?} of {width} elements");
        assert_eq!(out.len(), visible.rows * panels.len() * kv::BLOCK, "outputs");
        call!(self.attend_values(weights, values, panels, visible, out))
    }

    /// Attention of query rows over `blocks` blocks of one head. `cells(block)` returns the keys
    /// and values of a block.
    ///
    /// Combines [`attend_scores`](Kernels::attend_scores), the [`softmax`](Kernels::softmax) over
    /// the positions that each row sees, and [`attend_values`](Kernels::attend_values) over all
    /// panels. `scores` is `[rows][32 blocks]`.
    pub fn attend<'a>(
        &self,
        q: &[f32],
        cells: impl Fn(usize) -> (Cells<'a>, Cells<'a>),
        visible: Visible,
        scale: f32,
        scores: &mut [f32],
        out: &mut [f32],
    ) {
        let positions = scores.len() / visible.rows;
        let blocks = positions / kv::BLOCK;
        let next = |index: usize| (index + 1).min(blocks.saturating_sub(1));
        for index in 0..blocks {
            let keys = Block { index, cells: cells(index).0, next: cells(next(index)).0 };
            self.attend_scores(q, keys, visible, scale, scores);
        }
        for (row, scores) in scores.chunks_exact_mut(positions.max(1)).enumerate() {
            self.softmax(&mut scores[visible.of(row)]);
        }
        out.fill(0.0);
        let panels = q.len() / visible.rows / kv::BLOCK;
        for index in 0..blocks {
            let values = Block { index, cells: cells(index).1, next: cells(next(index)).1 };
            self.attend_values(scores, values, 0..panels, visible, out);
        }
    }

    /// Multiplies the codes of rows with those of some vectors, exactly: see [`scan`](mod@scan).
    ///
    /// `out[q][r] = sum_k codes[r][k] * queries[q][k]`, for codes of seven bits of which all but the
    /// first ones and those of the given `planes` are 0, and all or the high half of each code of a
    /// query. The length of `out` determines the number of rows. `planes` are at most
    /// [`scan::SCANNED`], the first refinements of these rows.
    pub fn scan(
        &self,
        codes: &[u8],
        planes: &[&[u8]],
        queries: &[scan::Query],
        precision: scan::Precision,
        out: &mut [i32],
    ) {
        let codes = codes.as_chunks().0;
        let rows = out.len() / queries.len().max(1);
        assert_eq!(out.len(), rows * queries.len(), "sums");
        let blocks = queries.first().map_or(0, |query| query.blocks());
        assert!(queries.iter().all(|query| query.blocks() == blocks), "queries");
        assert_eq!(codes.len(), rows * blocks, "codes");
        assert!(planes.len() <= scan::SCANNED, "planes");
        let mut bits = [[].as_slice(); scan::SCANNED];
        for (bits, plane) in bits.iter_mut().zip(planes) {
            *bits = plane.as_chunks().0;
            assert_eq!(bits.len(), codes.len(), "bits");
        }
        if codes.is_empty() {
            return out.fill(0);
        }
        call!(self.scan(codes, &bits[..planes.len()], queries, precision, out))
    }

    /// Writes what the anchors of a query, which must be those that it was set with, tell of its products
    /// with the rows from `first` on, a multiple of 16.
    pub fn known(
        &self,
        query: &scan::Query,
        anchors: &scan::Anchors,
        first: usize,
        out: &mut [f32],
    ) {
        assert!(first + out.len() <= anchors.rows() && first.is_multiple_of(16), "rows");
        call!(self.known(query, anchors, first, out))
    }

    /// Encloses the products of a vector with the rows from `rows.1` on, given their sums of codes with so many
    /// `refinements` and what is [`known`](Self::known).
    ///
    /// `low[r]` and `high[r]` are the ends of [`scan::Query::enclose`].
    pub fn enclose(
        &self,
        query: &scan::Query,
        precision: scan::Precision,
        refinements: usize,
        sums: (&[i32], &[f32]),
        rows: (scan::RowBounds<'_>, usize),
        [low, high]: [&mut [f32]; 2],
    ) {
        assert!(refinements <= scan::REFINEMENTS, "refinements");
        assert_eq!([sums.1.len(), low.len(), high.len()], [sums.0.len(); 3], "rows");
        assert!(rows.1 + sums.0.len() <= rows.0.rows(), "rows");
        call!(self.enclose(query, precision, refinements, sums, rows, [low, high]))
    }

    /// Refines the sums of some `rows` by one bit of their codes.
    ///
    /// `sums[i]` grows by `2^(3 - refinement) * sum_k bit[rows[i]][k] * x[k]`. `plane` holds this
    /// refinement of all rows.
    pub fn refine_scan(
        &self,
        plane: &[u8],
        refinement: usize,
        rows: &[u32],
        x: &scan::Query,
        precision: scan::Precision,
        sums: &mut [i32],
    ) {
        let bits = plane.as_chunks().0;
        assert!(refinement < scan::REFINEMENTS, "refinements");
        assert_eq!(rows.len(), sums.len(), "sums");
        call!(self.refine_scan(bits, refinement, rows, x, precision, sums))
    }
}

/// Calls a function for every row of activations, with its codes, steps and sums.
fn each_row<G>(
    x: &[f32],
    cols: usize,
    codes: CodeParts<'_, G>,
    round: impl Fn(&[f32], &mut [G], &mut [f32], &mut [[f32; blocks::GROUPS]]),
) {
    let CodeParts { n, codes, steps, sums } = codes;
    assert_eq!(n, cols.div_ceil(blocks::CHUNK), "chunks");
    let rows = codes.chunks_exact_mut((n * blocks::GROUPS).max(1));
    let rows = rows.zip(steps.chunks_exact_mut(n.max(1)));
    let rows = rows.zip(sums.chunks_exact_mut(n.max(1)));
    assert_eq!(x.len(), rows.len() * cols, "activations");
    for (((codes, steps), sums), x) in rows.zip(x.chunks_exact(cols.max(1))) {
        round(x, codes, steps, sums);
    }
}

/// The rows of a matrix of a block type, after a check of the shapes of a product.
fn block_rows<'a, G: CodeGroup>(
    w: &DenseMatrix<'a>,
    rows: Range<usize>,
    x: &BlockCodes<G>,
    out: &[f32],
) -> DenseMatrix<'a> {
    let ty = w.ty();
    assert!(ty.has_blocks() && !ty.is_low_bit(), "a product of blocks in {ty:?}");
    assert_eq!(x.cols(), w.cols(), "codes of a token");
    assert_eq!(out.len(), x.tokens() * rows.len(), "outputs");
    w.part(rows)
}
