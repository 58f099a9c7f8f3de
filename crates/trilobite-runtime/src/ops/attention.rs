//! Causal attention of the tokens of one or more sequences over their pages.

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use trilobite_kernels::kv::{self, Block, Cells, CellsMut, Visible};

use crate::cache::{PAGE, Page};
use crate::config::Config;
use crate::scratch::grown;
use crate::sequence::Part;
use crate::workers::Workers;

/// Attention of at most this many tokens of one sequence, over at least `MANY_POSITIONS` positions,
/// is divided by positions and elements. A division by heads alone would leave threads idle.
const FEW_TOKENS: usize = 8;
const MANY_POSITIONS: usize = 256;
/// Minimum number of positions whose scores a thread computes at a time in that case.
const SCORE_POSITIONS: usize = 128;
/// Maximum number of scores that a thread holds at a time. They fit in the second-level cache.
const MAX_SCORES: usize = 1 << 17;
/// Maximum number of tokens that a thread takes at a time, so that there is work for all threads.
const MAX_TOKENS: usize = 32;

/// Maximum number of positions whose scores are allocated at the start. Beyond them buffers grow.
const INITIAL_POSITIONS: usize = 1 << 15;

/// Number of floats that a thread needs for the attention of one token.
pub(crate) fn scratch_len(config: &Config) -> usize {
    config.heads / config.kv_heads * (2 * kv::padded(config.head_dim) + MANY_POSITIONS)
}

/// Consecutive tokens of a batch that continue one sequence.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// Index of the part of the input that the tokens come from. A part has at most one run in a
    /// batch.
    pub(crate) part: usize,
    /// The index of the first token in its part.
    pub(crate) index: usize,
    /// The position of the first token.
    pub(crate) position: usize,
    /// The rows of the tokens in the batch.
    pub(crate) rows: Range<usize>,
}

/// The head counts and the width of an attention. Each group of query heads shares a KV head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    /// Number of query heads.
    pub(crate) query: usize,
    /// Number of key and value heads.
    pub(crate) kv: usize,
    /// Width of a head.
    pub(crate) dim: usize,
}

/// Buffers of the attention.
#[derive(Default)]
pub(crate) struct AttentionBuffers {
    /// Scores of up to `FEW_TOKENS` tokens, `[kv heads][rows][positions]`.
    scores: Vec<f32>,
    /// Ranges of rows of the batch, each the work of one thread at a time.
    parts: Vec<Range<usize>>,
    /// The index of the run of each range.
    run_of: Vec<usize>,
}

impl AttentionBuffers {
    /// Allocates the scores of one token with `heads` query heads and up to `positions` positions.
    /// Very long contexts start smaller and grow.
    pub(crate) fn new(heads: usize, positions: usize) -> Self {
        let scores = Vec::with_capacity(
            heads * positions.min(INITIAL_POSITIONS).next_multiple_of(kv::BLOCK),
        );
        Self { scores, ..Self::default() }
    }
}

/// The attention of one layer.
#[derive(Clone, Copy)]
pub(crate) struct Attention<'a> {
    pub(crate) heads: Heads,
    pub(crate) layer: usize,
    /// Factor of the products of queries and keys.
    pub(crate) scale: f32,
    /// Number of positions that a token attends to, its own included; `usize::MAX` for all.
    pub(crate) window: usize,
    /// The runs of the batch, in the order of its rows.
    pub(crate) runs: &'a [Run],
}

/// The keys and values of a head in one page, for writing.
struct PageRows<'a> {
    keys: CellsMut<'a>,
    values: CellsMut<'a>,
    head: usize,
    /// The rows of the batch to write to the page.
    rows: Range<usize>,
    /// The offset of the first row within the page.
    offset: usize,
}

impl Attention<'_> {
    /// Writes the keys and values of the batch, `[T][kv heads * dim]`, to the pages.
    pub(crate) fn store(self, workers: &mut Workers, parts: &mut [Part<'_>], k: &[f32], v: &[f32]) {
        let (kernels, dim, width) =
            (workers.kernels, self.heads.dim, self.heads.kv * self.heads.dim);
        let put = |target: &mut PageRows<'_>| {
            for (position, row) in (target.offset..).zip(target.rows.clone()) {
                let head = row * width + target.head * dim..row * width + (target.head + 1) * dim;
                kernels.store_key(&k[head.clone()], &mut target.keys, position);
                kernels.store_value(&v[head], &mut target.values, position);
            }
        };
        // A single token is too little work to wake a thread.
        let few = self.runs.last().is_none_or(|run| run.rows.end == 1);
        let mut targets = Vec::new();
        let mut runs = self.runs.iter().peekable();
        for (index, part) in parts.iter_mut().enumerate() {
            let Some(run) = runs.next_if(|run| run.part == index) else { continue };
            let end = run.position + run.rows.len();
            for (first, page) in part.sequence.tail_mut().take_while(|(first, _)| *first < end) {
                let start = run.position.max(first);
                let row = |position: usize| run.rows.start + position - run.position;
                let rows = row(start)..row(end.min(first + PAGE));
                for (head, (keys, values)) in page.heads_mut(self.layer).enumerate() {
                    let offset = start - first;
                    let mut target = PageRows { keys, values, head, rows: rows.clone(), offset };
                    match few {
                        true => put(&mut target),
                        false => targets.push(target),
                    }
                }
            }
        }
        workers.team.rows(&mut targets, 1, |_, _, targets| targets.iter_mut().for_each(&put));
    }

    /// Computes the attention of all runs, whose keys and values have been stored. `q` and `out`
    /// are `[T][query heads * dim]`. The division of the work changes no sum.
    pub(crate) fn run(
        self,
        workers: &mut Workers,
        parts: &[Part<'_>],
        q: &[f32],
        buffers: &mut AttentionBuffers,
        out: &mut [f32],
    ) {
        if let [run] = self.runs {
            let (_, positions) = self.visible(run, run.rows.clone());
            if run.rows.len() <= FEW_TOKENS && positions.len() >= MANY_POSITIONS {
                let pages = parts[run.part].sequence.pages();
                return self.by_positions(workers, run, pages, q, &mut buffers.scores, out);
            }
        }
        self.by_tokens(workers, parts, q, buffers, out);
    }

    /// Number of query heads that share a KV head.
    fn group(self) -> usize {
        self.heads.query / self.heads.kv
    }

    /// The positions that some rows of a run attend to, and the range of blocks that contains them.
    fn visible(self, run: &Run, rows: Range<usize>) -> (Visible, Range<usize>) {
        let (group, window) = (self.group(), self.window);
        let position = |row: usize| run.position + row - run.rows.start;
        let end = position(rows.start) + 1;
        let first = end.saturating_sub(window) / kv::BLOCK * kv::BLOCK;
        let visible = Visible { rows: rows.len() * group, group, first, end, window };
        (visible, first..position(rows.end).next_multiple_of(kv::BLOCK))
    }

    /// Gathers the queries of some tokens for one KV head, `[rows][dim]`, padded with zeros to
    /// whole panels.
    fn gather(self, q: &[f32], kv_head: usize, tokens: Range<usize>, rows: &mut [f32]) {
        let (Heads { query, dim, .. }, group) = (self.heads, self.group());
        let tokens = tokens.flat_map(|t| (0..group).map(move |i| (t, kv_head * group + i)));
        for (row, (t, head)) in rows.chunks_exact_mut(kv::padded(dim)).zip(tokens) {
            row[..dim].copy_from_slice(&q[(t * query + head) * dim..][..dim]);
            row[dim..].fill(0.0);
        }
    }

    /// The method for many tokens or several sequences: a thread takes some tokens of one sequence
    /// with all query heads of a group.
    fn by_tokens(
        self,
        workers: &mut Workers,
        parts: &[Part<'_>],
        q: &[f32],
        buffers: &mut AttentionBuffers,
        out: &mut [f32],
    ) {
        let (Heads { query, kv: kv_heads, dim }, group) = (self.heads, self.group());
        let (kernels, width) = (workers.kernels, kv::padded(dim));
        let tokens = out.len() / (query * dim);
        let fair = (tokens * kv_heads).div_ceil(4 * workers.team.threads());
        let AttentionBuffers { parts: pieces, run_of, .. } = buffers;
        pieces.clear();
        run_of.clear();
        for (index, run) in self.runs.iter().enumerate() {
            let (_, positions) = self.visible(run, run.rows.clone());
            let piece = (MAX_SCORES / (positions.len() * group)).clamp(1, MAX_TOKENS).min(fair);
            for start in run.rows.clone().step_by(piece) {
                pieces.push(start..run.rows.end.min(start + piece));
                run_of.push(index);
            }
        }
        let shape = [tokens, query, dim];
        workers.team.blocks(out, shape, pieces, [group, dim], |scratch, piece, mut block| {
            let [tokens, heads, _] = block.ranges();
            let (run, kv_head) = (&self.runs[run_of[piece]], heads.start / group);
            let (visible, positions) = self.visible(run, tokens.clone());
            let pages = &parts[run.part].sequence.pages()[positions.start / PAGE..];

            let rows = visible.rows;
            let floats = grown(&mut scratch.floats, rows * (2 * width + positions.len()));
            let (q_rows, floats) = floats.split_at_mut(rows * width);
            let (out_rows, scores) = floats.split_at_mut(rows * width);
            self.gather(q, kv_head, tokens.clone(), q_rows);
            let cells = |block: usize| pages[block].head(self.layer, kv_head);
            kernels.attend(q_rows, cells, visible, self.scale, scores, out_rows);
            let places = tokens.flat_map(|t| heads.clone().map(move |head| (t, head)));
            for (row, (t, head)) in out_rows.chunks_exact(width).zip(places) {
                block.row(t, head).copy_from_slice(&row[..dim]);
            }
        });
    }

    /// The method for a few tokens of one sequence: the scores are divided by positions, the sums
    /// of values by elements.
    fn by_positions(
        self,
        workers: &mut Workers,
        run: &Run,
        pages: &[Arc<Page>],
        q: &[f32],
        scores: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        let (Heads { query, kv: kv_heads, dim }, group) = (self.heads, self.group());
        let (kernels, width) = (workers.kernels, kv::padded(dim));
        let tokens = run.rows.len();
        let (visible, positions) = self.visible(run, run.rows.clone());
        let (rows, n, pages) = (visible.rows, positions.len(), &pages[positions.start / PAGE..]);

        // Scores, [kv heads][rows][positions]
        let scores = grown(scores, kv_heads * rows * n);
        // The first block of a piece is not prefetched, so pieces are long.
        let fair = (kv_heads * n).div_ceil(8 * workers.team.threads());
        let piece = fair.next_multiple_of(PAGE).max(SCORE_POSITIONS);
        let (shape, size) = ([1, kv_heads * rows, n], [rows, piece]);
        let one = std::slice::from_ref(&(0..1));
        workers.team.blocks(scores, shape, one, size, |scratch, _, mut block| {
            let [_, head_rows, part] = block.ranges();
            let kv_head = head_rows.start / rows;
            let floats = grown(&mut scratch.floats, rows * (width + part.len()));
            let (q_rows, scores) = floats.split_at_mut(rows * width);
            self.gather(q, kv_head, run.rows.clone(), q_rows);
            let visible = Visible { first: visible.first + part.start, ..visible };
            let pages = &pages[part.start / PAGE..part.end / PAGE];
            let keys = |index: usize| pages[index.min(pages.len() - 1)].head(self.layer, kv_head).0;
            for index in 0..pages.len() {
                let keys = Block { index, cells: keys(index), next: keys(index + 1) };
                kernels.attend_scores(q_rows, keys, visible, self.scale, scores);
            }
            for (row, scores) in scores.chunks_exact(part.len()).enumerate() {
                block.row(0, head_rows.start + row).copy_from_slice(scores);
            }
        });
        workers.team.rows(scores, n, |_, row, scores| {
            kernels.softmax(&mut scores[visible.of(row % rows)]);
        });

        // Two panels are read faster than one, but one may divide more evenly.
        let rounds = |panels: usize| {
            let pieces = kv_heads * dim.div_ceil(panels * kv::BLOCK);
            pieces.div_ceil(workers.team.threads()) * panels
        };
        let panels = if rounds(2) <= rounds(1) { 2 } else { 1 };
        let (shape, size) = ([tokens, query, dim], [group, panels * kv::BLOCK]);
        let all = std::slice::from_ref(&run.rows);
        workers.team.blocks(out, shape, all, size, |scratch, _, mut block| {
            let [tokens, heads, elements] = block.ranges();
            let kv_head = heads.start / group;
            let panels = elements.start / kv::BLOCK..elements.end.div_ceil(kv::BLOCK);
            let weights = &scores[kv_head * rows * n..(kv_head + 1) * rows * n];
            let width = panels.len() * kv::BLOCK;
            let sums = grown(&mut scratch.floats, rows * width);
            sums.fill(0.0);
            let values = |index: usize| -> Cells<'_> {
                pages[index.min(n / PAGE - 1)].head(self.layer, kv_head).1
            };
            for index in 0..n / PAGE {
                // The values of a block are used up before those of the next one arrive.
                let values = Block { index, cells: values(index), next: values(index + 2) };
                kernels.attend_values(weights, values, panels.clone(), visible, sums);
            }
            let places = tokens.flat_map(|t| heads.clone().map(move |head| (t, head)));
            for (sums, (t, head)) in sums.chunks_exact(width).zip(places) {
                block.row(t, head).copy_from_slice(&sums[..elements.len()]);
            }
        });
    }
}
