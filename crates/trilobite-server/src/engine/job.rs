//! The jobs and the settings of an engine.

use std::time::Duration;

use trilobite_runtime::{Limits, Sampler, SessionOptions, Speculation};

/// A prompt, and the settings of its continuations.
pub(crate) struct Job {
    /// The tokens of the prompt. They fit in the context.
    pub(crate) prompt: Vec<u32>,
    /// A sampler for each choice.
    pub(crate) samplers: Vec<Sampler>,
    /// When a choice ends.
    pub(crate) limits: Limits,
    /// Number of likeliest tokens to report with each prompt token; `None` reports no log-probabilities.
    pub(crate) prompt_logprobs: Option<usize>,
    /// The same number for the answer's tokens.
    pub(crate) logprobs: Option<usize>,
}

/// Settings of an engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EngineOptions {
    /// Settings of the forward pass.
    pub(crate) session: SessionOptions,
    /// Maximum sequences in a batch.
    pub(crate) parallel: usize,
    /// Maximum pages of keys and values.
    pub(crate) pages: usize,
    /// Maximum waiting prompts.
    pub(crate) queue: usize,
    /// Maximum prompt tokens of a step.
    pub(crate) step: usize,
    /// Creates the speculation of an answer, if there is any.
    pub(crate) speculation: Option<fn() -> Speculation>,
    /// Maximum time of a request, including its wait in the queue.
    pub(crate) time: Duration,
    /// Maximum time that an answer waits for its client to read.
    pub(crate) write_timeout: Duration,
}
