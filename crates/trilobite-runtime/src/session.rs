//! A forward pass together with one sequence.

use std::sync::Arc;

use crate::activations::Activations;
use crate::cache::CacheType;
use crate::error::{Error, Result};
use crate::forward::{Forward, SessionOptions};
use crate::head::{Largest, Logits};
use crate::model::Model;
use crate::profile::Profile;
use crate::scratch::Live;
use crate::sequence::{Part, Sequence, Want};
use crate::speculate::Speculation;

/// A model and one sequence of tokens: a [`Forward`] with a [`Sequence`].
pub struct Session {
    forward: Forward,
    sequence: Sequence,
    speculation: Option<Speculation>,
}

impl Session {
    /// Creates a session with an empty context. Unless the options are plain, it speculates by
    /// [`Lookup`](crate::Lookup).
    ///
    /// # Errors
    /// `TRILOBITE_ISA` names an instruction set that cannot be used, or a thread cannot be started.
    pub fn new(model: Arc<Model>, options: SessionOptions) -> Result<Self> {
        let forward = Forward::new(model, options)?;
        let sequence = forward.sequence();
        let speculation = (!options.plain).then(Speculation::default);
        Ok(Self { forward, sequence, speculation })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        self.forward.model()
    }

    /// The tokens processed so far.
    pub fn tokens(&self) -> &[u32] {
        self.sequence.tokens()
    }

    /// Number of tokens processed so far.
    pub fn position(&self) -> usize {
        self.sequence.len()
    }

    /// Maximum number of tokens.
    pub fn context(&self) -> usize {
        self.forward.context()
    }

    /// The forward pass and the sequence, for processing other sequences along with this one.
    pub fn parts(&mut self) -> (&mut Forward, &mut Sequence) {
        (&mut self.forward, &mut self.sequence)
    }

    /// Replaces the speculation of [`generate`](crate::generate), which changes its speed alone.
    /// Returns the previous one.
    pub fn speculate(&mut self, speculation: Option<Speculation>) -> Option<Speculation> {
        std::mem::replace(&mut self.speculation, speculation)
    }

    /// The parts of the session.
    pub(crate) fn split(&mut self) -> (&mut Forward, &mut Sequence, Option<&mut Speculation>) {
        (&mut self.forward, &mut self.sequence, self.speculation.as_mut())
    }

    /// Element type of the KV cache.
    pub fn cache_type(&self) -> CacheType {
        self.forward.cache_type()
    }

    /// How activations are rounded.
    pub fn activations(&self) -> Activations {
        self.forward.activations()
    }

    /// Removes all tokens from `position` on.
    pub fn truncate(&mut self, position: usize) {
        self.sequence.truncate(position);
    }

    /// Keeps the longest common prefix with `tokens`, at most `most` tokens, and removes the rest.
    /// Returns the number of tokens kept.
    pub fn rewind(&mut self, tokens: &[u32], most: usize) -> usize {
        self.sequence.rewind(tokens, most)
    }

    /// Returns how much of the feed-forward networks was read since the last call.
    pub fn take_live(&mut self) -> Live {
        self.forward.take_live()
    }

    /// Starts measuring the time of each stage, or stops and returns the measurement.
    pub fn measure(&mut self, on: bool) -> Option<Profile> {
        self.forward.measure(on)
    }

    /// Processes tokens and adds them to the sequence.
    ///
    /// # Errors
    /// A token is outside the vocabulary, or the tokens do not fit in the context: none is
    /// processed. There is not enough memory for keys and values: some tokens may have been
    /// processed.
    pub fn read(&mut self, tokens: &[u32]) -> Result<()> {
        self.feed(tokens, Want::Nothing, |_, _| {})
    }

    /// Processes tokens and returns the logits after the last one, `[vocab]`.
    ///
    /// # Errors
    /// `tokens` is empty, or as for [`read`](Self::read).
    pub fn next_logits(&mut self, tokens: &[u32]) -> Result<Logits<'_>> {
        self.next(tokens, None)
    }

    /// Processes tokens and returns the `k` largest logits after the last one, all logits equal to
    /// one of them, and possibly others.
    ///
    /// If the model has a coarse copy of the head, this reads less memory than
    /// [`next_logits`](Self::next_logits) and returns the same values, to the last bit.
    ///
    /// # Errors
    /// `tokens` is empty, or as for [`read`](Self::read).
    pub fn next_largest(&mut self, tokens: &[u32], k: usize) -> Result<Logits<'_>> {
        self.next(tokens, Some(Largest::count(k)))
    }

    /// Processes tokens and returns the logits after the last one: the `largest`, or all.
    fn next(&mut self, tokens: &[u32], largest: Option<Largest>) -> Result<Logits<'_>> {
        let from = tokens.len().checked_sub(1).ok_or(Error::EmptyPrompt)?;
        let want = Want::new(from, largest);
        let mut found = false;
        self.feed(tokens, want, |_, logits| found = !logits.is_all())?;
        Ok(self.forward.last_logits(found))
    }

    /// Processes tokens and passes the logits after each to `sink(index in tokens, logits)`.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn each_logits(
        &mut self,
        tokens: &[u32],
        mut sink: impl FnMut(usize, &[f32]),
    ) -> Result<()> {
        self.feed(tokens, Want::From(0), |index, logits| sink(index, logits.values()))
    }

    fn feed(
        &mut self,
        tokens: &[u32],
        want: Want,
        mut sink: impl FnMut(usize, Logits<'_>),
    ) -> Result<()> {
        let part = Part { sequence: &mut self.sequence, tokens, want };
        self.forward.read(&mut [part], |_, index, logits| sink(index, logits))
    }
}
