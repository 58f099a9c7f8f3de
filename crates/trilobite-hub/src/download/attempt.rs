//! Attempts to fetch a file: events, metadata in responses, and failures.

use std::time::Duration;

use crate::{Error, Event};

/// An event of a download.
pub(crate) enum TransferEvent<'a> {
    Progress { done: u64, total: Option<u64> },
    Waiting { reason: &'a Error, delay: Duration },
}

impl<'a> TransferEvent<'a> {
    /// The event for a file.
    pub(crate) fn of(self, file: &'a str) -> Event<'a> {
        match self {
            TransferEvent::Progress { done, total } => Event::Progress { file, done, total },
            TransferEvent::Waiting { reason, delay } => Event::Waiting { file, reason, delay },
        }
    }
}

/// The reason why an attempt failed.
pub(super) enum Failure {
    /// A temporary failure.
    Passing { reason: Box<Error>, after: Option<Duration> },
    /// A permanent failure.
    Lasting(Box<Error>),
}

impl Failure {
    pub(super) fn passing(reason: Error) -> Self {
        Failure::Passing { reason: Box::new(reason), after: None }
    }

    pub(super) fn lasting(reason: Error) -> Self {
        Failure::Lasting(Box::new(reason))
    }

    pub(super) fn into_reason(self) -> Error {
        match self {
            Failure::Passing { reason, .. } | Failure::Lasting(reason) => *reason,
        }
    }
}

/// Metadata of a file in the server's responses.
#[derive(Default)]
pub(super) struct Said {
    pub(super) revision: Option<String>,
    pub(super) sha256: Option<String>,
    pub(super) bytes: Option<u64>,
}
