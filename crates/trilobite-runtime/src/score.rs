//! Log-likelihoods of given tokens, and perplexity.

use std::ops::Range;

use trilobite_format::model::special_id;
use trilobite_kernels::Kernels;

use crate::error::{Error, Result};
use crate::model::Model;
use crate::sampler::argmax;
use crate::sequence::{Part, Want};
use crate::session::Session;

/// The log-likelihood of a continuation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Sum of `ln p(token | all tokens before it)` over the tokens of the continuation.
    pub logprob: f64,
    /// Whether every token is the most likely one.
    pub greedy: bool,
}

/// A context and a continuation to score.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Tokens of the context.
    pub context: Vec<u32>,
    /// Tokens of the continuation.
    pub continuation: Vec<u32>,
}

impl Request {
    /// Tokenizes the concatenation of `context` and `continuation` with [`encode`], and splits it
    /// after the number of tokens that the context has alone, as lm-evaluation-harness does. Spaces
    /// at the end of the context are moved to the continuation. An empty context becomes the
    /// [`prefix_token`], unless the continuation begins with that token.
    ///
    /// # Errors
    /// The model has no tokenizer, the context is empty and the model has no prefix token, or the
    /// continuation adds no token.
    pub fn encode(model: &Model, context: &str, continuation: &str, bos: bool) -> Result<Self> {
        let head = context.trim_end();
        let bos = bos && !head.is_empty();
        let mut whole = encode(model, &format!("{context}{continuation}"), bos)?;
        let mut length = encode(model, head, bos)?.len();
        if head.is_empty() {
            begin(model, &mut whole)?;
            length = 1;
        }
        Self::split(whole, length).map_err(|error| match error {
            Error::EmptyContinuation { context } if !continuation.is_empty() => {
                Error::MergedContinuation { context }
            }
            other => other,
        })
    }

    /// A request of token ids. An empty context becomes the [`prefix_token`], unless the continuation
    /// begins with that token.
    ///
    /// # Errors
    /// The context is empty and the model has no prefix token, or the continuation is empty.
    pub fn from_ids(model: &Model, context: &[u32], continuation: &[u32]) -> Result<Self> {
        let mut whole = [context, continuation].concat();
        if context.is_empty() {
            begin(model, &mut whole)?;
        }
        Self::split(whole, context.len().max(1))
    }

    /// Splits tokens after the `length` tokens of the context.
    fn split(mut whole: Vec<u32>, length: usize) -> Result<Self> {
        if whole.len() <= length {
            return Err(Error::EmptyContinuation { context: length });
        }
        let continuation = whole.split_off(length);
        Ok(Self { context: whole, continuation })
    }
}

/// Puts the [`prefix_token`] before tokens that do not begin with it.
fn begin(model: &Model, tokens: &mut Vec<u32>) -> Result<()> {
    let prefix = prefix_token(model)?.ok_or(Error::NoPrefix)?;
    if tokens.first() != Some(&prefix) {
        tokens.insert(0, prefix);
    }
    Ok(())
}

/// Encodes a text as lm-evaluation-harness does. Names of special tokens in the text become these
/// tokens. With `bos`, the tokenizer adds its usual tokens before the text, unless the text begins
/// with the name of the [`prefix_token`].
///
/// # Errors
/// The model has no tokenizer, or it cannot encode the text.
pub fn encode(model: &Model, text: &str, bos: bool) -> Result<Vec<u32>> {
    let tokenizer = model.tokenizer()?;
    let prefix = prefix_token(model)?.and_then(|id| tokenizer.token(id));
    let begun = prefix.is_some_and(|prefix| text.starts_with(&prefix));
    tokenizer.encode(text, bos && !begun, true)
}

/// The token before the first token of a text: the tokenizer's beginning-of-text token, or else its
/// end-of-text token. If the file does not name the tokenizer's or has no tokenizer, these are the
/// model's.
///
/// # Errors
/// The tokenizer cannot be used, or the metadata hold values other than names and ids.
pub fn prefix_token(model: &Model) -> Result<Option<u32>> {
    let metadata = model.metadata();
    let tokenizer = match model.tokenizer() {
        Err(Error::NoTokenizer) => None,
        found => Some(found?),
    };
    for end in ["bos", "eos"] {
        let name = metadata.str(&format!("trilobite.{end}_token"))?;
        if let Some(id) = name.and_then(|name| tokenizer?.id(name)) {
            return Ok(Some(id));
        }
    }
    match special_id(metadata, "bos")? {
        Some(bos) => Ok(Some(bos)),
        None => Ok(special_id(metadata, "eos")?),
    }
}

/// Scores continuations. Tokens that a request shares with the previous one are not processed
/// again, which changes no result.
pub struct Scorer {
    session: Session,
    /// A buffer for probabilities, `[vocab]`.
    buffer: Vec<f32>,
}

impl Scorer {
    /// Creates a scorer on a session.
    pub fn new(session: Session) -> Self {
        Self { session, buffer: Vec::new() }
    }

    /// The session, for use between requests.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Scores continuations and returns the scores in the same order. The common prefix of all
    /// requests is processed once, the rest as one batch.
    ///
    /// # Errors
    /// As for [`score`](Scorer::score).
    pub fn score_all(&mut self, requests: &[Request]) -> Result<Vec<Score>> {
        let texts: Vec<ScoredText<'_>> = requests
            .iter()
            .map(|request| ScoredText::new(request, &self.session))
            .collect::<Result<_>>()?;
        let Some(first) = texts.first() else { return Ok(Vec::new()) };
        let common =
            |tokens: &[u32]| first.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        let trunk = texts.iter().map(|text| common(&text.tokens)).min().unwrap_or(0);
        let wanted = texts.iter().map(|text| text.first).min().unwrap_or(0);
        let kept = self.session.rewind(&first.tokens[..trunk], trunk.min(wanted));

        let mut scores = vec![Score { logprob: 0.0, greedy: true }; texts.len()];
        let mut finite = true;
        let buffer = &mut self.buffer;
        let mut add = |range: Range<usize>, at: usize, logits: &[f32]| {
            let targets = range.filter_map(|index| {
                let text = &texts[index];
                Some((index, *text.continuation.get(at.checked_sub(text.first)?)?))
            });
            let mut peak = None;
            for (index, target) in targets {
                if peak.is_none() {
                    peak = Peak::find(logits, buffer);
                }
                let Some(peak) = &peak else { return finite = false };
                scores[index].greedy &= peak.id == target;
                scores[index].logprob += peak.log_probability(logits[target as usize]);
            }
        };
        let part = |tokens, start, first: usize| (tokens, Want::From(first.saturating_sub(start)));
        let (forward, sequence) = self.session.parts();
        // The logits of the common prefix belong to every text.
        let (tokens, want) = part(&first.tokens[kept..trunk], kept, wanted);
        forward.read(&mut [Part { sequence, tokens, want }], |_, index, logits| {
            add(0..texts.len(), kept + index, logits.values());
        })?;
        let mut forks: Vec<_> = texts.iter().map(|_| sequence.fork()).collect();
        let mut parts = Vec::new();
        for (sequence, text) in forks.iter_mut().zip(&texts) {
            let (tokens, want) = part(&text.tokens[trunk..], trunk, text.first);
            parts.push(Part { sequence, tokens, want });
        }
        forward.read(&mut parts, |text, index, logits| {
            add(text..text + 1, trunk + index, logits.values());
        })?;
        if finite { Ok(scores) } else { Err(Error::NotFinite) }
    }

    /// Scores one continuation. If the tokens do not fit in the context, the earliest are dropped,
    /// as in lm-evaluation-harness. Every token of the continuation is scored.
    ///
    /// # Errors
    /// The context or the continuation is empty, the continuation is longer than the session's
    /// context, or an id is unknown.
    pub fn score(&mut self, request: &Request) -> Result<Score> {
        self.score_all(std::slice::from_ref(request))?.pop().ok_or(Error::EmptyPrompt)
    }

    /// Scores each continuation by itself, from the first token of its context. This is the
    /// reference for the faster methods, which give the same results.
    ///
    /// # Errors
    /// As for [`score`](Scorer::score).
    pub fn score_whole(&mut self, requests: &[Request]) -> Result<Vec<Score>> {
        let score = |request| {
            self.session.truncate(0);
            self.score(request)
        };
        requests.iter().map(score).collect()
    }
}

/// The tokens of a request that the model processes.
struct ScoredText<'a> {
    /// Context and continuation without its last token, which is predicted but not processed.
    tokens: Vec<u32>,
    /// The index of the last context token, the first one whose logits are needed.
    first: usize,
    continuation: &'a [u32],
}

impl<'a> ScoredText<'a> {
    fn new(request: &'a Request, session: &Session) -> Result<Self> {
        let Request { context, continuation } = request;
        let (limit, vocab) = (session.context(), session.model().config().vocab);
        if context.is_empty() || continuation.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if continuation.len() > limit {
            return Err(Error::Context { needed: continuation.len(), context: limit });
        }
        if let Some(&id) = continuation.last().filter(|&&id| id as usize >= vocab) {
            return Err(Error::TokenId { id, vocab });
        }
        let mut tokens = [context, &continuation[..continuation.len() - 1]].concat();
        tokens.drain(..tokens.len().saturating_sub(limit));
        let first = tokens.len() - continuation.len();
        Ok(Self { tokens, first, continuation })
    }
}

/// The most likely token of a position, from which the log-probability of any token follows.
pub struct Peak {
    /// The token.
    pub id: u32,
    logit: f32,
    /// `ln` of its probability.
    log_probability: f64,
}

impl Peak {
    /// Finds the peak of all logits; `None` if one is not a number. `buffer` is overwritten.
    pub fn find(logits: &[f32], buffer: &mut Vec<f32>) -> Option<Self> {
        let id = argmax(logits)?;
        buffer.clear();
        buffer.extend_from_slice(logits);
        Kernels::detect().ok()?.softmax(buffer);
        // softmax(best) = 1 / sum(exp(logit - best logit))
        let log_probability = libm::log(f64::from(buffer[id as usize]));
        Some(Self { id, logit: logits[id as usize], log_probability })
    }

    /// `ln softmax(logits)` of a token, given its logit.
    pub fn log_probability(&self, logit: f32) -> f64 {
        f64::from(logit) - f64::from(self.logit) + self.log_probability
    }
}

/// Accumulates the perplexity of a long text, window by window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Perplexity {
    /// Sum of `-ln p` of the scored tokens.
    pub negative_log_likelihood: f64,
    /// Number of scored tokens.
    pub tokens: usize,
}

impl Perplexity {
    /// `exp` of the mean negative log-likelihood.
    pub fn value(&self) -> f64 {
        libm::exp(self.negative_log_likelihood / self.tokens as f64)
    }

    /// Adds one window: every token from index `from` (at least 1) on is predicted from all before
    /// it.
    ///
    /// # Errors
    /// The window does not fit in the session's context or contains an unknown id.
    pub fn add_window(&mut self, session: &mut Session, window: &[u32], from: usize) -> Result<()> {
        session.truncate(0);
        let from = from.max(1);
        if window.len() <= from {
            return Ok(());
        }
        session.read(&window[..from - 1])?;
        let (mut sum, mut buffer) = (0.0, Vec::new());
        session.each_logits(&window[from - 1..window.len() - 1], |index, logits| {
            // The last token of the window was not processed, so its id has not been checked.
            let logit = logits.get(window[from + index] as usize).copied().unwrap_or(f32::NAN);
            let peak = Peak::find(logits, &mut buffer);
            sum -= peak.map_or(f64::NAN, |peak| peak.log_probability(logit));
        })?;
        if !sum.is_finite() {
            return Err(Error::NotFinite);
        }
        self.negative_log_likelihood += sum;
        self.tokens += window.len() - from;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
