//! A sequence in progress.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use trilobite_runtime::{Largest, Logits, PAGE, Part, Sequence, Speculation, Tokenizer, Want};

use super::choice::{Choice, log_probabilities};
use super::event::{Event, Failure, Token, TokenLogprobs};
use super::queue::Waiting;
use crate::metrics::ModelMetrics;

/// A sequence and the choices that continue it: all choices of a job during the prefill of its prompt,
/// one choice after it.
pub(super) struct Run<'m> {
    /// Order of arrival.
    pub(super) number: u64,
    /// The processed tokens, with their keys and values.
    pub(super) sequence: Sequence,
    /// The prompt and the answer, and drafts during a step.
    tokens: Vec<u32>,
    /// Number of drafts.
    drafts: usize,
    speculation: Option<Speculation>,
    choices: Vec<Choice<'m>>,
    /// The state of the prefill; `None` after it.
    prompt: Option<Prefill>,
    /// Number of likeliest tokens to report with each token's log-probability.
    logprobs: Option<usize>,
    events: mpsc::Sender<Event>,
    /// Reserved room for the events of the next step.
    permits: Vec<mpsc::OwnedPermit<Event>>,
    /// When the reservation first failed.
    blocked: Option<Instant>,
    deadline: Instant,
    /// When the last token was sent, or the request came.
    last: Instant,
    /// Whether it took part in a failed step. It then takes its next step alone.
    pub(super) alone: bool,
}

/// The state of a prefill.
struct Prefill {
    cached: usize,
    logprobs: Option<PromptLogprobs>,
}

/// The log-probabilities of a prompt's tokens.
struct PromptLogprobs {
    top: usize,
    list: Vec<Option<TokenLogprobs>>,
}

/// The result of a step for a run.
#[derive(Default)]
pub(super) struct Outcome {
    /// A token of each choice, if all tokens of the run are processed; after right drafts, several of
    /// its only choice.
    tokens: Vec<Token>,
    failure: Option<Failure>,
}

/// Receives the logits of a run in a step.
pub(super) struct Listener<'r, 'm> {
    text: &'r [u32],
    /// Number of tokens before those of the step.
    start: usize,
    /// Index of the token after which the next one is unknown.
    unknown: usize,
    context: usize,
    choices: &'r mut [Choice<'m>],
    prompt: Option<&'r mut PromptLogprobs>,
    logprobs: Option<usize>,
    room: Vec<f32>,
    outcome: Outcome,
}

impl<'m> Run<'m> {
    /// Creates the run of a job.
    pub(super) fn new(
        number: u64,
        sequence: Sequence,
        waiting: Waiting,
        tokenizer: &'m Tokenizer,
        speculation: Option<Speculation>,
    ) -> Self {
        let Waiting { job, events, arrived, deadline } = waiting;
        let choice = |(index, sampler)| {
            Choice::new(index, sampler, tokenizer, job.limits.clone(), &job.prompt)
        };
        let choices = job.samplers.into_iter().enumerate().map(choice).collect();
        let list = vec![None; job.prompt.len()];
        let logprobs = job.prompt_logprobs.map(|top| PromptLogprobs { top, list });
        Self {
            number,
            sequence,
            tokens: job.prompt,
            drafts: 0,
            speculation,
            choices,
            prompt: Some(Prefill { cached: 0, logprobs }),
            logprobs: job.logprobs,
            events,
            permits: Vec::new(),
            blocked: None,
            deadline,
            last: arrived,
            alone: false,
        }
    }

    /// All of its tokens.
    pub(super) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Number of tokens to process.
    pub(super) fn pending(&self) -> usize {
        self.tokens.len() - self.sequence.len()
    }

    /// Whether the prefill of its prompt is over.
    pub(super) fn is_answer(&self) -> bool {
        self.prompt.is_none()
    }

    /// Number of choices.
    pub(super) fn choices(&self) -> usize {
        self.choices.len()
    }

    /// Number of pages that its tokens and the next one need.
    pub(super) fn pages(&self) -> usize {
        (self.tokens.len() + 1).div_ceil(PAGE)
    }

    /// The tokens whose keys and values it can take from another sequence: all but the last, whose logits
    /// are needed. There are none if the logits of all prompt tokens are needed.
    pub(super) fn sharable(&self) -> &[u32] {
        let all = self.prompt.as_ref().is_some_and(|prompt| prompt.logprobs.is_some());
        let len = if all { 0 } else { self.tokens.len().saturating_sub(1) };
        &self.tokens[..len]
    }

    /// Continues from a sequence with more of its tokens.
    pub(super) fn adopt(&mut self, sequence: Sequence) {
        if let Some(prompt) = &mut self.prompt {
            prompt.cached += sequence.len() - self.sequence.len();
        }
        self.sequence = sequence;
    }

    /// Replaces the sequence by an empty one and returns it. The tokens are processed again later.
    pub(super) fn restart(&mut self, empty: Sequence) -> Sequence {
        self.drop_drafts();
        // The client is not responsible for the time that the run waits for memory.
        self.blocked = None;
        if let Some(prompt) = &mut self.prompt {
            prompt.cached = 0;
        }
        std::mem::replace(&mut self.sequence, empty)
    }

    /// Whether its client has disconnected.
    pub(super) fn is_gone(&self) -> bool {
        self.events.is_closed()
    }

    /// Whether it waits until its client reads.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    /// The failure that ends it at `now`, if a time limit is exceeded.
    pub(super) fn overdue(
        &self,
        now: Instant,
        time: Duration,
        write_timeout: Duration,
    ) -> Option<Failure> {
        if self.deadline <= now {
            return Some(Failure::Time(time));
        }
        let blocked = self.blocked.filter(|&since| now.duration_since(since) > write_timeout);
        blocked.map(|_| Failure::SlowReader(write_timeout))
    }

    /// Reserves room for the events of the next step. Returns `false` if there is none.
    pub(super) fn reserve(&mut self, now: Instant) -> bool {
        let needed = if self.is_answer() { 1 } else { self.choices.len() + 1 };
        while self.permits.len() < needed {
            match self.events.clone().try_reserve_owned() {
                Ok(permit) => self.permits.push(permit),
                Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                    self.blocked.get_or_insert(now);
                    return false;
                }
            }
        }
        self.blocked = None;
        true
    }

    fn send(&mut self, event: Event) {
        if let Some(permit) = self.permits.pop() {
            permit.send(event);
        }
    }

    /// Ends the run. If there is no room for the failure, the client sees [`Failure::Ended`].
    pub(super) fn fail(mut self, failure: Failure) {
        if self.permits.is_empty() {
            // The channel can be full or closed.
            let _ = self.events.try_send(Event::Failed(failure));
        } else {
            self.send(Event::Failed(failure));
        }
    }

    /// Drafts tokens after the only one to process, in a context of `context` tokens. Returns their
    /// number.
    ///
    /// # Errors
    /// The drafter fails.
    pub(super) fn draft(&mut self, context: usize) -> trilobite_runtime::Result<usize> {
        let (Some(speculation), [choice], None) =
            (&mut self.speculation, &self.choices[..], &self.prompt)
        else {
            return Ok(0);
        };
        // The token after the last draft is within the limits too.
        let room = choice.left().map_or(usize::MAX, |left| left.saturating_sub(1));
        let room = room.min(context.saturating_sub(self.tokens.len()));
        let drafts = speculation.draft(&self.tokens, room)?;
        // Each token that is found needs room for its event.
        while self.permits.len() <= drafts.len() {
            match self.events.clone().try_reserve_owned() {
                Ok(permit) => self.permits.push(permit),
                Err(_) => break,
            }
        }
        self.drafts = drafts.len().min(self.permits.len().saturating_sub(1));
        self.tokens.extend_from_slice(&drafts[..self.drafts]);
        Ok(self.drafts)
    }

    /// Removes the drafts.
    pub(super) fn drop_drafts(&mut self) {
        self.tokens.truncate(self.tokens.len() - std::mem::take(&mut self.drafts));
    }

    /// Its part in a step that processes `count` of its tokens, and the listener for the logits.
    pub(super) fn part(&mut self, count: usize, context: usize) -> (Part<'_>, Listener<'_, 'm>) {
        let start = self.sequence.len();
        let end = start + count;
        // `needs` also updates the penalties, so every choice is asked.
        let drafts = &self.tokens[self.tokens.len() - self.drafts..];
        let needs = self.choices.iter_mut().map(|choice| choice.needs(drafts));
        let needs: Vec<Option<Largest>> = needs.collect();
        let needs = needs.into_iter().reduce(|most, needs| Some(most?.and(needs?))).flatten();
        let want = match &self.prompt {
            Some(Prefill { logprobs: Some(_), .. }) => Want::From(0),
            Some(_) if self.choices.iter().all(Choice::is_empty) => Want::Nothing,
            _ if end < self.tokens.len() => Want::Nothing,
            _ => Want::new(count - 1 - self.drafts, needs.filter(|_| self.logprobs.is_none())),
        };
        let Self { sequence, tokens, choices, prompt, logprobs, .. } = self;
        let listener = Listener {
            text: tokens,
            start,
            unknown: tokens.len() - self.drafts - 1,
            context,
            choices,
            prompt: prompt.as_mut().and_then(|prompt| prompt.logprobs.as_mut()),
            logprobs: *logprobs,
            room: Vec::new(),
            outcome: Outcome::default(),
        };
        (Part { sequence, tokens: &tokens[start..end], want }, listener)
    }

    /// Sends the events of a step. Returns a run for each choice that continues or, if none does, the
    /// sequence, unless the run failed.
    pub(super) fn settle(
        mut self,
        outcome: Outcome,
        metrics: &ModelMetrics,
    ) -> Result<Vec<Self>, Option<Sequence>> {
        if let Some(failure) = outcome.failure {
            self.fail(failure);
            return Err(None);
        }
        let (drafts, mut tokens) = (self.drafts, outcome.tokens);
        // Right drafts are tokens of the answer, and the sequence has processed them.
        let accepted = if drafts > 0 { tokens.len().saturating_sub(1) } else { 0 };
        self.drafts -= accepted;
        self.drop_drafts();
        self.sequence.truncate(self.tokens.len());
        if self.pending() > 0 {
            return Ok(vec![self]);
        }
        if let Some(speculation) = &mut self.speculation {
            speculation.note(accepted);
        }
        let now = Instant::now();
        let first = self.prompt.take();
        let waited = now.duration_since(self.last).as_secs_f64();
        self.last = now;
        if let Some(Prefill { cached, logprobs }) = first {
            metrics.prompt_tokens.inc_by(self.tokens.len() as u64);
            metrics.cached_tokens.inc_by(cached as u64);
            metrics.first_token.observe(waited);
            let logprobs = logprobs.map(|known| known.list).unwrap_or_default();
            self.send(Event::Prompt { cached, logprobs });
        } else {
            metrics.next_token.observe(waited);
        }
        metrics.tokens.inc_by(tokens.len() as u64);
        metrics.drafted_tokens.inc_by(drafts as u64);
        metrics.accepted_tokens.inc_by(accepted as u64);
        if tokens.is_empty() {
            (0..self.choices.len()).for_each(|choice| self.send(Event::Empty { choice }));
            return Err(Some(self.sequence));
        }
        for token in tokens.drain(..accepted) {
            metrics.next_token.observe(0.0);
            self.send(Event::Token(token));
        }
        let mut next = Vec::new();
        for token in tokens {
            let (index, id, goes_on) = (token.choice, token.id, token.finish.is_none());
            self.send(Event::Token(token));
            let at = self.choices.iter().position(|choice| choice.index() == index);
            if let Some(at) = at.filter(|_| goes_on) {
                next.push((self.choices.remove(at), id));
            }
        }
        if next.is_empty() {
            return Err(Some(self.sequence));
        }
        let speculates = self.speculation.is_some();
        let fork = |(choice, id)| Self {
            number: self.number,
            sequence: self.sequence.fork(),
            tokens: [&self.tokens[..], &[id]].concat(),
            drafts: 0,
            speculation: speculates.then(|| self.speculation.take().unwrap_or_default()),
            choices: vec![choice],
            prompt: None,
            logprobs: self.logprobs,
            events: self.events.clone(),
            permits: Vec::new(),
            blocked: None,
            deadline: self.deadline,
            last: now,
            alone: false,
        };
        Ok(next.into_iter().map(fork).collect())
    }
}

impl Listener<'_, '_> {
    /// Receives the logits after a token of the step. A panic fails only this run.
    pub(super) fn hear(&mut self, index: usize, logits: Logits<'_>) {
        if self.outcome.failure.is_some() {
            return;
        }
        let take = AssertUnwindSafe(|| self.take(self.start + index, logits));
        let taken =
            catch_unwind(take).unwrap_or_else(|panic| Err(Failure::Panic(panic_message(&*panic))));
        self.outcome.failure = taken.err();
    }

    fn take(&mut self, position: usize, logits: Logits<'_>) -> Result<(), Failure> {
        if position > self.unknown {
            // This follows a wrong draft.
            return Ok(());
        }
        if position == self.unknown {
            let (text, draft) = (&self.text[..=position], self.text.get(position + 1));
            for choice in self.choices.iter_mut().filter(|choice| !choice.is_empty()) {
                let token =
                    choice.next(logits, text, self.context, self.logprobs, &mut self.room)?;
                // The token after a right draft is the next unknown one.
                let right = token.finish.is_none() && draft == Some(&token.id);
                if right {
                    choice.watch();
                    self.unknown += 1;
                }
                self.outcome.tokens.push(token);
            }
            return Ok(());
        }
        let next = self.text[position + 1];
        if let Some(PromptLogprobs { top, list }) = self.prompt.as_deref_mut() {
            let known = log_probabilities(logits.values(), next, *top, &mut self.room)?;
            list[position + 1] = Some(known);
        }
        Ok(())
    }

    /// The result of the step.
    pub(super) fn outcome(self) -> Outcome {
        self.outcome
    }
}

/// The message of a panic.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".to_owned())
}
