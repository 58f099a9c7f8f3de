//! Continuous batching: one thread owns a model's forward pass, and requests join and leave its batch
//! at every step.
//!
//! A step reads one token of every answer that is being generated and some tokens of the prompts that
//! are being read (`pace.rs`). Tokens depend on nothing but their own sequence, so an answer has the
//! bits that it has alone, whatever else runs, whatever was cached, and however often it was preempted.

mod choice;
mod event;
mod pace;
mod prefix;
mod queue;
mod run;
mod scheduler;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use trilobite_runtime::{Forward, Limits, Model, PAGE, Sampler, SessionOptions};

use crate::error::{Error, Result};
use crate::metrics::ModelMetrics;
pub(crate) use event::{Answer, Event, Failure, Token, TokenLogprobs};
pub(crate) use queue::Refused;
use queue::{Queue, Waiting};
pub(crate) use run::said;
use scheduler::Scheduler;

/// Events that a choice can be ahead of its reader before its generation pauses.
const EVENTS_AHEAD: usize = 64;

/// A prompt, and the settings of its continuations.
pub(crate) struct Job {
    /// Its tokens, as many as the context holds at most.
    pub(crate) prompt: Vec<u32>,
    /// A sampler for each choice.
    pub(crate) samplers: Vec<Sampler>,
    /// When a choice ends.
    pub(crate) limits: Limits,
    /// The log-probabilities of the prompt's tokens, each with so many of the likeliest, if wanted.
    pub(crate) prompt_logprobs: Option<usize>,
    /// Those of the answer's tokens.
    pub(crate) logprobs: Option<usize>,
}

/// Settings of an engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EngineOptions {
    /// Settings of the forward pass.
    pub(crate) session: SessionOptions,
    /// Sequences that are generated at the same time.
    pub(crate) parallel: usize,
    /// Pages of keys and values.
    pub(crate) pages: usize,
    /// Prompts that can wait.
    pub(crate) queue: usize,
    /// Most tokens of prompts that a step reads.
    pub(crate) step: usize,
    /// Time that a request may take, waiting included.
    pub(crate) time: Duration,
    /// Time that a client may take to read what is there for it.
    pub(crate) patience: Duration,
}

/// A model that answers.
pub(crate) struct Engine {
    queue: Arc<Queue>,
    time: Duration,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Starts a model's thread.
    ///
    /// # Errors
    /// The forward pass or its threads cannot be had, or the model has no tokenizer.
    pub(crate) fn start(
        model: &Arc<Model>,
        options: EngineOptions,
        metrics: ModelMetrics,
    ) -> Result<Self> {
        let forward = Forward::new(Arc::clone(model), options.session)?;
        let context = forward.context();
        model.tokenizer()?;
        // One sequence always fits, beside a page that is being copied.
        let pages = options.pages.max(context.div_ceil(PAGE) + 1);
        let options = EngineOptions { parallel: options.parallel.max(1), pages, ..options };
        let queue = Arc::new(Queue::new(options.queue, metrics.queued.clone()));
        let (shared, model) = (Arc::clone(&queue), Arc::clone(model));
        let work = move || {
            // Whatever ends the thread, nobody waits for it.
            let _end = shared.end_on_drop();
            let Ok(tokenizer) = model.tokenizer() else { return };
            Scheduler::new(forward, tokenizer, &shared, options, metrics).work();
        };
        let thread = std::thread::Builder::new().name("engine".to_owned()).spawn(work);
        let thread = thread.map_err(Error::Thread)?;
        Ok(Self { queue, time: options.time, thread: Some(thread) })
    }

    /// Hands over the jobs of a request: all of them, or none if there is no room for all. The answers
    /// come in their order.
    ///
    /// # Errors
    /// There is no room, or the server ends.
    pub(crate) fn submit(&self, jobs: Vec<Job>) -> std::result::Result<Vec<Answer>, Refused> {
        let arrived = Instant::now();
        let deadline = arrived + self.time;
        let (waiting, answers) = jobs
            .into_iter()
            .map(|job| {
                let (events, answer) = Answer::channel(job.samplers.len(), EVENTS_AHEAD);
                (Waiting { job, events, arrived, deadline }, answer)
            })
            .unzip();
        self.queue.push(waiting)?;
        Ok(answers)
    }

    /// Takes no more requests, and ends when all that it has are answered.
    pub(crate) fn close(&self) {
        self.queue.close();
    }

    /// Takes no more requests, and breaks off those that it has.
    pub(crate) fn abort(&self) {
        self.queue.abort();
    }

    /// Whether the thread has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.queue.abort();
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported, and has nothing more to say.
            let _ = thread.join();
        }
    }
}
