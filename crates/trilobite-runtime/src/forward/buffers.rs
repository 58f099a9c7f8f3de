//! The buffers of a forward pass.

use crate::head::{Largest, MAX_INPUTS};
use crate::model::Model;
use crate::ops::experts::Routing;
use crate::ops::{AttentionBuffers, InputBuffer, MAX_COLUMNS_BATCH, Run};
use crate::weights::Layer;

/// A row of a batch, the index of its part, and the index of its token there.
pub(super) type BatchRow = (usize, usize, usize);

/// Activations of a batch. `T` is its number of tokens.
pub(super) struct Buffers {
    /// The runs of the batch: consecutive tokens of one sequence.
    pub(super) runs: Vec<Run>,
    /// The position of each token, `[T]`.
    pub(super) positions: Vec<usize>,
    /// The rows all of whose logits are requested.
    pub(super) wanted: Vec<BatchRow>,
    /// The rows whose largest logits are requested, and which.
    pub(super) largest: Vec<(BatchRow, Largest)>,
    /// The residual stream, `[T][hidden]`.
    pub(super) x: Vec<f32>,
    /// Queries, `[T][heads * head_dim]`.
    pub(super) q: Vec<f32>,
    /// Keys, `[T][kv_heads * head_dim]`.
    pub(super) k: Vec<f32>,
    /// Values, `[T][kv_heads * head_dim]`.
    pub(super) v: Vec<f32>,
    /// The attention's output, `[T][heads * head_dim]`.
    pub(super) attended: Vec<f32>,
    pub(super) attention: AttentionBuffers,
    /// The gated product, `[T][intermediate]`. In a mixture there is one for every use of an expert.
    pub(super) gated: Vec<f32>,
    /// The experts of each token.
    pub(super) routing: Routing,
    /// What a block adds to the residual stream, if that is normed first, `[T][hidden]`.
    pub(super) added: Vec<f32>,
    /// The input of a projection.
    pub(super) input: InputBuffer,
    /// The input of projections with norms of their own, before these norms, `[T][widest]`.
    pub(super) normed_once: Vec<f32>,
    /// The product of an up projection with a norm of its own, `[T][intermediate]`.
    pub(super) up: Vec<f32>,
    /// Partial sums of a down projection, `[threads][T][hidden]`, for small batches.
    pub(super) parts: Vec<i32>,
    /// The inputs of a search in the head, `[MAX_INPUTS][hidden]`.
    pub(super) normed: Vec<f32>,
    /// `[HEAD_BATCH][vocab]`, grown on demand.
    pub(super) logits: Vec<f32>,
}

impl Buffers {
    /// Allocates buffers for batches of up to `batch` tokens.
    pub(super) fn new(model: &Model, threads: usize, batch: usize, context: usize) -> Self {
        let config = model.config();
        let widest = config.hidden.max(config.intermediate).max(config.q_width());
        let buffer = |width: usize| vec![0.0; batch * width];
        let uses = config.experts.as_ref().map_or(1, |experts| experts.used);
        let post_norms = model.weights().layers.iter().any(Layer::has_post_norms);
        let input_norms = model.weights().layers.iter().any(Layer::has_input_norms);
        Self {
            runs: Vec::new(),
            positions: Vec::with_capacity(batch),
            wanted: Vec::with_capacity(batch),
            largest: Vec::with_capacity(batch),
            x: buffer(config.hidden),
            q: buffer(config.q_width()),
            k: buffer(config.kv_width()),
            v: buffer(config.kv_width()),
            attended: buffer(config.q_width()),
            attention: AttentionBuffers::new(config.heads, context),
            gated: buffer(uses * config.intermediate),
            routing: Routing::default(),
            added: buffer(if post_norms { config.hidden } else { 0 }),
            input: InputBuffer::new(batch, widest),
            normed_once: buffer(if input_norms { widest } else { 0 }),
            up: buffer(if input_norms { config.intermediate } else { 0 }),
            parts: vec![0; threads * batch.min(MAX_COLUMNS_BATCH) * config.hidden],
            normed: vec![0.0; MAX_INPUTS * config.hidden],
            logits: Vec::new(),
        }
    }
}
