//! Speculation: drafts of the next tokens, which one pass verifies.
//!
//! Decoding waits for the memory that holds the weights, so a pass over a few tokens takes little
//! longer than a pass over one. A [`Drafter`] drafts the tokens that follow. The pass reads the
//! drafts along with the last token, and the sampler chooses a token after each, as it would
//! without them, until its choice differs from the next draft. Tokens, their logits and the random
//! numbers drawn are therefore those of decoding one by one; only the time differs.

use std::ops::Sub;
use std::sync::Arc;
use std::time::Instant;

use crate::error::{Error, Result};
use crate::model::Model;
use crate::pace::Pace;
use crate::sampler::argmax;
use crate::session::Session;

/// Maximum number of drafts of a pass.
const MAX_DRAFTS: usize = 7;
/// Minimum number of tokens that must occur twice for [`Lookup`] to draft what follows.
const MIN_MATCH: usize = 2;
/// Number of tokens up to which longer matches are preferred.
const MAX_MATCH: usize = 16;

/// Drafts the tokens that follow a text.
pub trait Drafter: Send {
    /// Appends at most `most` drafts of the tokens after `text` to `drafts`.
    ///
    /// # Errors
    /// A model that drafts cannot process the text.
    fn draft(&mut self, text: &[u32], most: usize, drafts: &mut Vec<u32>) -> Result<()>;
}

/// Drafts that the text goes on as it did where its last tokens occurred before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lookup;

impl Drafter for Lookup {
    fn draft(&mut self, text: &[u32], most: usize, drafts: &mut Vec<u32>) -> Result<()> {
        let Some(end) = earlier(text) else { return Ok(()) };
        let first = drafts.len();
        for index in end..end + most {
            // A repetition can reach into the drafts.
            let token = text.get(index).or_else(|| drafts.get(first + index - text.len()));
            drafts.extend(token.copied());
        }
        Ok(())
    }
}

/// The end of the earlier part of the text that has the most tokens in common with its end, the
/// last one of equals.
fn earlier(text: &[u32]) -> Option<usize> {
    let last = text.last()?;
    let mut best = (MIN_MATCH - 1, None);
    for end in (1..text.len()).rev().filter(|end| text[end - 1] == *last) {
        let pairs = text[..end].iter().rev().zip(text.iter().rev()).take(MAX_MATCH);
        let length = pairs.take_while(|(a, b)| a == b).count();
        if length > best.0 {
            best = (length, Some(end));
        }
        if length == MAX_MATCH {
            break;
        }
    }
    best.1
}

/// Numbers of drafts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drafted {
    /// Drafts that a pass has read.
    pub drafted: usize,
    /// Drafts that were right.
    pub accepted: usize,
}

impl Sub for Drafted {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { drafted: self.drafted - other.drafted, accepted: self.accepted - other.accepted }
    }
}

/// The speculation of a sequence: a drafter, and when it is worth asking.
pub struct Speculation {
    drafter: Box<dyn Drafter>,
    pace: Pace,
    /// The drafts of the pass in progress, and when it began.
    drafts: Vec<u32>,
    begun: Option<Instant>,
    counts: Drafted,
}

impl Default for Speculation {
    /// Speculation by [`Lookup`].
    fn default() -> Self {
        Self::new(Lookup)
    }
}

impl Speculation {
    /// Creates the speculation of a drafter. It asks for few drafts or none where they are seldom
    /// right, so that it costs next to nothing there.
    pub fn new(drafter: impl Drafter + 'static) -> Self {
        Self::with(drafter, Pace::default())
    }

    /// Creates speculation that always asks for as many drafts as a pass takes.
    pub fn eager(drafter: impl Drafter + 'static) -> Self {
        Self::with(drafter, Pace::eager())
    }

    fn with(drafter: impl Drafter + 'static, pace: Pace) -> Self {
        let (drafter, drafts) = (Box::new(drafter), Vec::with_capacity(MAX_DRAFTS));
        Self { drafter, pace, drafts, begun: None, counts: Drafted::default() }
    }

    /// Drafts at most `most` tokens after `text`, for a pass that begins now. The pass must end
    /// with [`note`](Self::note).
    ///
    /// # Errors
    /// The drafter fails.
    pub fn draft(&mut self, text: &[u32], most: usize) -> Result<&[u32]> {
        self.begun = Some(Instant::now());
        self.drafts.clear();
        let most = self.pace.drafts(most.min(MAX_DRAFTS));
        if most > 0 {
            self.drafter.draft(text, most, &mut self.drafts)?;
            self.drafts.truncate(most);
        }
        Ok(&self.drafts)
    }

    /// Records how many of the drafts of a pass were right. Does nothing if no pass has begun.
    pub fn note(&mut self, accepted: usize) {
        let Some(begun) = self.begun.take() else { return };
        let drafted = self.drafts.len();
        self.counts.drafted += drafted;
        self.counts.accepted += accepted;
        self.pace.note(drafted, accepted, begun.elapsed());
    }

    /// Numbers of drafts so far.
    pub fn counts(&self) -> Drafted {
        self.counts
    }
}

/// Drafts by a small model with the same vocabulary, greedily.
pub struct ModelDrafter {
    session: Session,
    /// The number of ids in the other model's vocabulary.
    vocab: usize,
}

impl ModelDrafter {
    /// Creates the drafter of a session for a model.
    ///
    /// # Errors
    /// The models have different vocabularies.
    pub fn new(session: Session, model: &Model) -> Result<Self> {
        let drafting = Arc::clone(session.model());
        let different = |text| Err(Error::DraftVocabulary(text));
        let (own, other) = (drafting.tokenizer()?, model.tokenizer()?);
        let (own_len, other_len) = (own.max_id(), other.max_id());
        if own_len != other_len {
            let size = |most: Option<u32>| most.map_or(0, |most| u64::from(most) + 1);
            let (own, other) = (size(own_len), size(other_len));
            return different(format!("it has {own} tokens, and the model has {other}"));
        }
        for id in own_len.map_or(0..0, |most| 0..most + 1) {
            let (own, other) = (own.token(id), other.token(id));
            if own != other {
                let name =
                    |token: Option<String>| token.map_or("absent".into(), |t| format!("{t:?}"));
                let (own, other) = (name(own), name(other));
                return different(format!("token {id} is {own}, and {other} in the model"));
            }
        }
        Ok(Self { session, vocab: model.config().vocab })
    }
}

impl Drafter for ModelDrafter {
    fn draft(&mut self, text: &[u32], most: usize, drafts: &mut Vec<u32>) -> Result<()> {
        // A padded vocabulary has ids without tokens, and not every one in both models.
        let known = self.session.model().config().vocab;
        if text.iter().any(|&id| id as usize >= known) {
            return Ok(());
        }
        let kept = self.session.rewind(text, text.len().saturating_sub(1));
        let room = self.session.context().saturating_sub(text.len());
        let mut next = text[kept..].to_vec();
        for _ in 0..most.min(room) {
            let logits = self.session.next_largest(&next, 1)?;
            let best = argmax(logits.values()).map(|best| logits.id(best as usize));
            let Some(id) = best.filter(|&id| (id as usize) < self.vocab) else { break };
            drafts.push(id);
            next = vec![id];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
