//! The forward pass for a batch of tokens from one or more sequences.

mod buffers;
mod outputs;

use std::sync::Arc;

use trilobite_format::model::{Rope, Scaling};
use trilobite_kernels::Kernels;

use self::buffers::Buffers;
use crate::activations::Activations;
use crate::cache::{CacheType, PagePool, Shape};
use crate::config::{Experts, RopePairs};
use crate::error::{Error, Result};
use crate::head::{Logits, Search};
use crate::model::Model;
use crate::ops::{self, Attention, Heads, Ops, Run};
use crate::profile::{Profile, Stage};
use crate::rope::RopeTable;
use crate::scratch::{Live, grown};
use crate::sequence::{Part, Sequence, Want};
use crate::weights::{Layer, Matrix, RopeDivisors};
use crate::workers::Workers;

/// Maximum number of tokens in a batch. In larger ones more tokens share an expert of a mixture, but
/// they take more memory.
pub const MAX_BATCH: usize = 512;
/// Maximum number of tokens in a batch of a model without experts, for which larger ones are no
/// faster.
const MAX_DENSE_BATCH: usize = 256;
/// Default capacity of a sequence in tokens.
const DEFAULT_CONTEXT: usize = 4096;

/// Settings of a forward pass. Only `cache`, `activations` and, in models with LongRoPE, `context` change
/// results.
#[derive(Clone, Copy, Debug)]
pub struct SessionOptions {
    /// Number of threads, the caller's thread included.
    pub threads: usize,
    /// Maximum number of tokens of a sequence. Memory is allocated as tokens arrive. Models with
    /// LongRoPE use other frequencies if this exceeds their original context.
    pub context: usize,
    /// Maximum number of tokens in a batch, at most [`MAX_BATCH`], or half of it in a model without
    /// experts.
    pub batch: usize,
    /// Element type of the KV cache.
    pub cache: CacheType,
    /// How activations are rounded.
    pub activations: Activations,
    /// Reads every weight and computes every logit, by multiply-add. This is the reference for the
    /// faster ways, which give the same results.
    pub plain: bool,
}

impl Default for SessionOptions {
    /// One thread per core, a context of 4,096 tokens, an f32 cache.
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            context: DEFAULT_CONTEXT,
            batch: MAX_BATCH,
            cache: CacheType::default(),
            activations: Activations::default(),
            plain: false,
        }
    }
}

/// The forward pass of a model, with its threads and buffers.
///
/// The state of a sequence is the list of its tokens: its logits depend on the model and these
/// tokens alone, to the last bit. The threads, the instruction set, the division of the tokens
/// among passes and the other sequences of a batch do not change them.
pub struct Forward {
    model: Arc<Model>,
    workers: Workers,
    options: SessionOptions,
    rope: RopeTable,
    /// The RoPE table of sliding layers, if there are any.
    local_rope: Option<RopeTable>,
    buffers: Buffers,
    search: Search,
    pool: PagePool,
    /// The residual stream of each batch before the first layer and after each half of a layer, if it
    /// is recorded.
    trace: Option<Vec<Vec<f32>>>,
}

impl Forward {
    /// Creates the forward pass of a model.
    ///
    /// # Errors
    /// `TRILOBITE_ISA` names an instruction set that cannot be used, a thread cannot be started, or
    /// int8 activations are requested for a model without weights in blocks.
    pub fn new(model: Arc<Model>, options: SessionOptions) -> Result<Self> {
        options.activations.check(model.weights())?;
        let context = options.context.max(1);
        let most = if model.config().experts.is_some() { MAX_BATCH } else { MAX_DENSE_BATCH };
        let options = SessionOptions {
            threads: options.threads.max(1),
            context,
            batch: options.batch.clamp(1, most.min(context)),
            ..options
        };
        let config = model.config();
        let widest = config.hidden.max(config.intermediate).max(config.q_width());
        let most = widest.max(config.vocab).max(ops::scratch_len(config));
        let buffers = Buffers::new(&model, options.threads, options.batch, context);
        let divisors = &model.weights().rope_divisors;
        let table = |rope: &Rope, divisors: &RopeDivisors| {
            RopeTable::new(rope, divisors, config.rope_dim, context)
        };
        Ok(Self {
            workers: Workers::new(options.threads, most)?,
            rope: table(&config.rope, divisors),
            local_rope: config.window.as_ref().map(|window| match window.scaled {
                true => table(&Rope { theta: window.rope_theta, ..config.rope.clone() }, divisors),
                false => table(&Rope::unscaled(window.rope_theta), &RopeDivisors::None),
            }),
            buffers,
            search: Search::default(),
            pool: PagePool::default(),
            trace: None,
            options,
            model,
        })
    }

    /// The same forward pass with the kernels of another instruction set.
    pub fn with_kernels(mut self, kernels: &'static Kernels) -> Self {
        self.workers.kernels = kernels;
        self
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Maximum number of tokens of a sequence.
    pub fn context(&self) -> usize {
        self.options.context
    }

    /// Number of threads.
    pub(crate) fn threads(&self) -> usize {
        self.options.threads
    }

    /// Whether the context is long enough for LongRoPE's factors of long contexts.
    pub(crate) fn has_long_context(&self) -> bool {
        let scaling = &self.model.config().rope.scaling;
        matches!(scaling, Scaling::LongRope { original } if self.context() as u64 > *original)
    }

    /// Element type of the KV cache.
    pub fn cache_type(&self) -> CacheType {
        self.options.cache
    }

    /// How activations are rounded.
    pub fn activations(&self) -> Activations {
        self.options.activations
    }

    /// Creates an empty sequence.
    pub fn sequence(&self) -> Sequence {
        Sequence::new(Shape::new(self.model.config(), self.options.cache), self.pool.clone())
    }

    /// Number of pages of keys and values in use. Pages that several sequences share count once.
    pub fn pages(&self) -> usize {
        self.pool.pages()
    }

    /// Returns how much of the feed-forward networks was read since the last call.
    pub fn take_live(&mut self) -> Live {
        self.workers.take_live()
    }

    /// Starts measuring the time of each stage, or stops and returns the measurement.
    pub fn measure(&mut self, on: bool) -> Option<Profile> {
        self.workers.measure(on)
    }

    /// Processes the tokens of all parts, each after the tokens of its sequence, and passes the
    /// requested logits to `sink(part, index of the token, logits)`, in the order of the tokens of
    /// each part. Tokens whose largest logits a search does not find come after the others.
    ///
    /// # Errors
    /// A token outside the vocabulary, more tokens than a sequence can hold, a sequence of another
    /// model or cache type, or [`Want::Largest`] without a token: no token is processed. Not enough
    /// memory for keys and values: some tokens may have been processed.
    pub fn read(
        &mut self,
        parts: &mut [Part<'_>],
        mut sink: impl FnMut(usize, usize, Logits<'_>),
    ) -> Result<()> {
        let wants = |part: &Part<'_>| part.want != Want::Nothing;
        if self.model.only_embeds() && parts.iter().any(wants) {
            return Err(Error::OnlyEmbeds);
        }
        self.each_batch(parts, |forward, parts| forward.outputs(parts, &mut sink))
    }

    /// Processes the tokens of all parts, each after the tokens of its sequence, and passes the
    /// hidden state of every token after the last norm to `sink(part, index of the token, state)`,
    /// in the order of the tokens of each part. No logits are computed.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn hidden_states(
        &mut self,
        parts: &mut [Part<'_>],
        mut sink: impl FnMut(usize, usize, &[f32]),
    ) -> Result<()> {
        self.each_batch(parts, |forward, _| {
            let config = forward.model.config();
            let Buffers { runs, x, normed, .. } = &mut forward.buffers;
            let (kernels, weight) = (forward.workers.kernels, &forward.model.weights().output_norm);
            let normed = &mut normed[..config.hidden];
            for Run { part, index, rows, .. } in &*runs {
                for (index, row) in (*index..).zip(rows.clone()) {
                    let x = &x[row * config.hidden..(row + 1) * config.hidden];
                    kernels.rms_norm(x, weight, config.norm_eps, normed);
                    sink(*part, index, normed);
                }
            }
        })
    }

    /// Processes the tokens of a new sequence, which fit in one batch, and returns the residual stream
    /// `[T][hidden]` before the first layer, after the attention of each layer and after its
    /// feed-forward network.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn trace(&mut self, tokens: &[u32]) -> Result<Vec<Vec<f32>>> {
        self.trace = Some(Vec::new());
        let part = Part { sequence: &mut self.sequence(), tokens, want: Want::Nothing };
        let read = self.each_batch(&mut [part], |_, _| {});
        let trace = self.trace.take().unwrap_or_default();
        read.map(|()| trace)
    }

    /// Adds the residual stream of the batch to the trace.
    fn record(&mut self) {
        if let Some(trace) = &mut self.trace {
            let len = self.buffers.positions.len() * self.model.config().hidden;
            trace.push(self.buffers.x[..len].to_vec());
        }
    }

    /// Processes the tokens of all parts, and calls `then` after each batch.
    fn each_batch(
        &mut self,
        parts: &mut [Part<'_>],
        mut then: impl FnMut(&mut Self, &[Part<'_>]),
    ) -> Result<()> {
        parts.iter().try_for_each(|part| self.check(part))?;
        self.workers.start();
        let mut next = (0, 0);
        loop {
            next = self.gather(parts, next)?;
            if self.buffers.positions.is_empty() {
                return Ok(());
            }
            self.layers(parts);
            then(self, parts);
            for run in &self.buffers.runs {
                let Part { sequence, tokens, .. } = &mut parts[run.part];
                sequence.push(&tokens[run.index..run.index + run.rows.len()]);
            }
        }
    }

    fn check(&self, part: &Part<'_>) -> Result<()> {
        let vocab = self.model.config().vocab;
        if let Some(&id) = part.tokens.iter().find(|&&id| id as usize >= vocab) {
            return Err(Error::TokenId { id, vocab });
        }
        let (needed, context) = (part.sequence.len() + part.tokens.len(), self.options.context);
        if needed > context {
            return Err(Error::Context { needed, context });
        }
        if part.tokens.is_empty() && matches!(part.want, Want::Largest { .. }) {
            return Err(Error::EmptyPrompt);
        }
        match part.sequence.shape() == Shape::new(self.model.config(), self.options.cache) {
            true => Ok(()),
            false => Err(Error::ForeignSequence),
        }
    }

    /// Gathers a batch: as many tokens as fit, from token `index` of part `part` on, and pages for
    /// their keys and values. Returns where the next batch begins.
    ///
    /// # Errors
    /// There is not enough memory for the pages.
    fn gather(
        &mut self,
        parts: &mut [Part<'_>],
        (mut part, mut index): (usize, usize),
    ) -> Result<(usize, usize)> {
        let Buffers { runs, positions, .. } = &mut self.buffers;
        runs.clear();
        positions.clear();
        while part < parts.len() && positions.len() < self.options.batch {
            let Part { sequence, tokens, .. } = &mut parts[part];
            let count = (tokens.len() - index).min(self.options.batch - positions.len());
            if count > 0 {
                let (position, row) = (sequence.len(), positions.len());
                sequence.reserve(count)?;
                positions.extend(position..position + count);
                runs.push(Run { part, index, position, rows: row..row + count });
            }
            (part, index) = match index + count == tokens.len() {
                true => (part + 1, 0),
                false => (part, index + count),
            };
        }
        for rope in [&mut self.rope].into_iter().chain(&mut self.local_rope) {
            rope.extend(positions.iter().max().map_or(0, |last| last + 1));
        }
        Ok((part, index))
    }

    /// Runs the batch through all layers and leaves the residual stream in `x`.
    fn layers(&mut self, parts: &mut [Part<'_>]) {
        let model = Arc::clone(&self.model);
        let (config, weights) = (model.config(), model.weights());
        let count = self.buffers.positions.len();

        // x = embedding of each token                                  [T][hidden]
        let table = model.embedding();
        for run in &self.buffers.runs {
            let rows = run.rows.start * config.hidden..run.rows.end * config.hidden;
            let x = self.buffers.x[rows].chunks_exact_mut(config.hidden);
            for (x, &token) in x.zip(&parts[run.part].tokens[run.index..]) {
                let token = token as usize;
                self.workers.kernels.dense_row(&table, token, x);
                for outlier in weights.embedding.outliers_of(token..token + 1) {
                    x[outlier.col as usize] += outlier.value;
                }
                if config.embedding_scale != 1.0 {
                    x.iter_mut().for_each(|x| *x *= config.embedding_scale);
                }
            }
        }
        self.workers.lap(Stage::Embedding);
        self.record();

        for (index, layer) in weights.layers.iter().enumerate() {
            self.attention(&model, index, layer, parts, count);
            self.record();
            match (&layer.router, &config.experts) {
                (Some(router), Some(Experts { used, clamp, .. })) => {
                    self.mixture(&model, layer, router, (*used, clamp[index]), count);
                }
                _ => self.feed_forward(&model, layer, count),
            }
            self.record();
        }
    }

    /// `x += post_norm(o(sub_norm(attention(q, k, v of norm(x)))))`
    fn attention(
        &mut self,
        model: &Model,
        index: usize,
        layer: &Layer,
        parts: &mut [Part<'_>],
        count: usize,
    ) {
        let config = model.config();
        let head_dim = config.head_dim;
        let (q_width, kv_width) = (config.q_width(), config.kv_width());
        let b = &mut self.buffers;
        let SessionOptions { plain, activations, .. } = self.options;
        let mut ops =
            Ops { workers: &mut self.workers, model, parts: &mut b.parts, plain, activations };

        // q, k, v of norm(x)                                           [T][.. * head_dim]
        let x = &mut b.x[..count * config.hidden];
        let matrices = [&layer.q, &layer.k, &layer.v];
        let products = [(&layer.q, &mut b.q[..]), (&layer.k, &mut b.k), (&layer.v, &mut b.v)];
        if layer.has_input_norms() {
            for (matrix, out) in products {
                let (norm, normed) = (Some(&layer.attn_norm[..]), &mut b.normed_once);
                let input = ops.prepare_one(x, norm, count, matrix, normed, &mut b.input);
                ops.linear(input, [(matrix, out)]);
            }
        } else {
            let input = ops.prepare(x, Some(&layer.attn_norm), count, &matrices, &mut b.input);
            ops.linear(input, products);
        }
        ops.workers.lap(Stage::QueryKeyValue);

        // Norm and rotary position embedding of every head of q and k.
        let (window, positions) = (config.window(index), &b.positions[..]);
        let rope = self.local_rope.as_ref().filter(|_| window.is_some()).unwrap_or(&self.rope);
        let rotates = config.rotates(index);
        let q = &mut b.q[..count * q_width];
        let k = &mut b.k[..count * kv_width];
        let (kernels, none) = (ops.workers.kernels, (&mut [(); 0][..], 0));
        ops.workers.team.rows3((q, q_width), (k, kv_width), none, |scratch, t, q, k, _| {
            let (cos, sin) = rope.at(positions[t]);
            for (heads, norm) in [(q, &layer.q_norm), (k, &layer.k_norm)] {
                for head in heads.chunks_exact_mut(head_dim) {
                    if let Some(norm) = norm {
                        let normed = grown(&mut scratch.floats, head_dim);
                        kernels.rms_norm(head, norm, config.norm_eps, normed);
                        head.copy_from_slice(normed);
                    }
                    match config.rope_pairs {
                        _ if !rotates => {}
                        RopePairs::Halves => kernels.rope_neox(head, cos, sin),
                        RopePairs::Adjacent => kernels.rope_adjacent(head, cos, sin),
                    }
                }
            }
        });

        // Causal attention: every query head over the keys of its group, in its own sequence.
        let attention = Attention {
            heads: Heads { query: config.heads, kv: config.kv_heads, dim: head_dim },
            layer: index,
            scale: config.attention_scale,
            window: window.map_or(usize::MAX, |window| window.tokens),
            runs: &b.runs,
        };
        attention.store(ops.workers, parts, &b.k, &b.v);
        ops.workers.lap(Stage::Store);
        let attended = &mut b.attended[..count * q_width];
        attention.run(ops.workers, parts, &b.q, &mut b.attention, attended);
        ops.workers.lap(Stage::Attention);

        let norm = layer.attn_sub_norm.as_deref();
        let normed = &mut b.normed_once;
        let input = ops.prepare_one(attended, norm, count, &layer.o, normed, &mut b.input);
        ops.residual(input, &layer.o, layer.attn_post_norm.as_deref(), &mut b.added, x);
        ops.workers.lap(Stage::Output);
    }

    /// `x += post_norm(down(sub_norm(act(gate(norm(x))) * up(norm(x)))))`
    fn feed_forward(&mut self, model: &Model, layer: &Layer, count: usize) {
        let config = model.config();
        let b = &mut self.buffers;
        let SessionOptions { plain, activations, .. } = self.options;
        let mut ops =
            Ops { workers: &mut self.workers, model, parts: &mut b.parts, plain, activations };

        let x = &mut b.x[..count * config.hidden];
        let gated = &mut b.gated[..count * config.intermediate];
        let (gate, up) = (&layer.gate, &layer.up);
        if layer.has_input_norms() {
            for (matrix, out) in [(gate, &mut gated[..]), (up, &mut b.up)] {
                let (norm, normed) = (Some(&layer.ffn_norm[..]), &mut b.normed_once);
                let input = ops.prepare_one(x, norm, count, matrix, normed, &mut b.input);
                ops.linear(input, [(matrix, out)]);
            }
            ops.activate(config.activation, gated, &b.up, config.intermediate);
        } else {
            let input = ops.prepare(x, Some(&layer.ffn_norm), count, &[gate, up], &mut b.input);
            ops.gated(input, (gate, up), config.activation, gated);
        }
        ops.workers.lap(Stage::GateUp);

        let norm = layer.ffn_sub_norm.as_deref();
        let normed = &mut b.normed_once;
        let input = ops.prepare_one(gated, norm, count, &layer.down, normed, &mut b.input);
        ops.residual(input, &layer.down, layer.ffn_post_norm.as_deref(), &mut b.added, x);
        ops.workers.lap(Stage::Down);
    }

    /// `x += sum of weight(expert) * down(act(gate(norm(x)), up(norm(x))))` over the experts that a
    /// token uses.
    fn mixture(
        &mut self,
        model: &Model,
        layer: &Layer,
        router: &Matrix,
        (used, clamp): (usize, f32),
        count: usize,
    ) {
        let config = model.config();
        let b = &mut self.buffers;
        let SessionOptions { plain, activations, .. } = self.options;
        let mut ops =
            Ops { workers: &mut self.workers, model, parts: &mut b.parts, plain, activations };

        let x = &mut b.x[..count * config.hidden];
        let matrices = [router, &layer.gate, &layer.up];
        let input = ops.prepare(x, Some(&layer.ffn_norm), count, &matrices, &mut b.input);
        ops.route(input, router, used, &mut b.routing);
        let uses = count * used;
        let gated = &mut b.gated[..uses * config.intermediate];
        ops.gated_experts(input, (&layer.gate, &layer.up), clamp, &b.routing, gated);
        ops.workers.lap(Stage::GateUp);

        let input = ops.prepare(gated, None, uses, &[&layer.down], &mut b.input);
        ops.add_experts(input, &layer.down, &b.routing, x);
        ops.workers.lap(Stage::Down);
    }
}

#[cfg(test)]
mod tests;
