//! The queue of waiting jobs.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::mpsc;

use super::event::Event;
use super::job::Job;

/// A job and the channel for its events.
pub(super) struct Waiting {
    pub(super) job: Job,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) arrived: Instant,
    pub(super) deadline: Instant,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It has more prompts than the queue holds.
    TooMany {
        /// Maximum waiting prompts.
        limit: usize,
    },
    /// The queue has no room now.
    Full,
    /// The server is stopping.
    Ending,
}

/// Jobs in order of arrival.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    limit: usize,
    length: Gauge,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    closed: bool,
    aborted: bool,
}

impl Queue {
    /// Creates a queue of at most `limit` jobs. `length` reports their number.
    pub(super) fn new(limit: usize, length: Gauge) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), limit: limit.max(1), length }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No panic leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends all jobs or none.
    pub(super) fn push(&self, jobs: Vec<Waiting>) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Ending);
        }
        if jobs.len() > self.limit {
            return Err(Refused::TooMany { limit: self.limit });
        }
        if state.waiting.len() + jobs.len() > self.limit {
            return Err(Refused::Full);
        }
        state.waiting.extend(jobs);
        self.length.set(state.waiting.len() as i64);
        self.changed.notify_all();
        Ok(())
    }

    /// Takes the first job if it `fits`.
    pub(super) fn pop(&self, fits: impl FnOnce(&Job) -> bool) -> Option<Waiting> {
        let mut state = self.lock();
        if !fits(&state.waiting.front()?.job) {
            return None;
        }
        let first = state.waiting.pop_front();
        self.length.set(state.waiting.len() as i64);
        first
    }

    /// Removes jobs whose client has disconnected or whose time is over. Returns the latter.
    pub(super) fn expire(&self, now: Instant) -> Vec<Waiting> {
        let mut state = self.lock();
        let mut late = Vec::new();
        for waiting in std::mem::take(&mut state.waiting) {
            if waiting.events.is_closed() {
                continue;
            }
            match waiting.deadline <= now {
                true => late.push(waiting),
                false => state.waiting.push_back(waiting),
            }
        }
        self.length.set(state.waiting.len() as i64);
        late
    }

    /// Waits for a job, at most `time`. Returns `false` if the queue is closed and empty.
    pub(super) fn wait(&self, time: Duration) -> bool {
        let state = self.lock();
        let idle = |state: &mut State| state.waiting.is_empty() && !state.closed;
        let waited = self.changed.wait_timeout_while(state, time, idle);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !(state.closed && state.waiting.is_empty())
    }

    /// Refuses new jobs.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Refuses new jobs and drops the waiting ones.
    pub(super) fn abort(&self) {
        let mut state = self.lock();
        (state.closed, state.aborted) = (true, true);
        state.waiting.clear();
        self.length.set(0);
        self.changed.notify_all();
    }

    /// Whether running jobs must end too.
    pub(super) fn is_aborted(&self) -> bool {
        self.lock().aborted
    }

    /// Aborts the queue when the returned value is dropped.
    pub(super) fn end_on_drop(&self) -> impl Drop {
        struct End<'a>(&'a Queue);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.abort();
            }
        }
        End(self)
    }
}
