//! What an engine tells about an answer.

use std::time::Duration;

use tokio::sync::mpsc;
use trilobite_runtime::Finish;

/// Something that has happened to a job.
#[derive(Debug)]
pub(crate) enum Event {
    /// The prompt has been read. First of all events.
    Prompt {
        /// Tokens whose keys and values were there already.
        cached: usize,
        /// Log-probabilities of the prompt's tokens, if wanted; the first has none.
        logprobs: Vec<Option<TokenLogprobs>>,
    },
    /// A token was generated.
    Token(Token),
    /// A choice ended without a token, as no token was wanted.
    Empty {
        /// The choice.
        choice: usize,
    },
    /// The job has ended. Last of all events.
    Failed(Failure),
}

/// A token of an answer.
#[derive(Debug)]
pub(crate) struct Token {
    /// The choice that it belongs to.
    pub(crate) choice: usize,
    /// The token.
    pub(crate) id: u32,
    /// The text that it makes certain.
    pub(crate) text: String,
    /// Its log-probability, if wanted.
    pub(crate) logprobs: Option<TokenLogprobs>,
    /// Why the choice ends, if it does.
    pub(crate) finish: Option<Finish>,
}

/// The log-probability of a token, before anything that sampling does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TokenLogprobs {
    /// The token.
    pub(crate) id: u32,
    /// `ln` of its probability.
    pub(crate) logprob: f64,
    /// The likeliest tokens with theirs, likeliest first.
    pub(crate) top: Vec<(u32, f64)>,
}

/// Why a job ended without an answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Failure {
    /// The model or its sampling failed.
    #[error("{0}")]
    Model(String),
    /// Something panicked.
    #[error("the request failed by a fault of the server: {0}")]
    Panic(String),
    /// The time was over.
    #[error("the request took longer than {} s", .0.as_secs_f64())]
    Time(Duration),
    /// The client did not read.
    #[error("the client read nothing for {} s", .0.as_secs_f64())]
    SlowReader(Duration),
    /// The server ended before the answer.
    #[error("the server is shutting down")]
    Ended,
}

/// The events of a job, as they come.
#[derive(Debug)]
pub(crate) struct Answer {
    events: mpsc::Receiver<Event>,
    /// Choices that have not ended.
    left: usize,
}

impl Answer {
    /// The events of a job with so many choices, and where they come from. Each choice can be `ahead`
    /// events ahead of the reader.
    pub(super) fn channel(choices: usize, ahead: usize) -> (mpsc::Sender<Event>, Self) {
        // The first events, one more than there are choices, always fit.
        let (sender, events) = mpsc::channel(choices * ahead + 1);
        (sender, Self { events, left: choices })
    }

    /// The next event; none after the job has ended.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        if self.left == 0 {
            return None;
        }
        let event = self.events.recv().await;
        Some(self.note(event))
    }

    /// The next event, waited for without a runtime.
    #[cfg(test)]
    pub(super) fn blocking_next(&mut self) -> Option<Event> {
        if self.left == 0 {
            return None;
        }
        let event = self.events.blocking_recv();
        Some(self.note(event))
    }

    fn note(&mut self, event: Option<Event>) -> Event {
        let event = event.unwrap_or(Event::Failed(Failure::Ended));
        match &event {
            Event::Failed(_) => self.left = 0,
            Event::Token(Token { finish: Some(_), .. }) | Event::Empty { .. } => self.left -= 1,
            Event::Token(_) | Event::Prompt { .. } => {}
        }
        event
    }
}
