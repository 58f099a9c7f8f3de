//! Causal attention of a batch of tokens over the cache.

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Mutex;

use trilobite_kernels::Kernels;
use trilobite_kernels::kv::{self, Visible};

use super::{Scratch, grown, lock};
use crate::cache::Cache;
use crate::config::Config;
use crate::team::Team;

/// Most tokens, and fewest positions, whose attention is divided by positions and elements: one
/// token's heads alone would leave threads without work.
const FEW_TOKENS: usize = 8;
const MANY_POSITIONS: usize = 256;
/// Positions whose scores a thread computes at a time then.
const POSITIONS: usize = 128;
/// Scores that a thread holds at a time: they stay in the second-level cache.
const SCORES: usize = 1 << 17;
/// Most tokens that a thread takes at a time, so that there is work for all.
const TOKENS: usize = 32;

/// Floats that a thread needs to attend for one token.
pub(super) fn room(config: &Config) -> usize {
    config.heads / config.kv_heads * (2 * kv::padded(config.head_dim) + MANY_POSITIONS)
}

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
    /// `out` are `[T][heads * head_dim]`. How the work is divided changes no sum.
    pub(super) fn run(
        &self,
        team: &mut Team,
        position: usize,
        q: &[f32],
        scores: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        let tokens = q.len() / (self.heads * self.cache.head_dim());
        let (_, positions) = self.visible(position, 0..tokens);
        if tokens <= FEW_TOKENS && positions.len() >= MANY_POSITIONS {
            self.by_positions(team, position, tokens, q, scores, out);
        } else {
            self.by_tokens(team, position, tokens, q, out);
        }
    }

    /// Query heads that share keys and values.
    fn group(&self) -> usize {
        self.heads / self.cache.kv_heads()
    }

    /// What the rows of some tokens see of one head, and the blocks of positions that this takes.
    fn visible(&self, position: usize, tokens: Range<usize>) -> (Visible, Range<usize>) {
        let (group, window, end) = (self.group(), self.window, position + tokens.start + 1);
        let first = end.saturating_sub(window) / kv::BLOCK * kv::BLOCK;
        let visible = Visible { rows: tokens.len() * group, group, first, end, window };
        (visible, first..(position + tokens.end).next_multiple_of(kv::BLOCK))
    }

    /// The queries of some tokens to one head, `[rows][head_dim]` with zeros up to whole panels.
    fn gather(&self, q: &[f32], kv_head: usize, tokens: Range<usize>, rows: &mut [f32]) {
        let (head_dim, group) = (self.cache.head_dim(), self.group());
        let width = kv::padded(head_dim);
        let tokens = tokens.flat_map(|t| (0..group).map(move |i| (t, kv_head * group + i)));
        for (row, (t, head)) in rows.chunks_exact_mut(width).zip(tokens) {
            row[..head_dim].copy_from_slice(&q[(t * self.heads + head) * head_dim..][..head_dim]);
            row[head_dim..].fill(0.0);
        }
    }

    /// Many tokens: a thread takes some of them with all query heads of a group.
    fn by_tokens(
        &self,
        team: &mut Team,
        position: usize,
        tokens: usize,
        q: &[f32],
        out: &mut [f32],
    ) {
        let Self { kernels, cache, heads, .. } = *self;
        let (head_dim, group) = (cache.head_dim(), self.group());
        let width = kv::padded(head_dim);
        let (_, positions) = self.visible(position, 0..tokens);
        let fair = (tokens * cache.kv_heads()).div_ceil(4 * team.threads());
        let part = (SCORES / (positions.len() * group)).clamp(1, TOKENS).min(fair);
        let (shape, size) = ([tokens, heads, head_dim], [part, group, head_dim]);
        team.blocks(out, shape, size, |member, mut block| {
            let [tokens, heads, _] = block.ranges();
            let (visible, positions) = self.visible(position, tokens.clone());
            let cells = cache.head((self.layer, heads.start / group), positions.clone());

            let mut scratch = lock(&self.scratch[member]);
            let rows = visible.rows;
            let floats = grown(&mut scratch.floats, rows * (2 * width + positions.len()));
            let (q_rows, floats) = floats.split_at_mut(rows * width);
            let (out_rows, scores) = floats.split_at_mut(rows * width);
            self.gather(q, heads.start / group, tokens.clone(), q_rows);
            kernels.attend(q_rows, cells, visible, self.scale, scores, out_rows);
            let places = tokens.flat_map(|t| heads.clone().map(move |head| (t, head)));
            for (row, (t, head)) in out_rows.chunks_exact(width).zip(places) {
                block.row(t, head).copy_from_slice(&row[..head_dim]);
            }
        });
    }

    /// A few tokens: the scores are divided by positions, the sums of values by elements.
    fn by_positions(
        &self,
        team: &mut Team,
        position: usize,
        tokens: usize,
        q: &[f32],
        scores: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        let Self { kernels, cache, heads, layer, .. } = *self;
        let (head_dim, group, kv_heads) = (cache.head_dim(), self.group(), cache.kv_heads());
        let width = kv::padded(head_dim);
        let (visible, positions) = self.visible(position, 0..tokens);
        let (rows, first, n) = (visible.rows, visible.first, positions.len());

        // Scores, [kv_heads][rows][positions]
        let scores = grown(scores, kv_heads * rows * n);
        let (shape, size) = ([kv_heads, rows, n], [1, rows, POSITIONS]);
        team.blocks(scores, shape, size, |member, mut block| {
            let [kv_head, _, part] = block.ranges();
            let kv_head = kv_head.start;
            let (keys, _) = cache.head((layer, kv_head), first + part.start..first + part.end);
            let visible = Visible { first: first + part.start, ..visible };

            let mut scratch = lock(&self.scratch[member]);
            let floats = grown(&mut scratch.floats, rows * (width + part.len()));
            let (q_rows, scores) = floats.split_at_mut(rows * width);
            self.gather(q, kv_head, 0..tokens, q_rows);
            kernels.attend_scores(q_rows, keys, visible, self.scale, scores);
            for (row, scores) in scores.chunks_exact(part.len()).enumerate() {
                block.row(kv_head, row).copy_from_slice(scores);
            }
        });
        team.rows(scores, n, |_, row, scores| {
            kernels.softmax(&mut scores[visible.of(row % rows)]);
        });

        let (shape, size) = ([tokens, heads, head_dim], [tokens, group, kv::BLOCK]);
        team.blocks(out, shape, size, |member, mut block| {
            let [tokens, heads, elements] = block.ranges();
            let (kv_head, panel) = (heads.start / group, elements.start / kv::BLOCK);
            let (_, values) = cache.head((layer, kv_head), positions.clone());
            let weights = &scores[kv_head * rows * n..(kv_head + 1) * rows * n];

            let mut scratch = lock(&self.scratch[member]);
            let sums = grown(&mut scratch.floats, rows * kv::BLOCK);
            kernels.attend_values(weights, values, panel..panel + 1, visible, sums);
            let places = tokens.flat_map(|t| heads.clone().map(move |head| (t, head)));
            for (sums, (t, head)) in sums.chunks_exact(kv::BLOCK).zip(places) {
                block.row(t, head).copy_from_slice(&sums[..elements.len()]);
            }
        });
    }
}
