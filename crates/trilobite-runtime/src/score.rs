//! Log-likelihoods of given tokens, and perplexity.

use trilobite_kernels::Kernels;

use crate::error::{Error, Result};
use crate::model::Model;
use crate::sampler::argmax;
use crate::session::Session;

/// How likely a model finds a continuation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Sum of `ln p(token | all before)` over the continuation's tokens.
    pub logprob: f64,
    /// Whether every token is the likeliest one.
    pub greedy: bool,
}

/// A continuation to be scored after a context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Tokens of the context.
    pub context: Vec<u32>,
    /// Tokens of the continuation.
    pub continuation: Vec<u32>,
}

impl Request {
    /// Tokenizes context and continuation together and splits by the number of the context's
    /// tokens, blanks at the context's end counted to the continuation, as lm-evaluation-harness
    /// does. With `bos`, whatever the tokenizer puts before a text comes first; an empty context
    /// becomes the beginning-of-text token in any case, or else the end-of-text token.
    ///
    /// # Errors
    /// The model has no tokenizer or no token for an empty context, or the continuation adds no
    /// token.
    pub fn encode(model: &Model, context: &str, continuation: &str, bos: bool) -> Result<Self> {
        let tokenizer = model.tokenizer()?;
        let head = context.trim_end();
        let moved = format!("{}{continuation}", &context[head.len()..]);
        let mut context = tokenizer.encode(head, bos, false)?;
        let mut whole = tokenizer.encode(&format!("{head}{moved}"), bos, false)?;
        if context.is_empty() {
            let prefix = prefix_token(model)?.ok_or(Error::NoPrefix)?;
            context.push(prefix);
            whole.insert(0, prefix);
        }
        if whole.len() <= context.len() {
            return Err(Error::EmptyContinuation { context: context.len() });
        }
        let continuation = whole.split_off(context.len());
        Ok(Self { context: whole, continuation })
    }
}

/// The token that stands before a text's first: beginning of text, or else end of text.
///
/// # Errors
/// The metadata hold something else than an id.
pub fn prefix_token(model: &Model) -> Result<Option<u32>> {
    let metadata = model.metadata();
    match metadata.u32("tokenizer.ggml.bos_token_id")? {
        Some(bos) => Ok(Some(bos)),
        None => Ok(metadata.u32("tokenizer.ggml.eos_token_id")?),
    }
}

/// Scores continuations after contexts. Tokens that a request shares with the one before it are
/// not read again, which changes no result.
pub struct Scorer {
    session: Session,
}

impl Scorer {
    /// A scorer on a session.
    pub fn new(session: Session) -> Self {
        Self { session }
    }

    /// The session, to be used between requests.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Scores some continuations, in their order.
    ///
    /// # Errors
    /// As for [`score`](Scorer::score).
    pub fn score_all(&mut self, requests: &[Request]) -> Result<Vec<Score>> {
        requests.iter().map(|request| self.score(request)).collect()
    }

    /// Scores a continuation after its context. Of tokens that do not fit, the earliest are
    /// dropped, as lm-evaluation-harness does; every continuation token is scored.
    ///
    /// # Errors
    /// An empty context or continuation, a continuation longer than the session's context, or an
    /// unknown id.
    pub fn score(&mut self, Request { context, continuation }: &Request) -> Result<Score> {
        if context.is_empty() || continuation.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        // The last token is predicted and never read.
        let whole: Vec<u32> = [context, &continuation[..continuation.len() - 1]].concat();
        let limit = self.session.context();
        if continuation.len() > limit {
            return Err(Error::Context { needed: continuation.len(), context: limit });
        }
        let whole = &whole[whole.len().saturating_sub(limit)..];
        // Logits are needed from the token before the continuation on.
        let first = whole.len() - continuation.len();
        let shared = self.session.rewind(whole, first);
        self.session.read(&whole[shared..first])?;
        let mut score = Score { logprob: 0.0, greedy: true };
        let mut finite = true;
        self.session.each_logits(&whole[first..], |index, logits| {
            let target = continuation[index];
            let best = argmax(logits);
            score.greedy &= best == Some(target);
            finite &= best.is_some();
            score.logprob += log_probability(logits, target);
        })?;
        if finite { Ok(score) } else { Err(Error::NotFinite) }
    }
}

/// `ln softmax(logits)[target]`; overwrites the logits.
fn log_probability(logits: &mut [f32], target: u32) -> f64 {
    let Some(best) = argmax(logits) else { return f64::NAN };
    let distance = f64::from(logits[target as usize]) - f64::from(logits[best as usize]);
    let Ok(kernels) = Kernels::detect() else { return f64::NAN };
    kernels.softmax(logits);
    // softmax(best) = 1 / sum(exp(logit - best logit))
    distance + libm::log(f64::from(logits[best as usize]))
}

/// A perplexity in the making: windows of a long text.
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

    /// Adds one window: every token from `from` on (at least 1) is predicted from all before it.
    ///
    /// # Errors
    /// The window does not fit in the session's context or holds an unknown id.
    pub fn add_window(&mut self, session: &mut Session, window: &[u32], from: usize) -> Result<()> {
        session.truncate(0);
        let from = from.max(1);
        if window.len() <= from {
            return Ok(());
        }
        session.read(&window[..from - 1])?;
        let mut sum = 0.0;
        session.each_logits(&window[from - 1..window.len() - 1], |index, logits| {
            sum -= log_probability(logits, window[from + index]);
        })?;
        if !sum.is_finite() {
            return Err(Error::NotFinite);
        }
        self.negative_log_likelihood += sum;
        self.tokens += window.len() - from;
        Ok(())
    }
}
