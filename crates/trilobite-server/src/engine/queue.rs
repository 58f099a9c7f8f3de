//! The jobs that wait for an engine.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::mpsc;

use super::Job;
use super::event::Event;

/// A job, with where its events go.
pub(super) struct Waiting {
    pub(super) job: Job,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) arrived: Instant,
    pub(super) deadline: Instant,
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It has more prompts than can wait at all.
    TooMany {
        /// Prompts that can wait.
        limit: usize,
    },
    /// Too many others wait.
    Full,
    /// The server ends.
    Ending,
}

/// Jobs in the order in which they came.
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
    /// An empty queue of at most `limit` jobs; `length` shows how many there are.
    pub(super) fn new(limit: usize, length: Gauge) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), limit: limit.max(1), length }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing here leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends jobs: all or none.
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

    /// Takes out the jobs whose client has gone or whose time is over, and returns the latter.
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

    /// Waits until there is a job, for at most `time`; `false` if there will be no more.
    pub(super) fn wait(&self, time: Duration) -> bool {
        let state = self.lock();
        let idle = |state: &mut State| state.waiting.is_empty() && !state.closed;
        let waited = self.changed.wait_timeout_while(state, time, idle);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !(state.closed && state.waiting.is_empty())
    }

    /// Takes no more jobs.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Takes no more jobs, and drops those that it has.
    pub(super) fn abort(&self) {
        let mut state = self.lock();
        (state.closed, state.aborted) = (true, true);
        state.waiting.clear();
        self.length.set(0);
        self.changed.notify_all();
    }

    /// Whether the jobs that are being answered are to be dropped.
    pub(super) fn is_aborted(&self) -> bool {
        self.lock().aborted
    }

    /// Aborts when what is returned is dropped.
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
