//! Log-likelihoods of given tokens, and perplexity.

use trilobite_kernels::Kernels;

use crate::error::{Error, Result};
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

/// Scores continuations after contexts. Tokens that a request shares with the one before it are
/// not read again, which changes no result.
pub struct Scorer {
    session: Session,
    read: Vec<u32>,
}

impl Scorer {
    /// A scorer on an empty session.
    pub fn new(session: Session) -> Self {
        Self { session, read: Vec::new() }
    }

    /// Scores `continuation` after `context`. Of tokens that do not fit, the earliest are dropped,
    /// as lm-evaluation-harness does; every continuation token is scored.
    ///
    /// # Errors
    /// An empty context or continuation, a continuation longer than the session's context, or an
    /// unknown id.
    pub fn score(&mut self, context: &[u32], continuation: &[u32]) -> Result<Score> {
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
        let shared = whole.iter().zip(&self.read).take_while(|(a, b)| a == b).count().min(first);
        self.session.truncate(shared);
        self.read.truncate(shared);
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
        self.read.extend_from_slice(&whole[shared..]);
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
