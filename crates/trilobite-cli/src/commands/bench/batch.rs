//! The decoding of several sequences at once.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use trilobite_runtime::{Largest, Part, Sequence, Session, Want};

use super::tokens::{best, prompt};
use crate::args::Bench;

/// Sequences that are decoded together, kept for all runs.
#[derive(Default)]
pub(super) struct Sequences(Vec<Sequence>);

impl Sequences {
    /// Total speed of greedy decoding of `count` sequences in tokens per second, each in a context
    /// of its own of `depth` tokens and one more.
    pub(super) fn speed(
        &mut self,
        session: &mut Session,
        args: &Bench,
        count: usize,
    ) -> Result<f64> {
        let model = Arc::clone(session.model());
        let (forward, _) = session.parts();
        let context = prompt(&model, args.depth);
        self.0.resize_with(count.max(self.0.len()), || forward.sequence());
        let sequences = &mut self.0[..count];
        for sequence in &mut *sequences {
            sequence.truncate(args.depth);
            let tokens = &context[sequence.len()..];
            forward.read(&mut [Part { sequence, tokens, want: Want::Nothing }], |_, _, _| {})?;
        }
        let mut next = prompt(&model, count);
        let start = Instant::now();
        for _ in 0..args.n {
            let tokens = next.clone();
            let parts = sequences.iter_mut().zip(tokens.chunks(1));
            let mut parts: Vec<Part<'_>> = parts
                .map(|(sequence, tokens)| Part {
                    sequence,
                    tokens,
                    want: Want::new(0, Some(Largest::count(1))),
                })
                .collect();
            let mut found = Ok(());
            forward.read(&mut parts, |part, _, logits| match best(logits) {
                Ok(best) => next[part] = best,
                Err(error) => found = Err(error),
            })?;
            found?;
        }
        Ok((count * args.n) as f64 / start.elapsed().as_secs_f64())
    }
}
