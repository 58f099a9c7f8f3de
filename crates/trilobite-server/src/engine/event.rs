//! The events of an answer.

use std::time::Duration;

use tokio::sync::mpsc;
use trilobite_runtime::Finish;

/// An event of a job.
#[derive(Debug)]
pub(crate) enum Event {
    /// The prefill is over. This is the first event.
    Prompt {
        /// Tokens whose keys and values were cached.
        cached: usize,
        /// Log-probabilities of the prompt's tokens, if requested. The first token has none.
        logprobs: Vec<Option<TokenLogprobs>>,
    },
    /// A token was generated.
    Token(Token),
    /// A choice ended without a token, because no tokens were requested.
    Empty {
        /// The choice.
        choice: usize,
    },
    /// The job failed. This is the last event.
    Failed(Failure),
}

/// A token of an answer.
#[derive(Debug)]
pub(crate) struct Token {
    /// Index of the choice.
    pub(crate) choice: usize,
    /// Its id.
    pub(crate) id: u32,
    /// The text that has become certain.
    pub(crate) text: String,
    /// Its log-probability, if requested.
    pub(crate) logprobs: Option<TokenLogprobs>,
    /// Why the choice ended, if it did.
    pub(crate) finish: Option<Finish>,
}

/// The log-probability of a token by the model's logits, before penalties and temperature.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TokenLogprobs {
    /// The token.
    pub(crate) id: u32,
    /// `ln` of its probability.
    pub(crate) logprob: f64,
    /// The likeliest tokens and their log-probabilities, likeliest first.
    pub(crate) top: Vec<(u32, f64)>,
}

/// Why a job ended without an answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Failure {
    /// The model or its sampling failed.
    #[error("{0}")]
    Model(String),
    /// A panic.
    #[error("the request failed by a fault of the server: {0}")]
    Panic(String),
    /// The time limit was exceeded.
    #[error("the request took longer than {} s", .0.as_secs_f64())]
    Time(Duration),
    /// The client did not read.
    #[error("the client read nothing for {} s", .0.as_secs_f64())]
    SlowReader(Duration),
    /// The server stopped before the end of the answer.
    #[error("the server is shutting down")]
    Ended,
}

/// The events of a job.
#[derive(Debug)]
pub(crate) struct Answer {
    events: mpsc::Receiver<Event>,
    /// Number of unfinished choices.
    left: usize,
}

impl Answer {
    /// Creates the channel of a job. It holds `ahead` unread events of each choice.
    pub(super) fn channel(choices: usize, ahead: usize) -> (mpsc::Sender<Event>, Self) {
        // The prefill ends with one event for the prompt and one for each choice.
        let (sender, events) = mpsc::channel(choices * ahead + 1);
        (sender, Self { events, left: choices })
    }

    /// The next event, or `None` after the last one.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        if self.left == 0 {
            return None;
        }
        let event = self.events.recv().await;
        Some(self.note(event))
    }

    /// Like [`next`](Self::next), outside of an async runtime.
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
