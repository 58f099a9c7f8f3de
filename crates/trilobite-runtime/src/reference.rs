//! The forward pass by plain loops in f64, to compare the fast one with.
//!
//! It shares with the fast pass how a file is read, how a weight is decoded, and the table of rotary
//! positions. All arithmetic after that is its own: one loop over the weights of a row, every sum in
//! f64 or exact in integers. It takes the residual stream of the fast pass before each half of a
//! layer and computes the stream after it, so errors do not add up from layer to layer, and a
//! difference is found where it arises.

use std::ops::Range;

use trilobite_format::model::Rope;
use trilobite_kernels::{DenseMatrix, Kernels};

use crate::config::{Activation, Experts, RopePairs};
use crate::error::Result;
use crate::model::Model;
use crate::rope::RopeTable;
use crate::weights::{Layer, Matrix, MatrixView, RopeDivisors};

/// The largest code of an int8 activation.
const MAX_CODE: f32 = 127.0;
/// The smallest divisor of the scale of int8 activations.
const LEAST_ABSMAX: f32 = 1e-5;

/// The forward pass of one sequence from its beginning.
///
/// Vectors of all tokens are `[T][width]`.
pub struct Reference<'a> {
    model: &'a Model,
    /// Decodes weights. The first kernels are the scalar ones.
    kernels: &'static Kernels,
    threads: usize,
    rope: RopeTable,
    local_rope: Option<RopeTable>,
}

impl<'a> Reference<'a> {
    /// Creates the pass for a context of this many tokens.
    ///
    /// # Errors
    /// `TRILOBITE_ISA` names an instruction set that cannot be used.
    pub fn new(model: &'a Model, context: usize, threads: usize) -> Result<Self> {
        let config = model.config();
        let table = |rope: &Rope, divisors: &RopeDivisors| {
            let mut table = RopeTable::new(rope, divisors, config.rope_dim, context);
            table.extend(context);
            table
        };
        let divisors = &model.weights().rope_divisors;
        let local_rope = config.window.as_ref().map(|window| match window.scaled {
            true => table(&Rope { theta: window.rope_theta, ..config.rope.clone() }, divisors),
            false => table(&Rope::unscaled(window.rope_theta), &RopeDivisors::None),
        });
        let kernels = Kernels::available().into_iter().next().map_or_else(Kernels::detect, Ok)?;
        let rope = table(&config.rope, divisors);
        Ok(Self { model, kernels, threads, rope, local_rope })
    }

    /// The residual stream after the token embedding.
    pub fn embedding(&self, tokens: &[u32]) -> Vec<f64> {
        let (config, matrix) = (self.model.config(), &self.model.weights().embedding);
        let table = self.model.embedding();
        let rows = tokens.iter().flat_map(|&token| {
            let row = self.dense_row(matrix, &table, token as usize);
            row.into_iter().map(|x| x * f64::from(config.embedding_scale))
        });
        rows.collect()
    }

    /// The residual stream after the attention of a layer, given the one before it:
    /// `x + a * post_norm(o(sub_norm(attention(q, k, v of norm(x)))))`.
    pub fn attention(&self, index: usize, x: &[f32]) -> Vec<f64> {
        let (config, layer) = (self.model.config(), &self.model.weights().layers[index]);
        let x: Vec<f64> = x.iter().copied().map(f64::from).collect();
        let normed = norm(&x, &layer.attn_norm, config.norm_eps);
        let [mut q, mut k, v] = [&layer.q, &layer.k, &layer.v].map(|m| self.product(m, &normed));
        let rope = self.local_rope.as_ref().filter(|_| config.window(index).is_some());
        for (heads, weight, width) in
            [(&mut q, &layer.q_norm, config.q_width()), (&mut k, &layer.k_norm, config.kv_width())]
        {
            if let Some(weight) = weight {
                *heads = norm(heads, weight, config.norm_eps);
            }
            for (position, heads) in heads.chunks_exact_mut(width).enumerate() {
                if config.rotates(index) {
                    let (cos, sin) = rope.unwrap_or(&self.rope).at(position);
                    let heads = heads.chunks_exact_mut(config.head_dim);
                    heads.for_each(|head| rotate(head, config.rope_pairs, cos, sin));
                }
            }
        }
        let mut attended = self.attend(index, &q, &k, &v);
        if let Some(weight) = &layer.attn_sub_norm {
            attended = norm(&attended, weight, config.norm_eps);
        }
        let added = self.product(&layer.o, &attended);
        self.add(&x, added, layer.attn_post_norm.as_deref())
    }

    /// For every token and query head, the values of the head's group weighted by the softmax of
    /// `scale * q k` over the tokens that it sees.
    fn attend(&self, index: usize, q: &[f64], k: &[f64], v: &[f64]) -> Vec<f64> {
        let config = self.model.config();
        let (dim, kv_width) = (config.head_dim, config.kv_width());
        let window = config.window(index).map_or(usize::MAX, |window| window.tokens);
        let mut out = Vec::with_capacity(q.len());
        for (t, heads) in q.chunks_exact(config.q_width()).enumerate() {
            for (h, q) in heads.chunks_exact(dim).enumerate() {
                let first = h / (config.heads / config.kv_heads) * dim;
                let at = |t: usize| t * kv_width + first..t * kv_width + first + dim;
                let seen = (t + 1).saturating_sub(window)..t + 1;
                let score = |t: usize| f64::from(config.attention_scale) * dot(q, &k[at(t)]);
                let weights = softmax(seen.clone().map(score).collect());
                let mut sum = vec![0.0; dim];
                for (t, weight) in seen.zip(weights) {
                    sum.iter_mut().zip(&v[at(t)]).for_each(|(sum, v)| *sum += weight * v);
                }
                out.extend(sum);
            }
        }
        out
    }

    /// The residual stream after the feed-forward network of a layer, given the one before it:
    /// `x + a * post_norm(down(sub_norm(act(gate(norm(x))) * up(norm(x)))))`, or the weighted sum of
    /// the experts of each token.
    pub fn feed_forward(&self, index: usize, x: &[f32]) -> Vec<f64> {
        let (config, layer) = (self.model.config(), &self.model.weights().layers[index]);
        let x: Vec<f64> = x.iter().copied().map(f64::from).collect();
        let normed = norm(&x, &layer.ffn_norm, config.norm_eps);
        if let (Some(router), Some(experts)) = (&layer.router, &config.experts) {
            let added = self.mixture(layer, router, experts, experts.clamp[index], &normed);
            return self.add(&x, added, None);
        }
        let mut gated = self.product(&layer.gate, &normed);
        let up = self.product(&layer.up, &normed);
        for (gate, up) in gated.iter_mut().zip(up) {
            *gate = activate(config.activation, *gate) * up;
        }
        if let Some(weight) = &layer.ffn_sub_norm {
            gated = norm(&gated, weight, config.norm_eps);
        }
        let added = self.product(&layer.down, &gated);
        self.add(&x, added, layer.ffn_post_norm.as_deref())
    }

    /// The sum of what the experts of each token give, weighted by their probabilities.
    fn mixture(
        &self,
        layer: &Layer,
        router: &Matrix,
        experts: &Experts,
        clamp: f32,
        x: &[f64],
    ) -> Vec<f64> {
        let config = self.model.config();
        let (hidden, width, clamp) = (config.hidden, config.intermediate, f64::from(clamp));
        let mut out = Vec::with_capacity(x.len());
        for x in x.chunks_exact(hidden) {
            let probabilities = softmax(self.product(router, x));
            let mut order: Vec<usize> = (0..experts.count).collect();
            order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
            order.truncate(experts.used);
            let total: f64 = order.iter().map(|&expert| probabilities[expert]).sum();
            let mut sum = vec![0.0; hidden];
            for expert in order {
                let rows = expert * width..(expert + 1) * width;
                let mut gated = self.rows(&layer.gate, rows.clone(), x);
                for (gate, up) in gated.iter_mut().zip(self.rows(&layer.up, rows, x)) {
                    let gate_value = activate(Activation::Silu, gate.min(clamp));
                    *gate = gate_value * up.clamp(-clamp, clamp);
                }
                let rows = expert * hidden..(expert + 1) * hidden;
                let weight = probabilities[expert] / total;
                let down = self.rows(&layer.down, rows, &gated);
                sum.iter_mut().zip(down).for_each(|(sum, down)| *sum += weight * down);
            }
            out.extend(sum);
        }
        out
    }

    /// The hidden states after the last norm.
    pub fn normed(&self, x: &[f32]) -> Vec<f64> {
        let x: Vec<f64> = x.iter().copied().map(f64::from).collect();
        norm(&x, &self.model.weights().output_norm, self.model.config().norm_eps)
    }

    /// The logits, `[T][vocab]`, given the residual stream after the last layer.
    pub fn logits(&self, x: &[f32]) -> Vec<f64> {
        let mut logits = self.product(&self.model.weights().head, &self.normed(x));
        if let Some(cap) = self.model.config().logit_cap.map(f64::from) {
            logits.iter_mut().for_each(|logit| *logit = cap * libm::tanh(*logit / cap));
        }
        logits
    }

    /// `x + a * norm(added)`.
    fn add(&self, x: &[f64], added: Vec<f64>, weight: Option<&[f32]>) -> Vec<f64> {
        let config = self.model.config();
        let added = match weight {
            Some(weight) => norm(&added, weight, config.norm_eps),
            None => added,
        };
        let factor = f64::from(config.residual_scale);
        x.iter().zip(added).map(|(x, added)| x + factor * added).collect()
    }

    /// `x[T][cols] * matrix^T` with the bias, after the matrix's own norm if it has one.
    fn product(&self, matrix: &Matrix, x: &[f64]) -> Vec<f64> {
        match &matrix.input_norm {
            Some(weight) => {
                let eps = self.model.config().projection_norm_eps;
                self.rows(matrix, 0..matrix.rows, &norm(x, weight, eps))
            }
            None => self.rows(matrix, 0..matrix.rows, x),
        }
    }

    /// The products of some rows of a matrix, `[T][rows]`. Threads divide the rows.
    fn rows(&self, matrix: &Matrix, rows: Range<usize>, x: &[f64]) -> Vec<f64> {
        let (count, tokens) = (rows.len(), x.len() / matrix.cols);
        let weights = self.decoded(matrix);
        let each = count.div_ceil(self.threads.max(1)).max(1);
        let parts: Vec<Range<usize>> =
            rows.clone().step_by(each).map(|start| start..rows.end.min(start + each)).collect();
        let computed: Vec<Vec<f64>> = std::thread::scope(|scope| {
            let threads: Vec<_> = parts
                .iter()
                .map(|part| scope.spawn(|| self.some_rows(matrix, &weights, part.clone(), x)))
                .collect();
            let joined = threads.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            joined.collect()
        });
        let mut out = vec![0.0; tokens * count];
        for (part, products) in parts.into_iter().zip(computed) {
            let first = part.start - rows.start;
            for (r, products) in products.chunks_exact(tokens).enumerate() {
                for (t, product) in products.iter().enumerate() {
                    let bias = matrix.bias.as_ref().map_or(0.0, |bias| bias[part.start + r]);
                    out[t * count + first + r] = product + f64::from(bias);
                }
            }
        }
        out
    }

    /// The products of some rows of a matrix, `[rows][T]`.
    fn some_rows(
        &self,
        matrix: &Matrix,
        weights: &Decoded<'_>,
        rows: Range<usize>,
        x: &[f64],
    ) -> Vec<f64> {
        let cols = matrix.cols;
        match weights {
            Decoded::Ternary(trits, scale) => {
                let inputs: Vec<(Vec<i32>, f32)> = x.chunks_exact(cols).map(codes).collect();
                let rows = trits[rows.start * cols..rows.end * cols].chunks_exact(cols);
                let products = rows.flat_map(|row| {
                    inputs.iter().map(move |(codes, step)| {
                        let sum: i32 = row.iter().zip(codes).map(|(w, x)| i32::from(*w) * x).sum();
                        f64::from(sum) * f64::from(*scale) / f64::from(*step)
                    })
                });
                products.collect()
            }
            Decoded::Dense(weights) => {
                let products = rows.flat_map(|row| {
                    let row = self.dense_row(matrix, weights, row);
                    x.chunks_exact(cols).map(move |x| dot(&row, x))
                });
                products.collect()
            }
        }
    }

    fn decoded(&self, matrix: &Matrix) -> Decoded<'a> {
        match self.model.view(matrix) {
            MatrixView::Ternary(weights, scale) => {
                let mut trits = vec![0; matrix.rows * matrix.cols];
                weights.layout().unpack(weights.packed(), matrix.cols, &mut trits);
                Decoded::Ternary(trits, scale)
            }
            MatrixView::Dense(weights) => Decoded::Dense(weights),
        }
    }

    /// A row of a dense matrix, with the outliers added.
    fn dense_row(&self, matrix: &Matrix, weights: &DenseMatrix<'_>, row: usize) -> Vec<f64> {
        let mut values = vec![0.0; matrix.cols];
        self.kernels.dense_row(weights, row, &mut values);
        let mut values: Vec<f64> = values.into_iter().map(f64::from).collect();
        for outlier in matrix.outliers_of(row..row + 1) {
            values[outlier.col as usize] += f64::from(outlier.value);
        }
        values
    }
}

/// The weights of a matrix.
enum Decoded<'a> {
    /// Trits, `[rows][cols]`, and the value of a trit of 1.
    Ternary(Vec<i8>, f32),
    /// Rows are decoded one at a time.
    Dense(DenseMatrix<'a>),
}

/// The int8 codes of the activations of a token, and their scale: `127 / absmax`, in f32 as the model
/// is defined.
fn codes(x: &[f64]) -> (Vec<i32>, f32) {
    let x: Vec<f32> = x.iter().map(|x| *x as f32).collect();
    let absmax = x.iter().fold(LEAST_ABSMAX, |max, x| max.max(x.abs()));
    let scale = MAX_CODE / absmax;
    (x.iter().map(|x| (x * scale).round_ties_even() as i32).collect(), scale)
}

/// `weight * x / sqrt(mean(x^2) + eps)` of each vector as long as `weight`.
fn norm(x: &[f64], weight: &[f32], eps: f32) -> Vec<f64> {
    let mut out = Vec::with_capacity(x.len());
    for x in x.chunks_exact(weight.len()) {
        let factor = 1.0 / (dot(x, x) / x.len() as f64 + f64::from(eps)).sqrt();
        out.extend(x.iter().zip(weight).map(|(x, weight)| x * factor * f64::from(*weight)));
    }
    out
}

/// Rotates the pairs of a head.
fn rotate(head: &mut [f64], pairs: RopePairs, cos: &[f32], sin: &[f32]) {
    let half = cos.len();
    for (i, (cos, sin)) in cos.iter().zip(sin).enumerate() {
        let (a, b) = match pairs {
            RopePairs::Halves => (i, i + half),
            RopePairs::Adjacent => (2 * i, 2 * i + 1),
        };
        let (cos, sin) = (f64::from(*cos), f64::from(*sin));
        (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[b] * cos + head[a] * sin);
    }
}

fn activate(activation: Activation, x: f64) -> f64 {
    /// `sqrt(2 / pi)`
    const GELU: f64 = 0.797_884_560_802_865_4;
    match activation {
        Activation::Relu2 => x.max(0.0).powi(2),
        Activation::Silu => x / (1.0 + libm::exp(-x)),
        Activation::Gelu => 0.5 * x * (1.0 + libm::tanh(GELU * (x + 0.044_715 * x.powi(3)))),
    }
}

fn softmax(mut x: Vec<f64>) -> Vec<f64> {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    x.iter_mut().for_each(|x| *x = libm::exp(*x - max));
    let sum: f64 = x.iter().sum();
    x.iter_mut().for_each(|x| *x /= sum);
    x
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
