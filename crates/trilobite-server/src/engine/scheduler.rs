//! The loop of an engine's thread.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use trilobite_runtime::{Error, Forward, PAGE, Tokenizer};

use super::disk::DiskCache;
use super::event::{Event, Failure};
use super::job::{EngineOptions, Job};
use super::pace::{Pace, share};
use super::prefix::{PrefixCache, common};
use super::queue::Queue;
use super::run::{Outcome, Run, panic_message};
use crate::metrics::ModelMetrics;

/// Longest wait for a job while nothing runs.
const IDLE: Duration = Duration::from_millis(500);
/// Pause while every run waits for its client.
const BLOCKED: Duration = Duration::from_millis(2);
/// Minimum tokens to take over from another run.
const WORTH_SHARING: usize = 8;

/// Maximum number of answers that a step drafts for. With more, a pass takes longer for each draft.
const MOST_DRAFTING: usize = 2;

/// A test's view of a step: the tokens of each part.
#[cfg(test)]
pub(super) type BeforeStep = Box<dyn FnMut(&[&[u32]])>;

/// The state of an engine's thread.
pub(super) struct Scheduler<'m> {
    forward: Forward,
    tokenizer: &'m Tokenizer,
    queue: &'m Queue,
    options: EngineOptions,
    metrics: ModelMetrics,
    pace: Pace,
    cache: PrefixCache,
    disk: Option<DiskCache>,
    /// Runs that take part in steps, in order of arrival.
    running: Vec<Run<'m>>,
    /// Preempted runs, in order of arrival.
    preempted: VecDeque<Run<'m>>,
    arrivals: u64,
    #[cfg(test)]
    pub(super) before_step: Option<BeforeStep>,
}

impl<'m> Scheduler<'m> {
    pub(super) fn new(
        forward: Forward,
        tokenizer: &'m Tokenizer,
        queue: &'m Queue,
        options: EngineOptions,
        metrics: ModelMetrics,
        disk: Option<DiskCache>,
    ) -> Self {
        Self {
            forward,
            tokenizer,
            queue,
            options,
            metrics,
            pace: Pace::new(options.step),
            cache: PrefixCache::default(),
            disk,
            running: Vec::new(),
            preempted: VecDeque::new(),
            arrivals: 0,
            #[cfg(test)]
            before_step: None,
        }
    }

    /// Answers jobs until the queue is closed and empty, or aborted.
    pub(super) fn work(&mut self) {
        loop {
            if self.queue.is_aborted() {
                let runs = self.running.drain(..).chain(self.preempted.drain(..));
                return runs.for_each(|run| run.fail(Failure::Ended));
            }
            self.end_overdue();
            self.admit();
            let idle = self.running.is_empty();
            if !idle {
                self.step();
            }
            self.metrics.running.set(self.running.len() as i64);
            self.metrics.pages.set(self.forward.pages() as i64);
            self.metrics.cached.set(self.cache.len() as i64);
            if idle && !self.queue.wait(IDLE) {
                return;
            }
        }
    }

    /// Ends runs whose client has disconnected or does not read, and runs that exceed the time limit.
    fn end_overdue(&mut self) {
        let now = Instant::now();
        let EngineOptions { time, write_timeout, .. } = self.options;
        for late in self.queue.expire(now) {
            // The channel of a waiting job is empty, so there is room.
            let _ = late.events.try_send(Event::Failed(Failure::Time(time)));
        }
        // All choices of a job end together: an answer without one of them is incomplete.
        let runs = self.running.iter().chain(&self.preempted);
        let overdue: BTreeMap<u64, Failure> = runs
            .filter_map(|run| Some((run.number, run.overdue(now, time, write_timeout)?)))
            .collect();
        let ends = |run: &mut Run<'_>| run.is_gone() || overdue.contains_key(&run.number);
        let ended: Vec<Run<'_>> = self.running.extract_if(.., ends).collect();
        let mut waiting = Vec::from(std::mem::take(&mut self.preempted));
        let ended = ended.into_iter().chain(waiting.extract_if(.., ends));
        for mut run in ended {
            self.metrics.cancelled.inc();
            self.cache.insert(run.restart(self.forward.sequence()));
            if let Some(failure) = overdue.get(&run.number) {
                run.fail(failure.clone());
            }
        }
        self.preempted = waiting.into();
    }

    /// Starts runs while there is room, preempted ones first.
    fn admit(&mut self) {
        while let Some(run) = self.preempted.front() {
            if !fits(&self.running, &self.options, run.choices(), run.pages()) {
                return;
            }
            let run = self.preempted.pop_front();
            run.into_iter().for_each(|run| self.join(run));
        }
        let first = |job: &Job, running: &[Run<'_>], options: &EngineOptions| {
            fits(running, options, job.samplers.len(), (job.prompt.len() + 1).div_ceil(PAGE))
        };
        while let Some(waiting) = self.queue.pop(|job| first(job, &self.running, &self.options)) {
            self.arrivals += 1;
            let (empty, speculation) = (self.forward.sequence(), self.options.speculation);
            let speculation = speculation.map(|new| new());
            let run = Run::new(self.arrivals, empty, waiting, self.tokenizer, speculation);
            self.join(run);
        }
    }

    /// Adds a run, with the cached keys and values of its prefix.
    fn join(&mut self, mut run: Run<'m>) {
        let known = run.sequence.len();
        if let Some(sequence) = self.cache.find(run.sharable(), known) {
            run.adopt(sequence);
        }
        let at = self.running.partition_point(|other| other.number <= run.number);
        self.running.insert(at, run);
    }

    /// Runs one forward pass.
    fn step(&mut self) {
        let (mut plan, prompts) = self.plan();
        self.make_room(&mut plan);
        if plan.iter().all(|&count| count == 0) {
            return std::thread::sleep(BLOCKED);
        }
        if let Err(failure) = self.draft(&mut plan, prompts) {
            return self.isolate(&plan, failure);
        }
        let begun = Instant::now();
        match self.read(&plan) {
            Ok(outcomes) => {
                self.pace.note(prompts, begun.elapsed());
                self.settle(&plan, outcomes);
            }
            Err(failure) => self.isolate(&plan, failure),
        }
    }

    /// Number of tokens that each run processes in the next step, and how many of all are prefill.
    fn plan(&mut self) -> (Vec<usize>, usize) {
        let now = Instant::now();
        let mut plan = vec![0; self.running.len()];
        if let Some(at) = self.running.iter_mut().position(|run| run.alone && run.reserve(now)) {
            plan[at] = self.running[at].pending().min(self.pace.tokens(false));
            return (plan, 0);
        }
        let mut reading: Vec<usize> = Vec::new();
        for (index, count) in plan.iter_mut().enumerate() {
            if self.running[index].alone || !self.running[index].reserve(now) {
                continue;
            }
            self.share_prefix(index);
            self.load(index);
            match self.running[index].pending() {
                1 => *count = 1,
                _ if self.awaits_another(index, &reading) => {}
                _ => reading.push(index),
            }
        }
        let left: Vec<usize> = reading.iter().map(|&index| self.running[index].pending()).collect();
        let answers = plan.iter().any(|&count| count > 0);
        let shares = share(&left, self.pace.tokens(answers));
        for (&index, &share) in reading.iter().zip(&shares) {
            plan[index] = share;
        }
        (plan, shares.iter().sum())
    }

    /// Gives a run the keys and values of the longest prefix that another run has processed.
    fn share_prefix(&mut self, index: usize) {
        let run = &self.running[index];
        if run.sharable().len() < run.sequence.len() + WORTH_SHARING {
            return;
        }
        let shared = |other: &Run<'_>| common(other.sequence.tokens(), run.sharable());
        let lengths = self.running.iter().enumerate().filter(|(other, _)| *other != index);
        let best = lengths.map(|(other, run)| (shared(run), other)).max();
        if let Some((length, other)) = best
            && length >= run.sequence.len() + WORTH_SHARING
        {
            let mut sequence = self.running[other].sequence.fork();
            sequence.truncate(length);
            self.running[index].adopt(sequence);
        }
    }

    /// Gives a run the next keys and values of its prompt that are on the disk.
    fn load(&mut self, index: usize) {
        let run = &self.running[index];
        let known = run.sequence.len();
        let Some(disk) = self.disk.as_ref().filter(|_| run.sharable().len() >= known + PAGE) else {
            return;
        };
        let free = self.options.pages.saturating_sub(self.forward.pages());
        let mut sequence = run.sequence.fork();
        disk.extend(&mut sequence, run.sharable(), free);
        if sequence.len() > known {
            self.running[index].adopt(sequence);
        }
    }

    /// Whether a run of `reading` is about to process the same tokens as this one.
    fn awaits_another(&self, index: usize, reading: &[usize]) -> bool {
        let run = &self.running[index];
        let least = run.sequence.len() + WORTH_SHARING;
        reading.iter().any(|&other| {
            let other = &self.running[other];
            // This run has taken over what the other has processed already.
            common(other.tokens(), run.sharable()) >= least.max(other.sequence.len() + 1)
        })
    }

    /// Frees pages for the next step. Drops cached sequences first, then preempts runs whose client does
    /// not read, then the last run.
    fn make_room(&mut self, plan: &mut Vec<usize>) {
        loop {
            let runs = self.running.iter().zip(plan.iter());
            let missing: usize = runs.map(|(run, &count)| run.sequence.missing_pages(count)).sum();
            if self.forward.pages() + missing <= self.options.pages {
                return;
            }
            if self.cache.evict() {
                continue;
            }
            // One run always goes on, so that every run comes to its end.
            if self.running.len() < 2 {
                return;
            }
            let blocked = self.running.iter().rposition(Run::is_blocked);
            let chosen = blocked.unwrap_or(self.running.len() - 1);
            plan.remove(chosen);
            self.preempt(chosen);
        }
    }

    /// Adds drafts to a step that only decodes a few answers, as far as there are pages.
    ///
    /// # Errors
    /// The drafter fails.
    fn draft(&mut self, plan: &mut [usize], prompts: usize) -> Result<(), Failure> {
        if prompts > 0 || plan.iter().filter(|&&count| count > 0).count() > MOST_DRAFTING {
            return Ok(());
        }
        let context = self.forward.context();
        let mut free = self.options.pages.saturating_sub(self.forward.pages());
        for (run, count) in self.running.iter_mut().zip(plan).filter(|(_, count)| **count == 1) {
            let drafted = match run.alone {
                true => 0,
                false => run.draft(context).map_err(|error| Failure::Model(error.to_string()))?,
            };
            match free.checked_sub(run.sequence.missing_pages(1 + drafted)) {
                Some(left) => (free, *count) = (left, 1 + drafted),
                None => run.drop_drafts(),
            }
        }
        Ok(())
    }

    /// Moves a run to the preempted ones and drops its keys and values.
    fn preempt(&mut self, index: usize) {
        self.metrics.preemptions.inc();
        let mut run = self.running.remove(index);
        run.restart(self.forward.sequence());
        let at = self.preempted.partition_point(|other| other.number <= run.number);
        self.preempted.insert(at, run);
    }

    /// Processes the planned tokens.
    ///
    /// # Errors
    /// The step failed as a whole. Some of its tokens may have been processed.
    fn read(&mut self, plan: &[usize]) -> Result<Vec<Outcome>, Failure> {
        let context = self.forward.context();
        let (mut parts, mut listeners): (Vec<_>, Vec<_>) = self
            .running
            .iter_mut()
            .zip(plan)
            .filter(|(_, count)| **count > 0)
            .map(|(run, &count)| run.part(count, context))
            .unzip();
        let forward = &mut self.forward;
        #[cfg(test)]
        let before_step = &mut self.before_step;
        let read = catch_unwind(AssertUnwindSafe(|| {
            #[cfg(test)]
            if let Some(before_step) = before_step {
                let tokens: Vec<&[u32]> = parts.iter().map(|part| part.tokens).collect();
                before_step(&tokens);
            }
            forward.read(&mut parts, |part, index, logits| listeners[part].hear(index, logits))
        }));
        match read {
            Ok(Ok(())) => Ok(listeners.into_iter().map(|listener| listener.outcome()).collect()),
            Ok(Err(error)) => {
                if matches!(error, Error::Memory { .. }) {
                    self.cache.clear();
                }
                Err(Failure::Model(error.to_string()))
            }
            Err(panic) => Err(Failure::Panic(panic_message(&*panic))),
        }
    }

    /// Sends the events of a step to the clients and removes the runs that ended.
    fn settle(&mut self, plan: &[usize], outcomes: Vec<Outcome>) {
        let mut outcomes = outcomes.into_iter();
        for (run, &count) in std::mem::take(&mut self.running).into_iter().zip(plan) {
            let outcome = if count > 0 { outcomes.next() } else { None };
            let Some(outcome) = outcome else {
                self.running.push(run);
                continue;
            };
            match run.settle(outcome, &self.metrics) {
                Ok(runs) => self.running.extend(runs),
                Err(read) => read.into_iter().for_each(|sequence| {
                    self.disk.iter().for_each(|disk| disk.store(&sequence));
                    self.cache.insert(sequence);
                }),
            }
        }
    }

    /// Handles a failed step. A single run ends. Several runs start again, each alone, since the one at
    /// fault is unknown.
    fn isolate(&mut self, plan: &[usize], failure: Failure) {
        let taking_part = plan.iter().filter(|&&count| count > 0).count();
        for (mut run, &count) in std::mem::take(&mut self.running).into_iter().zip(plan) {
            match count {
                0 => self.running.push(run),
                _ if taking_part == 1 => run.fail(failure.clone()),
                _ => {
                    run.restart(self.forward.sequence());
                    run.alone = true;
                    self.running.push(run);
                }
            }
        }
    }
}

/// Whether a run of `choices` and `pages` fits beside the running ones. A single run always fits.
fn fits(running: &[Run<'_>], options: &EngineOptions, choices: usize, pages: usize) -> bool {
    let taken: usize = running.iter().map(Run::choices).sum();
    let held: usize = running.iter().map(Run::pages).sum();
    running.is_empty() || taken + choices <= options.parallel && held + pages <= options.pages
}
