//! Keys and values of the tokens read so far.

use std::ops::Range;

use trilobite_kernels::Kernels;
use trilobite_kernels::kv::{self, Cells, CellsMut};

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
    /// int8 with an f32 step for every 32 elements of a head: 9 bits an element.
    Q8,
}

impl CacheType {
    /// The name that the command line takes.
    pub fn name(self) -> &'static str {
        match self {
            CacheType::F32 => "f32",
            CacheType::F16 => "f16",
            CacheType::Q8 => "q8",
        }
    }

    /// The size of the cache of a context of `tokens` tokens in bytes; `usize::MAX` where it is larger
    /// than any memory.
    pub fn bytes_for(self, config: &Config, tokens: usize) -> usize {
        let heads = 2 * config.layers * config.kv_heads;
        let cells = (heads * kv::padded(config.head_dim)).saturating_mul(tokens);
        match self {
            CacheType::F32 => cells.saturating_mul(4),
            CacheType::F16 => cells.saturating_mul(2),
            CacheType::Q8 => cells.saturating_add(cells / kv::BLOCK * size_of::<f32>()),
        }
    }
}

/// A cache, `[layers][kv_heads]` of the keys and then the values of a head, each as [`kv`] says.
pub(crate) struct Cache {
    store: Store,
    kv_heads: usize,
    head_dim: usize,
    /// Cells of the keys of a head, and of its values.
    head_cells: usize,
}

/// Zeroed pages come from the system on first use: a context costs what it holds.
enum Store {
    F32(Vec<f32>),
    /// f16 as bits.
    F16(Vec<u16>),
    Q8 {
        codes: Vec<i8>,
        steps: Vec<f32>,
    },
}

impl Cache {
    pub(crate) fn new(config: &Config, context: usize, ty: CacheType) -> Self {
        Self::of_shape([config.layers, config.kv_heads, config.head_dim], context, ty)
    }

    pub(crate) fn of_shape(
        [layers, kv_heads, head_dim]: [usize; 3],
        context: usize,
        ty: CacheType,
    ) -> Self {
        let head_cells = context.next_multiple_of(kv::BLOCK) * kv::padded(head_dim);
        let len = 2 * layers * kv_heads * head_cells;
        let store = match ty {
            CacheType::F32 => Store::F32(vec![0.0; len]),
            CacheType::F16 => Store::F16(vec![0; len]),
            CacheType::Q8 => Store::Q8 { codes: vec![0; len], steps: vec![0.0; len / kv::BLOCK] },
        };
        Self { store, kv_heads, head_dim, head_cells }
    }

    pub(crate) fn kv_heads(&self) -> usize {
        self.kv_heads
    }

    pub(crate) fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Appends keys and values, `[T][kv_heads * head_dim]`, of the tokens from `position` on. The
    /// heads are divided among the team.
    pub(crate) fn store(
        &mut self,
        (kernels, team): (&'static Kernels, &mut Team),
        layer: usize,
        position: usize,
        k: &[f32],
        v: &[f32],
    ) {
        let (head_dim, half) = (self.head_dim, self.head_cells);
        let width = self.kv_heads * head_dim;
        let put = |head: usize, mut keys: CellsMut<'_>, mut values: CellsMut<'_>| {
            let tokens = k.chunks_exact(width).zip(v.chunks_exact(width));
            for (position, (k, v)) in (position..).zip(tokens) {
                let head = head * head_dim..(head + 1) * head_dim;
                kernels.store_key(&k[head.clone()], &mut keys, position);
                kernels.store_value(&v[head], &mut values, position);
            }
        };
        let heads = layer * self.kv_heads..(layer + 1) * self.kv_heads;
        let cells = heads.start * 2 * half..heads.end * 2 * half;
        match &mut self.store {
            Store::F32(all) => team.rows(&mut all[cells], 2 * half, |_, head, cells| {
                let (keys, values) = cells.split_at_mut(half);
                put(head, CellsMut::F32(keys), CellsMut::F32(values));
            }),
            Store::F16(all) => team.rows(&mut all[cells], 2 * half, |_, head, cells| {
                let (keys, values) = cells.split_at_mut(half);
                put(head, CellsMut::F16(keys), CellsMut::F16(values));
            }),
            Store::Q8 { codes, steps } => {
                let few = half / kv::BLOCK;
                let steps = &mut steps[cells.start / kv::BLOCK..cells.end / kv::BLOCK];
                let none: (&mut [()], usize) = (&mut [], 0);
                let codes = (&mut codes[cells], 2 * half);
                team.rows3(codes, (steps, 2 * few), none, |_, head, codes, steps, _| {
                    let (keys, values) = codes.split_at_mut(half);
                    let (key_steps, value_steps) = steps.split_at_mut(few);
                    let keys = CellsMut::Q8 { codes: keys, steps: key_steps };
                    put(head, keys, CellsMut::Q8 { codes: values, steps: value_steps });
                });
            }
        }
    }

    /// The keys and values of a head at some positions, whole blocks.
    pub(crate) fn head(
        &self,
        (layer, head): (usize, usize),
        positions: Range<usize>,
    ) -> (Cells<'_>, Cells<'_>) {
        let start = (layer * self.kv_heads + head) * 2 * self.head_cells;
        let width = kv::padded(self.head_dim);
        let keys = start + positions.start * width..start + positions.end * width;
        let values = keys.start + self.head_cells..keys.end + self.head_cells;
        (self.cells(keys), self.cells(values))
    }

    fn cells(&self, cells: Range<usize>) -> Cells<'_> {
        match &self.store {
            Store::F32(all) => Cells::F32(&all[cells]),
            Store::F16(all) => Cells::F16(&all[cells]),
            Store::Q8 { codes, steps } => {
                let steps = &steps[cells.start / kv::BLOCK..cells.end / kv::BLOCK];
                Cells::Q8 { codes: &codes[cells], steps }
            }
        }
    }
}
