//! The operations of the forward pass, each divided among the threads of a team.
//!
//! An operation is one fork and join, which costs a decoded token about as much as reading a few
//! dozen kilobytes. Products of the same input therefore share an operation, and element-by-element
//! work on a product is done by the thread that computed it.

mod attention;
pub(crate) mod experts;
mod sparse;

use std::ops::Range;

use trilobite_kernels::{
    CodeParts, Codes, ColumnOrder, DenseMatrix, DenseType, Kernels, Layout, Method, NarrowCodes,
    SplitForm, SplitParts, WideCodes, Workspace, wide_rest,
};

pub(crate) use self::attention::{Attention, AttentionBuffers, Heads, Run, scratch_len};
pub(crate) use self::sparse::MAX_COLUMNS_BATCH;

use crate::activations::Activations;
use crate::config::Activation;
use crate::model::Model;
use crate::profile::Stage;
use crate::scratch::{AllSplitCodes, Scratch, grown};
use crate::team::Pieces;
use crate::weights::{Kind, Matrix, MatrixView};
use crate::workers::Workers;

/// Rows of a dense matrix that a thread multiplies with a batch at a time: as many as its kernel
/// widens to f32.
const ROW_CHUNK: usize = 96;
/// Rows of a matrix with at most two bits a weight that a thread multiplies at a time. Tables of the
/// input are made for each of these pieces.
const LOW_BIT_CHUNK: usize = 1024;
/// Rows of a ternary matrix that a thread multiplies at a time. More are faster but their sums take
/// more memory.
const TERNARY_CHUNK: usize = 1280;
/// Granularity of the columns of an output that a thread takes: two cache lines of f32, and the
/// number of rows that some layouts interleave.
const ALIGN: usize = 32;
/// Minimum multiply-adds per thread: about a microsecond of work, which repays waking a thread.
const MIN_MULTIPLY_ADDS: usize = 1 << 16;
/// Bytes of weights per piece of a product with one token. It is small compared to a thread's
/// share, so that threads finish together, and large compared to the cost of starting a piece.
const PIECE_BYTES: usize = 64 * 1024;

/// The operations of the forward pass, with the threads and buffers they use.
pub(crate) struct Ops<'a> {
    pub(crate) workers: &'a mut Workers,
    pub(crate) model: &'a Model,
    /// Partial sums, `[threads][T][hidden]` for at most [`MAX_COLUMNS_BATCH`] tokens.
    pub(crate) parts: &'a mut [i32],
    /// Whether every weight is read and multiplied, with no shortcuts.
    pub(crate) plain: bool,
    /// How the input of weights in blocks is rounded.
    pub(crate) activations: Activations,
}

/// A buffer for the input of products.
pub(crate) struct InputBuffer {
    /// `[T][cols]`
    floats: Vec<f32>,
    wide: WideCodes,
    narrow: NarrowCodes,
    split: AllSplitCodes,
    codes: Codes,
}

/// The input of products, `[T][cols]`: f32 for float matrices, codes of 16 or 8 bits for block formats,
/// codes split into bytes for blocks of at most two bits, 8-bit codes for ternary matrices.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    count: usize,
    floats: &'a [f32],
    blocks: BlockInput<'a>,
    split: &'a AllSplitCodes,
    codes: &'a Codes,
}

/// The input of matrices of more than two bits in blocks.
#[derive(Clone, Copy)]
pub(crate) enum BlockInput<'a> {
    /// Codes of 16 bits.
    Wide(&'a WideCodes),
    /// Two rows of 16-bit codes for each token: those of its activations, and those of what the first
    /// leave.
    Pairs(&'a WideCodes),
    /// Codes of 8 bits.
    Narrow(&'a NarrowCodes),
}

impl InputBuffer {
    /// Allocates a buffer for `count` tokens of up to `cols` activations.
    pub(crate) fn new(count: usize, cols: usize) -> Self {
        Self {
            floats: vec![0.0; count * cols],
            wide: WideCodes::default(),
            narrow: NarrowCodes::default(),
            split: AllSplitCodes::default(),
            codes: Codes::new(count, cols),
        }
    }
}

impl Ops<'_> {
    /// Prepares the input of some matrices from `x`, `[count][cols]`, after an RMS norm if one is
    /// given.
    pub(crate) fn prepare<'b>(
        &mut self,
        x: &'b [f32],
        norm: Option<&[f32]>,
        count: usize,
        matrices: &[&Matrix],
        prepared: &'b mut InputBuffer,
    ) -> Input<'b> {
        let eps = self.model.config().norm_eps;
        self.prepare_by(x, norm, eps, count, matrices, prepared)
    }

    /// Prepares the input of one matrix from `x`, `[count][cols]`, after `norm` if one is given, and
    /// then the matrix's own norm if it has one. `normed` is a buffer for the result of `norm`.
    pub(crate) fn prepare_one<'b>(
        &mut self,
        x: &'b [f32],
        norm: Option<&[f32]>,
        count: usize,
        matrix: &Matrix,
        normed: &'b mut [f32],
        prepared: &'b mut InputBuffer,
    ) -> Input<'b> {
        let Some(own) = matrix.input_norm.as_deref() else {
            return self.prepare(x, norm, count, &[matrix], prepared);
        };
        let x = match norm {
            Some(norm) => {
                rms_norm(self.workers, x, norm, self.model.config().norm_eps, count, normed)
            }
            None => x,
        };
        let eps = self.model.config().projection_norm_eps;
        self.prepare_by(x, Some(own), eps, count, &[matrix], prepared)
    }

    fn prepare_by<'b>(
        &mut self,
        x: &'b [f32],
        norm: Option<&[f32]>,
        eps: f32,
        count: usize,
        matrices: &[&Matrix],
        prepared: &'b mut InputBuffer,
    ) -> Input<'b> {
        let width = x.len() / count;
        let ternary = matrices.iter().filter(|m| matches!(m.kind, Kind::Ternary { .. })).count();
        let dense = || {
            matrices.iter().filter_map(|m| match m.kind {
                Kind::Dense(ty) => Some(ty),
                Kind::Ternary { .. } => None,
            })
        };
        let blocks = dense().any(|ty| ty.has_blocks() && !ty.is_low_bit());
        let int8 = self.activations == Activations::Int8;
        let pairs = self.model.config().pairs_codes && !int8;
        let InputBuffer { floats, wide, narrow, split, codes } = prepared;

        let (mut x, mut norm) = (x, norm);
        if let Some(weight) = norm.filter(|_| ternary < matrices.len()) {
            (x, norm) = (rms_norm(self.workers, x, weight, eps, count, floats), None);
        }
        let (kernels, team) = (self.workers.kernels, &mut self.workers.team);
        if ternary > 0 {
            codes.reset(count, width);
            let parts = codes.parts_mut();
            let rows = (parts.rows, parts.stride);
            team.rows3(rows, (parts.scales, 1), (parts.sums, 1), |scratch, t, row, s, sum| {
                let x = &x[t * width..(t + 1) * width];
                let codes = &mut row[parts.codes.clone()];
                (s[0], sum[0]) = match norm {
                    None => kernels.quantize_row(x, codes),
                    Some(weight) => {
                        let normed = grown(&mut scratch.floats, width);
                        kernels.rms_norm(x, weight, eps, normed);
                        kernels.quantize_row(normed, codes)
                    }
                };
            });
        }
        if blocks && int8 {
            narrow.reset(count, width);
            let CodeParts { n, codes, steps, sums } = narrow.parts_mut();
            let each = codes.len() / count;
            let (codes, steps, sums) = ((codes, each), (steps, n), (sums, n));
            team.rows3(codes, steps, sums, |_, t, codes, steps, sums| {
                let codes = CodeParts { n, codes, steps, sums };
                kernels.narrow_codes(&x[t * width..(t + 1) * width], width, codes);
            });
        } else if blocks {
            let each = 1 + usize::from(pairs);
            wide.reset(count * each, width);
            let CodeParts { n, codes, steps, sums } = wide.parts_mut();
            let rows = (codes.len() / count, each * n);
            let (codes, steps, sums) = ((codes, rows.0), (steps, rows.1), (sums, rows.1));
            team.rows3(codes, steps, sums, |scratch, t, codes, steps, sums| {
                let codes = CodeParts { n, codes, steps, sums };
                let x = &x[t * width..(t + 1) * width];
                if !pairs {
                    return kernels.wide_codes(x, width, codes);
                }
                let both = grown(&mut scratch.floats, 2 * width);
                let (first, rest) = both.split_at_mut(width);
                first.copy_from_slice(x);
                wide_rest(x, rest);
                kernels.wide_codes(both, width, codes);
            });
        }
        for (order, split) in ColumnOrder::ALL.into_iter().zip(&mut *split) {
            if !dense().any(|ty| ty.column_order() == Some(order)) {
                continue;
            }
            split.reset(count, width, SplitForm { order, int8 });
            let SplitParts { form, n, chunks, steps } = split.parts_mut();
            let none: (&mut [()], usize) = (&mut [], 0);
            team.rows3((chunks, n), (steps, n), none, |_, t, chunks, steps, _| {
                let codes = SplitParts { form, n, chunks, steps };
                kernels.split_codes(&x[t * width..(t + 1) * width], width, codes);
            });
        }
        self.workers.lap(Stage::Normalise);
        let blocks = match (int8, pairs) {
            (true, _) => BlockInput::Narrow(narrow),
            (false, true) => BlockInput::Pairs(wide),
            (false, false) => BlockInput::Wide(wide),
        };
        Input { count, floats: x, blocks, split, codes }
    }

    /// `out[T][rows] = input[T][cols] * matrix^T` for each matrix.
    pub(crate) fn linear<const N: usize>(
        &mut self,
        input: Input<'_>,
        products: [(&Matrix, &mut [f32]); N],
    ) {
        let (kernels, model, plain) = (self.workers.kernels, self.model, self.plain);
        let matrices = products.each_ref().map(|(matrix, _)| *matrix);
        let outs =
            products.map(|(matrix, out)| (&mut out[..input.count * matrix.rows], matrix.rows));
        let products = matrices.map(|matrix| Product::new(kernels, model, matrix, input, plain));
        let split = products[0].split();
        self.workers.team.columns(outs, ALIGN, split, |scratch, index, rows, strip| {
            products[index]
                .each(rows, scratch, |t, part, values| values.write(&mut strip.row(t)[part]));
        });
    }

    /// `x[T][rows] += a * norm(input[T][cols] * matrix^T)`, where `a` is the factor of the residual
    /// stream. `added` is a buffer for the product.
    pub(crate) fn residual(
        &mut self,
        input: Input<'_>,
        matrix: &Matrix,
        norm: Option<&[f32]>,
        added: &mut [f32],
        x: &mut [f32],
    ) {
        let Some(norm) = norm else { return self.linear_add(input, matrix, x) };
        self.linear(input, [(matrix, &mut *added)]);
        let kernels = self.workers.kernels;
        let config = self.model.config();
        let (width, eps, factor) = (matrix.rows, config.norm_eps, config.residual_scale);
        self.workers.team.rows(&mut x[..input.count * width], width, |scratch, t, x| {
            let normed = grown(&mut scratch.floats, width);
            kernels.rms_norm(&added[t * width..(t + 1) * width], norm, eps, normed);
            for (x, normed) in x.iter_mut().zip(normed) {
                *x += *normed * factor;
            }
        });
    }

    /// `x[T][rows] += a * (input[T][cols] * matrix^T)`.
    fn linear_add(&mut self, input: Input<'_>, matrix: &Matrix, x: &mut [f32]) {
        let factor = self.model.config().residual_scale;
        if factor == 1.0 && self.add_columns(input, matrix, x) {
            return;
        }
        let (kernels, model, plain) = (self.workers.kernels, self.model, self.plain);
        let x = (&mut x[..input.count * matrix.rows], matrix.rows);
        let product = Product::new(kernels, model, matrix, input, plain);
        self.workers.team.columns([x], ALIGN, product.split(), |scratch, _, rows, strip| {
            product.each(rows, scratch, |t, part, values| {
                values.add(factor, &mut strip.row(t)[part]);
            });
        });
    }

    /// `gate[T][width] = activation(gate) * up`.
    pub(crate) fn activate(
        &mut self,
        activation: Activation,
        gate: &mut [f32],
        up: &[f32],
        width: usize,
    ) {
        let kernels = self.workers.kernels;
        self.workers.team.rows(gate, width, |_, t, gate| {
            activate(kernels, activation, gate, &up[t * width..(t + 1) * width]);
        });
    }

    /// `out[T][rows] = activation(input * gate^T) * (input * up^T)`.
    pub(crate) fn gated(
        &mut self,
        input: Input<'_>,
        (gate, up): (&Matrix, &Matrix),
        activation: Activation,
        out: &mut [f32],
    ) {
        let (kernels, model, plain) = (self.workers.kernels, self.model, self.plain);
        let out = (&mut out[..input.count * gate.rows], gate.rows);
        let [gate, up] =
            [gate, up].map(|matrix| Product::new(kernels, model, matrix, input, plain));
        let (step, sparse) = (gate.step().min(up.step()), up.sparse(activation));
        let mut split = gate.split();
        if sparse.is_some() {
            // Chosen rows are prefetched within a piece only, so pieces are larger.
            split.size = split.size.saturating_mul(8);
        }
        self.workers.team.columns([out], ALIGN, split, |scratch, _, rows, strip| {
            let mut up_row = std::mem::take(&mut scratch.row);
            for (start, rows) in pieces(rows, step) {
                let part = start..start + rows.len();
                gate.piece(rows.clone(), scratch, |t, values| {
                    values.write(&mut strip.row(t)[part.clone()]);
                });
                if let Some(up) = &sparse
                    && up.gate(rows.clone(), scratch, strip, part.clone())
                {
                    continue;
                }
                let up_row = grown(&mut up_row, rows.len());
                up.piece(rows, scratch, |t, values| {
                    values.write(up_row);
                    let gate = &mut strip.row(t)[part.clone()];
                    activate(kernels, activation, gate, up_row);
                });
            }
            scratch.row = up_row;
        });
    }
}

/// Replaces each gate by `activation(gate) * up`.
fn activate(kernels: &Kernels, activation: Activation, gate: &mut [f32], up: &[f32]) {
    match activation {
        Activation::Relu2 => kernels.relu2_mul(gate, up),
        Activation::Silu => kernels.silu_mul(gate, up),
        Activation::Gelu => kernels.gelu_mul(gate, up),
    }
}

/// The product of a matrix with an input.
#[derive(Clone, Copy)]
struct Product<'a> {
    kernels: &'static Kernels,
    matrix: &'a Matrix,
    weights: MatrixView<'a>,
    input: Input<'a>,
    plain: bool,
}

/// Some outputs of one token, and the bias to add to them.
struct Values<'a> {
    products: Products<'a>,
    /// The bias, empty if the matrix has none.
    bias: &'a [f32],
}

enum Products<'a> {
    /// Integer sums and the factor that scales them.
    Ternary(&'a [i32], f32),
    Dense(&'a [f32]),
}

impl Values<'_> {
    fn write(self, out: &mut [f32]) {
        match self.products {
            Products::Ternary(sums, scale) => {
                for (out, &sum) in out.iter_mut().zip(sums) {
                    *out = sum as f32 * scale;
                }
            }
            Products::Dense(values) => out.copy_from_slice(values),
        }
        for (out, bias) in out.iter_mut().zip(self.bias) {
            *out += bias;
        }
    }

    /// Adds the values, times a factor. A factor of 1 changes no bit.
    fn add(self, factor: f32, out: &mut [f32]) {
        match self.products {
            Products::Ternary(sums, scale) => {
                for (out, &sum) in out.iter_mut().zip(sums) {
                    *out += sum as f32 * scale * factor;
                }
            }
            Products::Dense(values) => {
                for (out, value) in out.iter_mut().zip(values) {
                    *out += value * factor;
                }
            }
        }
        for (out, bias) in out.iter_mut().zip(self.bias) {
            *out += bias * factor;
        }
    }
}

impl<'a> Product<'a> {
    fn new(
        kernels: &'static Kernels,
        model: &'a Model,
        matrix: &'a Matrix,
        input: Input<'a>,
        plain: bool,
    ) -> Self {
        Self { kernels, matrix, weights: model.view(matrix), input, plain }
    }

    /// Computes some rows in small groups and calls `put(token, offset within rows, values)`.
    fn each(
        self,
        rows: Range<usize>,
        scratch: &mut Scratch,
        mut put: impl FnMut(usize, Range<usize>, Values<'_>),
    ) {
        for (start, rows) in pieces(rows, self.step()) {
            let part = start..start + rows.len();
            self.piece(rows, scratch, |t, values| put(t, part.clone(), values));
        }
    }

    /// How the rows are divided among threads.
    fn split(self) -> Pieces {
        let Matrix { rows, cols, kind, ref place, .. } = *self.matrix;
        let size = match kind {
            // Every piece builds tables or a list of the input.
            Kind::Ternary { layout: Layout::T5_3 | Layout::I2T, .. } if self.input.count == 1 => {
                usize::MAX
            }
            _ if self.input.count == 1 => PIECE_BYTES / (place.range.len() / rows.max(1)).max(1),
            Kind::Ternary { .. } => TERNARY_CHUNK,
            Kind::Dense(ty) => row_chunk(ty),
        };
        Pieces { least: MIN_MULTIPLY_ADDS / (cols * self.input.count).max(1), size }
    }

    /// Number of rows to compute at a time.
    fn step(self) -> usize {
        match self.matrix.kind {
            _ if self.input.count == 1 => usize::MAX,
            Kind::Ternary { .. } => TERNARY_CHUNK,
            Kind::Dense(ty) => row_chunk(ty),
        }
    }

    /// Computes some rows for every token and calls `put(token, values)`.
    fn piece(
        self,
        rows: Range<usize>,
        scratch: &mut Scratch,
        mut put: impl FnMut(usize, Values<'_>),
    ) {
        let Input { count, floats, blocks, split, codes } = self.input;
        let len = rows.len();
        let bias = self.matrix.bias.as_ref().map_or(&[][..], |bias| &bias[rows.clone()]);
        let Scratch { sums, floats: values, workspace, .. } = scratch;
        match &self.weights {
            MatrixView::Ternary(matrix, scale) => {
                let sums = grown(sums, count * len);
                let method = match self.plain {
                    true => Method::MultiplyAdd,
                    false => self.kernels.fastest_method(matrix.layout(), len, count),
                };
                self.kernels.ternary_gemm_by(method, matrix, rows, codes, workspace, sums);
                for (t, sums) in sums.chunks_exact(len).enumerate() {
                    let products = Products::Ternary(sums, scale / codes.scales()[t]);
                    put(t, Values { products, bias });
                }
            }
            MatrixView::Dense(matrix) => {
                let (first, outliers) = (rows.start, self.matrix.outliers_of(rows.clone()));
                let inputs = Inputs { count, floats, blocks, split };
                let values = dense_product(self.kernels, matrix, rows, inputs, workspace, values);
                for (t, values) in values.chunks_exact_mut(len).enumerate() {
                    // Every row adds its outliers in the order of columns.
                    for outlier in outliers {
                        let x = floats[t * matrix.cols() + outlier.col as usize];
                        values[outlier.row as usize - first] += outlier.value * x;
                    }
                    put(t, Values { products: Products::Dense(values), bias });
                }
            }
        }
    }
}

/// Rows of a dense matrix that a thread multiplies with a batch at a time.
fn row_chunk(ty: DenseType) -> usize {
    if ty.is_low_bit() { LOW_BIT_CHUNK } else { ROW_CHUNK }
}

/// The RMS norm of every row of `x`, `[count][cols]`.
fn rms_norm<'b>(
    workers: &mut Workers,
    x: &[f32],
    weight: &[f32],
    eps: f32,
    count: usize,
    normed: &'b mut [f32],
) -> &'b [f32] {
    let (kernels, width) = (workers.kernels, x.len() / count);
    let normed = &mut normed[..x.len()];
    workers.team.rows(normed, width, |_, t, out| {
        kernels.rms_norm(&x[t * width..(t + 1) * width], weight, eps, out);
    });
    normed
}

/// The input of products with dense matrices: see [`Input`].
#[derive(Clone, Copy)]
struct Inputs<'a> {
    count: usize,
    floats: &'a [f32],
    blocks: BlockInput<'a>,
    split: &'a AllSplitCodes,
}

/// `out[count][rows] = inputs[count][cols] * rows^T`, in a buffer.
fn dense_product<'b>(
    kernels: &Kernels,
    matrix: &DenseMatrix<'_>,
    rows: Range<usize>,
    inputs: Inputs<'_>,
    workspace: &mut Workspace,
    buffer: &'b mut Vec<f32>,
) -> &'b mut [f32] {
    let Inputs { count, floats, blocks, split } = inputs;
    let len = count * rows.len();
    if let Some(order) = matrix.ty().column_order() {
        let out = grown(buffer, len);
        kernels.low_bit_gemm(matrix, rows, &split[order as usize], workspace, out);
        return out;
    }
    if !matrix.ty().has_blocks() {
        let out = grown(buffer, len);
        kernels.dense_gemm(matrix, rows, floats, workspace, out);
        return out;
    }
    match blocks {
        BlockInput::Narrow(codes) => {
            let out = grown(buffer, len);
            kernels.narrow_gemm(matrix, rows, codes, workspace, out);
            out
        }
        BlockInput::Wide(codes) => {
            let out = grown(buffer, len);
            kernels.block_gemm(matrix, rows, codes, workspace, out);
            out
        }
        BlockInput::Pairs(codes) => {
            let width = rows.len();
            let out = grown(buffer, 2 * len);
            kernels.block_gemm(matrix, rows, codes, workspace, out);
            for t in 0..count {
                for i in 0..width {
                    out[t * width + i] = out[2 * t * width + i] + out[(2 * t + 1) * width + i];
                }
            }
            &mut out[..len]
        }
    }
}

/// Cuts a range into pieces of at most `step`, each with its offset from the start.
fn pieces(range: Range<usize>, step: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    let first = range.start;
    range.clone().step_by(step).map(move |start| {
        let end = range.end.min(start.saturating_add(step));
        (start - first, start..end)
    })
}
