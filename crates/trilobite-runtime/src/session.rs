//! One context: a forward pass and the sequence that it continues.

use std::sync::Arc;

use crate::cache::CacheType;
use crate::error::{Error, Result};
use crate::forward::{Forward, SessionOptions};
use crate::head::Logits;
use crate::model::Model;
use crate::ops::Live;
use crate::profile::Profile;
use crate::sequence::{Part, Sequence, Want};

/// A model that reads one sequence of tokens: a [`Forward`] with its [`Sequence`].
pub struct Session {
    forward: Forward,
    sequence: Sequence,
}

impl Session {
    /// An empty context.
    ///
    /// # Errors
    /// `TRILOBITE_ISA` names an instruction set that cannot be used.
    pub fn new(model: Arc<Model>, options: SessionOptions) -> Result<Self> {
        let forward = Forward::new(model, options)?;
        let sequence = forward.sequence();
        Ok(Self { forward, sequence })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        self.forward.model()
    }

    /// The tokens that have been read.
    pub fn tokens(&self) -> &[u32] {
        self.sequence.tokens()
    }

    /// Number of tokens that have been read.
    pub fn position(&self) -> usize {
        self.sequence.len()
    }

    /// Number of tokens that fit.
    pub fn context(&self) -> usize {
        self.forward.context()
    }

    /// The two that a session is made of, to read other sequences beside its own.
    pub fn parts(&mut self) -> (&mut Forward, &mut Sequence) {
        (&mut self.forward, &mut self.sequence)
    }

    /// How keys and values are kept.
    pub fn cache_type(&self) -> CacheType {
        self.forward.cache_type()
    }

    /// Forgets all tokens from `position` on.
    pub fn truncate(&mut self, position: usize) {
        self.sequence.truncate(position);
    }

    /// Forgets what differs from the beginning of `tokens`, and keeps at most `most` tokens. Returns
    /// how many are left.
    pub fn rewind(&mut self, tokens: &[u32], most: usize) -> usize {
        self.sequence.rewind(tokens, most)
    }

    /// What was read of the feed-forward networks since the last call.
    pub fn take_live(&mut self) -> Live {
        self.forward.take_live()
    }

    /// Starts to measure where the time goes, or stops and returns what was measured.
    pub fn measure(&mut self, on: bool) -> Option<Profile> {
        self.forward.measure(on)
    }

    /// Reads tokens.
    ///
    /// # Errors
    /// A token outside the vocabulary, or more tokens than the context holds; nothing is read then.
    pub fn read(&mut self, tokens: &[u32]) -> Result<()> {
        self.feed(tokens, Want::Nothing, |_, _| {})
    }

    /// Reads tokens and returns the logits after the last, `[vocab]`.
    ///
    /// # Errors
    /// No token, a token outside the vocabulary, or more tokens than the context holds.
    pub fn next_logits(&mut self, tokens: &[u32]) -> Result<Logits<'_>> {
        Ok(self.next(tokens, None)?.0)
    }

    /// Reads tokens and returns the `k` largest logits after the last, those equal to one of them, and
    /// as many others as happens. With a coarse copy of the head in the model's file this reads less
    /// than [`next_logits`](Self::next_logits), whose values it returns to the last bit.
    ///
    /// # Errors
    /// No token, a token outside the vocabulary, or more tokens than the context holds.
    pub fn next_largest(&mut self, tokens: &[u32], k: usize) -> Result<Logits<'_>> {
        Ok(self.next(tokens, Some(k))?.0)
    }

    /// Reads tokens. Returns the logits after the last, the `largest` or all, and all tokens that have
    /// been read.
    pub(crate) fn next(
        &mut self,
        tokens: &[u32],
        largest: Option<usize>,
    ) -> Result<(Logits<'_>, &[u32])> {
        let last = tokens.len().checked_sub(1).ok_or(Error::EmptyPrompt)?;
        let mut found = false;
        self.feed(tokens, largest.map_or(Want::From(last), Want::Largest), |_, logits| {
            found = !logits.is_all();
        })?;
        Ok((self.forward.shown(found), self.sequence.tokens()))
    }

    /// Reads tokens and shows the logits after each: `sink(index in tokens, logits)`.
    ///
    /// # Errors
    /// A token outside the vocabulary, or more tokens than the context holds.
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
