//! Causal attention of a batch of tokens over the cache.

use std::sync::Mutex;

use trilobite_kernels::Kernels;

use super::{Scratch, grown, lock};
use crate::cache::Cache;
use crate::team::Team;

/// One layer's attention: a query head reads the keys and values of its group.
pub(super) struct Attention<'a> {
    pub(super) kernels: &'static Kernels,
    pub(super) cache: &'a Cache,
    pub(super) scratch: &'a [Mutex<Scratch>],
    pub(super) layer: usize,
    /// Query heads.
    pub(super) heads: usize,
    /// What the products of queries and keys are multiplied with.
    pub(super) scale: f32,
    /// Positions that a token sees, its own the last of them; `usize::MAX` is all.
    pub(super) window: usize,
}

impl Attention<'_> {
    /// Attends for tokens from `position` on, whose keys and values the cache holds already: `q` and
    /// `out` are `[T][heads * head_dim]`.
    pub(super) fn run(&self, team: &mut Team, position: usize, q: &[f32], out: &mut [f32]) {
        let Self { kernels, cache, heads, .. } = *self;
        let (head_dim, group) = (cache.head_dim(), heads / cache.kv_heads());
        team.rows(out, head_dim, |member, row, out| {
            let (t, head) = (row / heads, row % heads);
            let n = position + t + 1;
            let visible = n.saturating_sub(self.window)..n;
            let mut scratch = lock(&self.scratch[member]);
            let scores = grown(&mut scratch.floats, visible.len());
            let query = &q[row * head_dim..(row + 1) * head_dim];
            let place = (self.layer, head / group);
            cache.attend(kernels, place, visible, (query, self.scale), scores, out);
        });
    }
}
