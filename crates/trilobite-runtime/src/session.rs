//! One context: the state of a model that has read some tokens, and the forward pass.

mod attention;
mod branches;
mod feed_forward;

use std::sync::{Arc, Mutex};

use trilobite_format::model::Rope;
use trilobite_kernels::Kernels;
use trilobite_kernels::kv::BLOCK;

use self::attention::Attention;
pub use self::branches::Branch;
use crate::cache::{Cache, CacheType};
use crate::config::{Config, RopePairs};
use crate::error::{Error, Result};
use crate::head::{Head, Logits, Search};
use crate::model::Model;
use crate::ops::{FEW, Live, Ops, Prepared, Scratch, grown, lock};
use crate::profile::{Profile, Stage};
use crate::rope::RopeTable;
use crate::team::Team;
use crate::weights::{Kind, Layer, RopeDivisors};

/// Most tokens that go through the layers at once; more only cost memory.
pub const MAX_BATCH: usize = 256;
/// Tokens whose logits are computed at once when every position is wanted.
const HEAD_BATCH: usize = 16;

/// Settings of a session.
#[derive(Clone, Copy, Debug)]
pub struct SessionOptions {
    /// Threads, the caller's own among them. Results do not depend on it.
    pub threads: usize,
    /// Tokens that the context can hold. Results depend on it in models with LongRoPE alone, which has
    /// other frequencies for contexts beyond the original one.
    pub context: usize,
    /// Most tokens that go through the layers at once, at most [`MAX_BATCH`]. Results do not
    /// depend on it.
    pub batch: usize,
    /// How keys and values are kept: results do depend on it.
    pub cache: CacheType,
    /// Reads every weight and computes every logit, by multiply-add: what the faster ways, which
    /// give the same results, are compared with.
    pub plain: bool,
}

/// A model's reading of some tokens. Logits depend on the tokens alone: not on the threads, the
/// instruction set, or how the tokens were divided among calls.
pub struct Session {
    model: Arc<Model>,
    kernels: &'static Kernels,
    team: Team,
    options: SessionOptions,
    cache: Cache,
    rope: RopeTable,
    /// That of sliding layers, where there are any.
    local_rope: Option<RopeTable>,
    buffers: Buffers,
    search: Search,
    scratch: Vec<Mutex<Scratch>>,
    position: usize,
    /// The tokens read so far, `[position]`.
    tokens: Vec<u32>,
}

/// Activations of a batch; `T` is its number of tokens.
struct Buffers {
    /// Where each token stands, `[T]`: one after another, or at the first position of a branch.
    positions: Vec<usize>,
    /// The residual stream, `[T][hidden]`.
    x: Vec<f32>,
    /// Queries, `[T][heads * head_dim]`.
    q: Vec<f32>,
    /// Keys, `[T][kv_heads * head_dim]`.
    k: Vec<f32>,
    /// Values, `[T][kv_heads * head_dim]`.
    v: Vec<f32>,
    /// The attention's output, `[T][heads * head_dim]`.
    attended: Vec<f32>,
    /// The attention's scores of a few tokens, `[kv_heads][rows][positions]`: room for one token's,
    /// grown on demand.
    scores: Vec<f32>,
    /// The gated product, `[T][intermediate]`.
    gated: Vec<f32>,
    /// What a part adds to the residual stream, where it is normed first, `[T][hidden]`.
    added: Vec<f32>,
    /// The input of a projection.
    input: Prepared,
    /// Parts of the sums of a down projection, `[threads][T][hidden]` for few tokens.
    parts: Vec<i32>,
    /// The input of the head, `[hidden]`.
    normed: Vec<f32>,
    /// `[HEAD_BATCH][vocab]`, grown on demand.
    logits: Vec<f32>,
}

/// Which positions' logits a caller wants.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    Nothing,
    Last,
    All,
}

impl Session {
    /// An empty context.
    ///
    /// # Errors
    /// `TRILOBITE_ISA` names an instruction set that cannot be used, or the system has too few threads
    /// or too little memory.
    pub fn new(model: Arc<Model>, options: SessionOptions) -> Result<Self> {
        let kernels = Kernels::detect()?;
        let context = options.context.max(1);
        require_room(model.config(), context, options.cache)?;
        let options = SessionOptions {
            threads: options.threads.max(1),
            context,
            batch: options.batch.clamp(1, MAX_BATCH.min(context)),
            ..options
        };
        let threads = |source| Error::Threads { threads: options.threads, source };
        let config = model.config();
        let batch = options.batch;
        let widest = config.hidden.max(config.intermediate).max(config.q_width());
        let most = widest.max(config.vocab).max(attention::room(config));
        let buffer = |width: usize| vec![0.0; batch * width];
        let buffers = Buffers {
            positions: Vec::with_capacity(batch),
            x: buffer(config.hidden),
            q: buffer(config.q_width()),
            k: buffer(config.kv_width()),
            v: buffer(config.kv_width()),
            attended: buffer(config.q_width()),
            scores: Vec::with_capacity(config.heads * options.context.next_multiple_of(BLOCK)),
            gated: buffer(config.intermediate),
            added: buffer(if config.post_norms { config.hidden } else { 0 }),
            input: Prepared::new(batch, widest),
            parts: vec![0; options.threads * batch.min(FEW) * config.hidden],
            normed: vec![0.0; config.hidden],
            logits: Vec::new(),
        };
        let divisors = &model.weights().rope_divisors;
        let table = |rope: &Rope, divisors: &RopeDivisors| {
            RopeTable::new(rope, divisors, config.head_dim, options.context)
        };
        Ok(Self {
            kernels,
            team: Team::new(options.threads).map_err(threads)?,
            cache: Cache::new(config, options.context, options.cache),
            rope: table(&config.rope, divisors),
            local_rope: config.window.as_ref().map(|window| match window.scaled {
                true => table(&Rope { theta: window.rope_theta, ..config.rope.clone() }, divisors),
                false => table(&Rope::unscaled(window.rope_theta), &RopeDivisors::None),
            }),
            buffers,
            search: Search::default(),
            scratch: (0..options.threads).map(|_| Mutex::new(Scratch::new(most))).collect(),
            position: 0,
            tokens: Vec::new(),
            options,
            model,
        })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Number of tokens read.
    pub fn position(&self) -> usize {
        self.position
    }

    /// What was read of the feed-forward networks since the last call.
    pub fn take_live(&mut self) -> Live {
        let mut live = Live::default();
        self.scratch.iter().for_each(|scratch| live += lock(scratch).take_live());
        live
    }

    /// Number of tokens that fit.
    pub fn context(&self) -> usize {
        self.options.context
    }

    /// How keys and values are kept.
    pub fn cache_type(&self) -> CacheType {
        self.options.cache
    }

    /// Forgets all tokens from `position` on.
    pub fn truncate(&mut self, position: usize) {
        self.position = self.position.min(position);
        self.tokens.truncate(position);
    }

    /// Forgets what does not begin `tokens` and says how many of them are still read, at most `most`.
    pub fn rewind(&mut self, tokens: &[u32], most: usize) -> usize {
        let shared = tokens.iter().zip(&self.tokens).take_while(|(a, b)| a == b).count().min(most);
        self.truncate(shared);
        shared
    }

    /// Begins to measure where the time goes, or ends it and gives what was measured.
    pub fn measure(&mut self, on: bool) -> Option<Profile> {
        self.team.measure(on)
    }

    /// Reads tokens.
    ///
    /// # Errors
    /// A token outside the vocabulary, or more tokens than the context holds; nothing is read then.
    pub fn read(&mut self, tokens: &[u32]) -> Result<()> {
        self.feed(tokens, Want::Nothing, |_, _| {})
    }

    /// Reads tokens and gives the logits after the last, `[vocab]`.
    ///
    /// # Errors
    /// No token, a token outside the vocabulary, or more tokens than the context holds.
    pub fn next_logits(&mut self, tokens: &[u32]) -> Result<&[f32]> {
        if tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        self.feed(tokens, Want::Last, |_, _| {})?;
        Ok(&self.buffers.logits[..self.model.config().vocab])
    }

    /// Reads tokens and gives the `k` largest logits after the last, those equal to one of them, and
    /// as many others as happens. With a coarse copy of the head in the model's file this reads less
    /// than [`next_logits`](Self::next_logits), whose values it gives to the last bit.
    ///
    /// # Errors
    /// No token, a token outside the vocabulary, or more tokens than the context holds.
    pub fn next_largest(&mut self, tokens: &[u32], k: usize) -> Result<Logits<'_>> {
        if tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        self.feed(tokens, Want::Nothing, |_, _| {})?;
        let last = (tokens.len() - 1) % self.options.batch;
        if self.search(last, k) {
            return Ok(self.search.found());
        }
        self.head(last..last + 1, |_, _| {});
        Ok(Logits::all(&self.buffers.logits[..self.model.config().vocab]))
    }

    /// Reads tokens and shows the logits after each: `sink(index in tokens, logits)`.
    ///
    /// # Errors
    /// A token outside the vocabulary, or more tokens than the context holds.
    pub fn each_logits(
        &mut self,
        tokens: &[u32],
        sink: impl FnMut(usize, &mut [f32]),
    ) -> Result<()> {
        self.feed(tokens, Want::All, sink)
    }

    fn feed(
        &mut self,
        tokens: &[u32],
        want: Want,
        mut sink: impl FnMut(usize, &mut [f32]),
    ) -> Result<()> {
        self.check(tokens, self.position)?;
        let mut done = 0;
        self.team.start();
        for batch in tokens.chunks(self.options.batch) {
            let end = self.position + batch.len();
            self.buffers.positions.clear();
            self.buffers.positions.extend(self.position..end);
            self.layers(batch);
            self.position = end;
            self.tokens.extend_from_slice(batch);
            done += batch.len();
            match want {
                Want::All => self.head(0..batch.len(), |index, logits| {
                    sink(done - batch.len() + index, logits);
                }),
                Want::Last if done == tokens.len() => {
                    self.head(batch.len() - 1..batch.len(), |_, _| {});
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether tokens can be read from a position on.
    fn check(&self, tokens: &[u32], position: usize) -> Result<()> {
        let vocab = self.model.config().vocab;
        if let Some(&id) = tokens.iter().find(|&&id| id as usize >= vocab) {
            return Err(Error::TokenId { id, vocab });
        }
        let needed = position + tokens.len();
        if needed > self.options.context {
            return Err(Error::Context { needed, context: self.options.context });
        }
        Ok(())
    }

    /// The forward pass up to the last layer, of tokens at `positions`: leaves the residual stream
    /// of the batch in `x`.
    fn layers(&mut self, tokens: &[u32]) {
        let model = Arc::clone(&self.model);
        let (config, weights) = (model.config(), model.weights());
        let count = tokens.len();

        // x = embedding of each token                                  [T][hidden]
        let (ty, table) = (weights.embedding_type, model.packed(&weights.embedding));
        let x = self.buffers.x[..count * config.hidden].chunks_exact_mut(config.hidden);
        for (x, &token) in x.zip(tokens) {
            self.kernels.dense_row(ty, table, config.hidden, token as usize, x);
            if config.embedding_scale != 1.0 {
                x.iter_mut().for_each(|x| *x *= config.embedding_scale);
            }
        }
        for rope in [&mut self.rope].into_iter().chain(&mut self.local_rope) {
            rope.extend(self.buffers.positions.iter().max().map_or(0, |last| last + 1));
        }
        self.team.lap(Stage::Embedding);

        for (index, layer) in weights.layers.iter().enumerate() {
            self.attention(&model, index, layer, count);
            self.feed_forward(&model, layer, count);
        }
    }

    /// `x += post_norm(o(sub_norm(attention(q, k, v of norm(x)))))`
    fn attention(&mut self, model: &Model, index: usize, layer: &Layer, count: usize) {
        let config = model.config();
        let head_dim = config.head_dim;
        let (q_width, kv_width) = (config.q_width(), config.kv_width());
        let b = &mut self.buffers;
        let (kernels, scratch) = (self.kernels, &self.scratch[..]);
        let (parts, plain) = (&mut b.parts[..], self.options.plain);
        let mut ops = Ops { kernels, model, team: &mut self.team, scratch, parts, plain };

        // q, k, v of norm(x)                                           [T][.. * head_dim]
        let x = &mut b.x[..count * config.hidden];
        let matrices = [&layer.q, &layer.k, &layer.v];
        let input = ops.prepare(x, Some(&layer.attn_norm), count, &matrices, &mut b.input);
        let products = [(&layer.q, &mut b.q[..]), (&layer.k, &mut b.k), (&layer.v, &mut b.v)];
        ops.linear(input, products);
        ops.team.lap(Stage::QueryKeyValue);

        // Norm and rotary position embedding of every head of q and k.
        let (window, positions) = (config.window(index), &b.positions[..]);
        let rope = self.local_rope.as_ref().filter(|_| window.is_some()).unwrap_or(&self.rope);
        let q = &mut b.q[..count * q_width];
        let k = &mut b.k[..count * kv_width];
        ops.team.rows3((q, q_width), (k, kv_width), nothing(), |member, t, q, k, _: &mut [()]| {
            let (cos, sin) = rope.at(positions[t]);
            for (heads, norm) in [(q, &layer.q_norm), (k, &layer.k_norm)] {
                for head in heads.chunks_exact_mut(head_dim) {
                    if let Some(norm) = norm {
                        let mut scratch = lock(&scratch[member]);
                        let normed = grown(&mut scratch.floats, head_dim);
                        kernels.rms_norm(head, norm, config.norm_eps, normed);
                        head.copy_from_slice(normed);
                    }
                    match config.rope_pairs {
                        RopePairs::Halves => kernels.rope_neox(head, cos, sin),
                        RopePairs::Adjacent => kernels.rope_adjacent(head, cos, sin),
                    }
                }
            }
        });

        // Causal attention: every query head over the keys of its group. A branch takes the place
        // of the one before it.
        let mut start = 0;
        for run in positions.chunk_by(|position, next| position + 1 == *next) {
            let (position, tokens) = (run[0], start..start + run.len());
            start = tokens.end;
            let kv = tokens.start * kv_width..tokens.end * kv_width;
            let (k, v, cache) = (&b.k[kv.clone()], &b.v[kv], &mut self.cache);
            ops.team.alone_if(run.len() == 1, |team| {
                cache.store((kernels, team), index, position, k, v);
            });
            ops.team.lap(Stage::Store);

            let attention = Attention {
                kernels,
                cache: &self.cache,
                scratch: ops.scratch,
                layer: index,
                heads: config.heads,
                scale: config.attention_scale,
                window: window.map_or(usize::MAX, |window| window.tokens),
            };
            let heads = tokens.start * q_width..tokens.end * q_width;
            let (q, attended) = (&b.q[heads.clone()], &mut b.attended[heads]);
            attention.run(ops.team, position, q, &mut b.scores, attended);
            ops.team.lap(Stage::Attention);
        }

        let (attended, norm) = (&b.attended[..count * q_width], layer.attn_sub_norm.as_deref());
        let input = ops.prepare(attended, norm, count, &[&layer.o], &mut b.input);
        ops.residual(input, &layer.o, layer.attn_post_norm.as_deref(), &mut b.added, x);
        ops.team.lap(Stage::Output);
    }

    /// Searches for the `k` largest logits of a token of the batch; `false` if the whole head has to
    /// be computed.
    fn search(&mut self, token: usize, k: usize) -> bool {
        let (config, weights) = (self.model.config(), self.model.weights());
        let (Some(scan), Kind::Dense(ty), false) =
            (&weights.head_scan, weights.head.kind, self.options.plain)
        else {
            return false;
        };
        // Two logits that a cap makes equal are not found as equals, and bounds hold for products of
        // floats.
        if config.logit_cap.is_some() || ty.has_blocks() {
            return false;
        }
        let model = &self.model;
        let head = Head {
            ty,
            weights: model.packed(&weights.head),
            cols: weights.head.cols,
            codes: model.bytes(&scan.codes),
            refinements: model.bytes(&scan.refinements),
            bounds: model.bytes(&scan.bounds).as_chunks().0,
        };
        self.team.start();
        let x = &self.buffers.x[token * config.hidden..(token + 1) * config.hidden];
        let h = &mut self.buffers.normed[..];
        self.kernels.rms_norm(x, &weights.output_norm, config.norm_eps, h);
        self.search.run(self.kernels, &mut self.team, head, h, k)
    }

    /// Logits of some tokens of the batch, a few at a time: `sink(index in the batch, logits)`.
    fn head(&mut self, tokens: std::ops::Range<usize>, mut sink: impl FnMut(usize, &mut [f32])) {
        let model = Arc::clone(&self.model);
        let config = model.config();
        let weights = model.weights();
        let hidden = config.hidden;
        let b = &mut self.buffers;
        let (kernels, scratch) = (self.kernels, &self.scratch[..]);
        let (parts, plain) = (&mut b.parts[..], self.options.plain);
        let mut ops = Ops { kernels, model: &model, team: &mut self.team, scratch, parts, plain };
        let first = tokens.start;
        for start in tokens.clone().step_by(HEAD_BATCH) {
            let count = HEAD_BATCH.min(tokens.end - start);
            let x = &b.x[start * hidden..(start + count) * hidden];
            let (norm, head) = (Some(&weights.output_norm[..]), &weights.head);
            let input = ops.prepare(x, norm, count, &[head], &mut b.input);
            let logits = grown(&mut b.logits, count * config.vocab);
            ops.linear(input, [(head, &mut *logits)]);
            if let Some(cap) = config.logit_cap {
                logits.iter_mut().for_each(|logit| *logit = cap * libm::tanhf(*logit / cap));
            }
            ops.team.lap(Stage::Head);
            for (index, logits) in logits.chunks_exact_mut(config.vocab).enumerate() {
                sink(start - first + index, logits);
            }
        }
    }
}

/// Refuses a context that no memory holds: its keys and values, the tables of RoPE, and the scores of
/// a token.
fn require_room(config: &Config, context: usize, cache: CacheType) -> Result<()> {
    let whole_blocks = context.saturating_add(BLOCK);
    let numbers = whole_blocks.saturating_mul(2 * config.head_dim + config.heads);
    let cache = cache.bytes_for(config, whole_blocks);
    let bytes = numbers.saturating_mul(size_of::<f32>()).saturating_add(cache);
    // Asking takes nothing: pages come on first use.
    match Vec::<u8>::new().try_reserve_exact(bytes) {
        Ok(()) => Ok(()),
        Err(_) => Err(Error::Memory { context, bytes }),
    }
}

/// No third matrix.
fn nothing<'a>() -> (&'a mut [()], usize) {
    (&mut [], 0)
}
