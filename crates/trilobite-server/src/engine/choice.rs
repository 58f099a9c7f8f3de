//! A choice: one of the answers to a prompt.

use trilobite_runtime::{Continuation, Finish, Largest, Limits, Logits, Peak, Sampler, Tokenizer};

use super::event::{Failure, Token, TokenLogprobs};

/// The state of an answer beside its sequence.
pub(super) struct Choice<'m> {
    index: usize,
    sampler: Sampler,
    continuation: Continuation<'m>,
    max_tokens: Option<usize>,
}

impl<'m> Choice<'m> {
    /// Creates an empty answer to `prompt`.
    pub(super) fn new(
        index: usize,
        sampler: Sampler,
        tokenizer: &'m Tokenizer,
        limits: Limits,
        prompt: &[u32],
    ) -> Self {
        let max_tokens = limits.max_tokens;
        let continuation = Continuation::new(Some(tokenizer), limits, prompt);
        Self { index, sampler, continuation, max_tokens }
    }

    /// Its index in the job.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// Whether no token is requested.
    pub(super) fn is_empty(&self) -> bool {
        self.max_tokens == Some(0)
    }

    /// The logits that the next token and those after the drafted ones depend on, or `None` for all.
    pub(super) fn needs(&mut self, drafts: &[u32]) -> Option<Largest> {
        self.sampler.needs_after(self.continuation.ids(), drafts)
    }

    /// Updates the penalties for the answer's last token, which was drafted.
    pub(super) fn watch(&mut self) {
        self.sampler.watch(self.continuation.ids());
    }

    /// Number of tokens that the answer can still have; `None` is no limit.
    pub(super) fn left(&self) -> Option<usize> {
        self.max_tokens.map(|max| max.saturating_sub(self.continuation.ids().len()))
    }

    /// Chooses the token after `text`, the processed tokens, in a context of `context` tokens. With
    /// `logprobs` the token has its log-probability and those of this many likeliest tokens.
    pub(super) fn next(
        &mut self,
        logits: Logits<'_>,
        text: &[u32],
        context: usize,
        logprobs: Option<usize>,
        room: &mut Vec<f32>,
    ) -> Result<Token, Failure> {
        let failure = |error: trilobite_runtime::Error| Failure::Model(error.to_string());
        let id = self.sampler.sample(logits, text).map_err(failure)?;
        let logprobs = match logprobs {
            Some(top) => Some(log_probabilities(logits.values(), id, top, room)?),
            None => None,
        };
        let (mut piece, mut finish) = self.continuation.push(id).map_err(failure)?;
        if finish.is_none() {
            if self.sampler.is_complete() {
                finish = Some(Finish::EndOfText);
            } else if self.max_tokens.is_some_and(|max| self.continuation.ids().len() >= max) {
                finish = Some(Finish::Length);
            } else if text.len() >= context {
                finish = Some(Finish::ContextFull);
            }
            if finish.is_some() {
                piece += &self.continuation.finish().map_err(failure)?;
            }
        }
        Ok(Token { choice: self.index, id, text: piece, logprobs, finish })
    }
}

/// The log-probabilities of a token and of the `top` likeliest ones. `logits` are those of all tokens.
pub(super) fn log_probabilities(
    logits: &[f32],
    id: u32,
    top: usize,
    room: &mut Vec<f32>,
) -> Result<TokenLogprobs, Failure> {
    let failure = || Failure::Model(trilobite_runtime::Error::NotFinite.to_string());
    let peak = Peak::find(logits, room).ok_or_else(failure)?;
    let logit = *logits.get(id as usize).ok_or_else(failure)?;
    let likeliest = match top {
        0 => Vec::new(),
        1 => vec![peak.id],
        _ => largest(logits, top),
    };
    let log_probability = |id: u32| (id, peak.log_probability(logits[id as usize]));
    let top = likeliest.into_iter().map(log_probability).collect();
    Ok(TokenLogprobs { id, logprob: peak.log_probability(logit), top })
}

/// The tokens of the `count` largest logits, largest first; ties in the order of the ids.
fn largest(logits: &[f32], count: usize) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    let order = |a: &u32, b: &u32| {
        logits[*b as usize].total_cmp(&logits[*a as usize]).then_with(|| a.cmp(b))
    };
    if count < ids.len() {
        ids.select_nth_unstable_by(count, order);
        ids.truncate(count);
    }
    ids.sort_unstable_by(order);
    ids
}
