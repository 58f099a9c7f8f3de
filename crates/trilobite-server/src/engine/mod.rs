//! Continuous batching: one thread owns a model's forward pass, and requests join and leave its batch
//! at every step.
//!
//! A step processes one token of every running answer and some tokens of the prompts (`pace.rs`). A
//! token depends only on its own sequence. Batching, caching, preemption and speculation therefore change
//! no bit of an answer.

mod choice;
mod disk;
mod event;
mod job;
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

use trilobite_runtime::{Forward, Model, PAGE};

use crate::error::{Error, Result};
use crate::metrics::ModelMetrics;
pub use disk::PromptFolder;
pub(crate) use event::{Answer, Event, Failure, Token, TokenLogprobs};
pub(crate) use job::{EngineOptions, Job};
pub(crate) use queue::Refused;
use queue::{Queue, Waiting};
pub(crate) use run::panic_message;
use scheduler::Scheduler;

/// Unread events of a choice before its generation pauses.
const EVENTS_AHEAD: usize = 64;

/// The thread that generates a model's answers.
pub(crate) struct Engine {
    queue: Arc<Queue>,
    time: Duration,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Starts a model's thread.
    ///
    /// # Errors
    /// The forward pass or its threads cannot be created, or the model has no tokenizer.
    pub(crate) fn start(
        model: &Arc<Model>,
        options: EngineOptions,
        metrics: ModelMetrics,
        folder: Option<&PromptFolder>,
    ) -> Result<Self> {
        let forward = Forward::new(Arc::clone(model), options.session)?;
        let context = forward.context();
        model.tokenizer()?;
        // One context always fits, with a page to copy.
        let pages = options.pages.max(context.div_ceil(PAGE) + 1);
        let options = EngineOptions { parallel: options.parallel.max(1), pages, ..options };
        let queue = Arc::new(Queue::new(options.queue, metrics.queued.clone()));
        let disk = folder.map(|folder| folder.open(&forward, metrics.clone())).transpose()?;
        let (shared, model) = (Arc::clone(&queue), Arc::clone(model));
        let work = move || {
            // Waiting requests end however the thread ends.
            let _end = shared.end_on_drop();
            let Ok(tokenizer) = model.tokenizer() else { return };
            Scheduler::new(forward, tokenizer, &shared, options, metrics, disk).work();
        };
        let thread = std::thread::Builder::new().name("engine".to_owned()).spawn(work);
        let thread = thread.map_err(Error::Thread)?;
        Ok(Self { queue, time: options.time, thread: Some(thread) })
    }

    /// Submits the jobs of a request, all or none. Returns the answers in the order of the jobs.
    ///
    /// # Errors
    /// The queue has no room for all jobs, or the server is stopping.
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

    /// Refuses new requests. The thread ends when all others are answered.
    pub(crate) fn close(&self) {
        self.queue.close();
    }

    /// Refuses new requests and aborts the others.
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
            // The panic hook has reported a panic of the thread.
            let _ = thread.join();
        }
    }
}
