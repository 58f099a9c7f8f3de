//! The logits of a batch: all of them, or the largest.

use std::sync::Arc;

use trilobite_kernels::scan::RowBounds;

use super::buffers::{BatchRow, Buffers};
use super::{Forward, SessionOptions};
use crate::head::{Head, Largest, Logits, MAX_INPUTS};
use crate::ops::{Ops, Run};
use crate::profile::Stage;
use crate::scratch::grown;
use crate::sequence::{Part, Want};
use crate::weights::MatrixView;

/// Maximum number of tokens whose logits are computed together.
const HEAD_BATCH: usize = 16;

impl Forward {
    /// Passes the requested logits of the batch to `sink`.
    pub(super) fn outputs(
        &mut self,
        parts: &[Part<'_>],
        sink: &mut impl FnMut(usize, usize, Logits<'_>),
    ) {
        let mut wanted = std::mem::take(&mut self.buffers.wanted);
        let mut largest = std::mem::take(&mut self.buffers.largest);
        wanted.clear();
        largest.clear();
        for run in 0..self.buffers.runs.len() {
            let Run { part, index, ref rows, .. } = self.buffers.runs[run];
            let (first, end) = (rows.start, index + rows.len());
            let places =
                |from: usize| (from.max(index)..end).map(move |at| (first + at - index, part, at));
            match parts[part].want {
                Want::Nothing => {}
                Want::From(from) => wanted.extend(places(from)),
                Want::Largest { from, largest: which } => {
                    largest.extend(places(from).map(|place| (place, which)));
                }
            }
        }
        // Rows are processed together so that the head is read as few times as possible.
        for group in largest.chunks(MAX_INPUTS) {
            self.search(group);
            for (input, &(place, _)) in group.iter().enumerate() {
                let (_, part, index) = place;
                match self.search.found(input) {
                    Some(logits) => sink(part, index, logits),
                    None => wanted.push(place),
                }
            }
        }
        // In the order of the rows, so that each moves to a place that is free.
        wanted.sort_unstable();
        let hidden = self.model.config().hidden;
        for (to, &(row, ..)) in wanted.iter().enumerate() {
            self.buffers.x.copy_within(row * hidden..(row + 1) * hidden, to * hidden);
        }
        for (chunk, places) in wanted.chunks(HEAD_BATCH).enumerate() {
            let logits = self.head(chunk * HEAD_BATCH, places.len());
            for (logits, &(_, part, index)) in logits.zip(places) {
                sink(part, index, Logits::all(logits));
            }
        }
        (self.buffers.wanted, self.buffers.largest) = (wanted, largest);
    }

    /// The logits of `count` rows of the batch from `start` on.
    fn head(&mut self, start: usize, count: usize) -> impl Iterator<Item = &[f32]> {
        let model = Arc::clone(&self.model);
        let (config, weights) = (model.config(), model.weights());
        let b = &mut self.buffers;
        let SessionOptions { plain, activations, .. } = self.options;
        let mut ops = Ops {
            workers: &mut self.workers,
            model: &model,
            parts: &mut b.parts,
            plain,
            activations,
        };
        let x = &b.x[start * config.hidden..(start + count) * config.hidden];
        let (norm, head) = (Some(&weights.output_norm[..]), &weights.head);
        let input = ops.prepare(x, norm, count, &[head], &mut b.input);
        let logits = grown(&mut b.logits, count * config.vocab);
        ops.linear(input, [(head, &mut *logits)]);
        if let Some(cap) = config.logit_cap {
            logits.iter_mut().for_each(|logit| *logit = cap * libm::tanhf(*logit / cap));
        }
        ops.workers.lap(Stage::Head);
        logits.chunks_exact(config.vocab)
    }

    /// Searches for the largest logits of some rows of the batch.
    fn search(&mut self, largest: &[(BatchRow, Largest)]) {
        let (config, weights) = (self.model.config(), self.model.weights());
        let (Some(scan), MatrixView::Dense(head), false) =
            (&weights.head_scan, self.model.view(&weights.head), self.options.plain)
        else {
            return;
        };
        // A search compares logits before the cap, which can make different ones equal, and its
        // bounds are valid for float weights only.
        if config.logit_cap.is_some() || head.ty().has_blocks() {
            return;
        }
        let model = &self.model;
        let head = Head {
            weights: head,
            codes: model.bytes(&scan.codes),
            refinements: model.bytes(&scan.refinements),
            bounds: RowBounds::new(model.bytes(&scan.bounds)),
            factors: &scan.factors,
        };
        let Buffers { x, normed, .. } = &mut self.buffers;
        for (&((row, ..), _), h) in largest.iter().zip(normed.chunks_exact_mut(config.hidden)) {
            let x = &x[row * config.hidden..(row + 1) * config.hidden];
            self.workers.kernels.rms_norm(x, &weights.output_norm, config.norm_eps, h);
        }
        self.search.run(&mut self.workers, head, normed, largest.iter().map(|&(_, which)| which));
    }

    /// The logits that the last [`read`](Self::read) of a single token passed to its sink: the
    /// result of a search if `found`, or all.
    pub(crate) fn last_logits(&self, found: bool) -> Logits<'_> {
        let all = || Logits::all(&self.buffers.logits[..self.model.config().vocab]);
        self.search.found(0).filter(|_| found).unwrap_or_else(all)
    }
}
