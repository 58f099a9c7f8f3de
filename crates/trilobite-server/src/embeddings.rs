//! The embeddings of a model, computed on the threads of the requests, one batch at a time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use trilobite_runtime::{Embedder, Embedding};

use crate::api::error::ApiResult;
use crate::engine::{Failure, Refused};
use crate::metrics::ModelMetrics;

/// A model's embedder, which requests share.
pub(crate) struct Embeds {
    embedder: Mutex<Embedder>,
    waiting: AtomicUsize,
    /// Maximum waiting requests.
    most: usize,
    closed: AtomicBool,
    aborted: AtomicBool,
    metrics: ModelMetrics,
}

/// A request for embeddings: its time limit, and whether its client still waits.
pub(crate) struct Asked {
    time: Duration,
    deadline: Instant,
    gone: Arc<AtomicBool>,
}

/// Marks the client as gone when dropped.
pub(crate) struct Here(Arc<AtomicBool>);

impl Drop for Here {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Asked {
    /// Creates a request with a time limit.
    pub(crate) fn new(time: Duration) -> Self {
        Self { time, deadline: Instant::now() + time, gone: Arc::default() }
    }

    /// A guard that the connection holds while the client waits.
    pub(crate) fn guard(&self) -> Here {
        Here(Arc::clone(&self.gone))
    }
}

impl Embeds {
    /// Shares an embedder. At most `most` requests wait for it.
    pub(crate) fn new(embedder: Embedder, most: usize, metrics: ModelMetrics) -> Self {
        Self {
            embedder: Mutex::new(embedder),
            waiting: AtomicUsize::new(0),
            most,
            closed: AtomicBool::new(false),
            aborted: AtomicBool::new(false),
            metrics,
        }
    }

    /// Refuses new requests.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Refuses new requests and ends the others.
    pub(crate) fn abort(&self) {
        self.close();
        self.aborted.store(true, Ordering::Relaxed);
    }

    /// Embeds texts, given as tokens. Slow: the calling thread does the work. Requests take turns
    /// after every batch, and the vectors do not depend on that.
    pub(crate) fn embed(&self, texts: &[Vec<u32>], asked: &Asked) -> ApiResult<Vec<Embedding>> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(Refused::Ending.into());
        }
        let place = Place::take(self).ok_or(Refused::Full)?;
        let mut vectors = Vec::with_capacity(texts.len());
        while vectors.len() < texts.len() {
            // A panic leaves nothing behind that the next batch reads.
            let mut embedder = self.embedder.lock().unwrap_or_else(PoisonError::into_inner);
            if self.aborted.load(Ordering::Relaxed) || asked.gone.load(Ordering::Relaxed) {
                return Err(Failure::Ended.into());
            }
            if Instant::now() >= asked.deadline {
                return Err(Failure::Time(asked.time).into());
            }
            let new = embedder.embed_first(&texts[vectors.len()..])?;
            let tokens = texts[vectors.len()..].iter().zip(&new).map(|(text, _)| text.len() as u64);
            self.metrics.prompt_tokens.inc_by(tokens.sum());
            vectors.extend(new);
        }
        drop(place);
        Ok(vectors)
    }
}

/// A place in the queue.
struct Place<'a>(&'a Embeds);

impl<'a> Place<'a> {
    fn take(embeds: &'a Embeds) -> Option<Self> {
        let place = Self(embeds);
        embeds.metrics.queued.inc();
        let before = embeds.waiting.fetch_add(1, Ordering::Relaxed);
        // One request runs, the others wait.
        (before <= embeds.most).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.metrics.queued.dec();
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
