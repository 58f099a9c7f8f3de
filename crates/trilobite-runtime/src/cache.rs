//! Keys and values of the tokens read so far.

use std::ops::Range;

use trilobite_kernels::Kernels;

use crate::config::Config;
use crate::team::Team;

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheType {
    /// As they were computed.
    #[default]
    F32,
    /// Rounded to 11 significant bits: half the memory. The rounding moves some int8 codes of the
    /// layers that follow, which changes logits by about as much as the quantisation itself does.
    F16,
}

impl CacheType {
    fn bytes(self) -> usize {
        match self {
            CacheType::F32 => 4,
            CacheType::F16 => 2,
        }
    }

    /// The size of the cache of a context of `tokens` tokens in bytes.
    pub fn bytes_for(self, config: &Config, tokens: usize) -> usize {
        2 * config.layers * config.kv_width() * tokens * self.bytes()
    }
}

/// A cache, `[layers][kv_heads][context][head_dim]` for keys and the same for values.
pub(crate) struct Cache {
    cells: Cells,
    kv_heads: usize,
    head_dim: usize,
    context: usize,
}

enum Cells {
    F32(Pair<f32>),
    /// f16 as bits.
    F16(Pair<u16>),
}

struct Pair<T> {
    keys: Vec<T>,
    values: Vec<T>,
}

impl<T: Clone + Default> Pair<T> {
    /// Zeroed pages come from the system on first use: a context costs what it holds.
    fn new(len: usize) -> Self {
        Self { keys: vec![T::default(); len], values: vec![T::default(); len] }
    }
}

impl Cache {
    pub(crate) fn new(config: &Config, context: usize, ty: CacheType) -> Self {
        let len = config.layers * config.kv_width() * context;
        let cells = match ty {
            CacheType::F32 => Cells::F32(Pair::new(len)),
            CacheType::F16 => Cells::F16(Pair::new(len)),
        };
        Self { cells, kv_heads: config.kv_heads, head_dim: config.head_dim, context }
    }

    /// Appends keys and values, `[T][kv_heads * head_dim]`, of the tokens from `position` on.
    pub(crate) fn store(
        &mut self,
        (kernels, team): (&'static Kernels, &mut Team),
        layer: usize,
        position: usize,
        k: &[f32],
        v: &[f32],
    ) {
        let head_cells = self.context * self.head_dim;
        let layer = layer * self.kv_heads * head_cells..(layer + 1) * self.kv_heads * head_cells;
        let target = Target { layer, head_cells, head_dim: self.head_dim, position };
        match &mut self.cells {
            Cells::F32(pair) => target.store(team, pair, k, v, |x, out| out.copy_from_slice(x)),
            Cells::F16(pair) => target.store(team, pair, k, v, |x, out| kernels.to_f16(x, out)),
        }
    }

    pub(crate) fn kv_heads(&self) -> usize {
        self.kv_heads
    }

    pub(crate) fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Attention of one query over the `visible` positions of a head.
    pub(crate) fn attend(
        &self,
        kernels: &Kernels,
        (layer, head): (usize, usize),
        visible: Range<usize>,
        (query, scale): (&[f32], f32),
        scores: &mut [f32],
        out: &mut [f32],
    ) {
        let start = (layer * self.kv_heads + head) * self.context * self.head_dim;
        let range = start + visible.start * self.head_dim..start + visible.end * self.head_dim;
        let n = visible.len();
        match &self.cells {
            Cells::F32(Pair { keys, values }) => {
                let (k, v) = (&keys[range.clone()], &values[range]);
                kernels.attend_f32(query, k, v, n, scale, scores, out);
            }
            Cells::F16(Pair { keys, values }) => {
                let (k, v) = (&keys[range.clone()], &values[range]);
                kernels.attend(query, k, v, n, scale, scores, out);
            }
        }
    }
}

/// Where the keys and values of some tokens go.
struct Target {
    layer: Range<usize>,
    head_cells: usize,
    head_dim: usize,
    position: usize,
}

impl Target {
    /// Divides the heads among the team.
    fn store<T: Send>(
        self,
        team: &mut Team,
        pair: &mut Pair<T>,
        k: &[f32],
        v: &[f32],
        write: impl Fn(&[f32], &mut [T]) + Sync,
    ) {
        let Self { layer, head_cells, head_dim, position } = self;
        let width = layer.len() / head_cells * head_dim;
        let keys = (&mut pair.keys[layer.clone()], head_cells);
        let values = (&mut pair.values[layer], head_cells);
        let none: (&mut [()], usize) = (&mut [], 0);
        team.rows3(keys, values, none, |_, head, keys, values, _| {
            let tokens = k.chunks_exact(width).zip(v.chunks_exact(width));
            for (t, (k, v)) in tokens.enumerate() {
                let from = head * head_dim..(head + 1) * head_dim;
                let to = (position + t) * head_dim..(position + t + 1) * head_dim;
                write(&k[from.clone()], &mut keys[to.clone()]);
                write(&v[from], &mut values[to]);
            }
        });
    }
}
