//! Sampling: chooses the next token from logits.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::error::{Error, Result};
use crate::head::{Largest, Logits, Nucleus};

/// Minimum length of a repetition that counts as a loop, in tokens.
const MIN_LOOP: usize = 8;
/// Maximum length of a repetition for the penalty. Longer ones get the same penalty.
const MAX_LOOP: usize = 64;
/// Growth factor of the loop penalty per token of the repetition.
const LOOP_GROWTH: f32 = 1.75;

/// Sampling parameters.
///
/// The steps apply in this order: repetition penalty, frequency and presence penalty, bias, loop
/// penalty, constraint, temperature, top-k, top-p, min-p. transformers has some of them, in the same
/// order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divisor of the logits; 0 is greedy sampling.
    pub temperature: f32,
    /// Keeps the `k` most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the fewest most likely tokens whose probabilities together reach this value; 0 keeps
    /// the most likely token only, 1 or more keeps all.
    pub top_p: f32,
    /// Keeps tokens with at least this fraction of the most likely token's probability; 0 keeps
    /// all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens in the context (arXiv 1909.05858);
    /// 1 changes nothing.
    pub repeat_penalty: f32,
    /// Subtracted from the logit of a token for each of its occurrences in the answer; 0 changes
    /// nothing.
    pub frequency_penalty: f32,
    /// Subtracted once from the logit of every token in the answer; 0 changes nothing.
    pub presence_penalty: f32,
    /// Subtracted from the logit of a token that would extend a repetition of eight tokens within
    /// the answer, times 1.75 for each further repeated token; 0 changes nothing.
    pub loop_penalty: f32,
    /// Seed of the random number generator. The same seed gives the same text on every machine.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            loop_penalty: 0.0,
            seed: 0,
        }
    }
}

impl Sampling {
    fn check(&self) -> Result<()> {
        let check = |name, value: f32, fits: bool, expected| {
            if fits { Ok(()) } else { Err(Error::Sampling { name, value, expected }) }
        };
        let Self { temperature, top_p, min_p, repeat_penalty, loop_penalty, .. } = *self;
        let finite = |value: f32| value.is_finite();
        check("temperature", temperature, finite(temperature) && temperature >= 0.0, "0 or more")?;
        check("top-p", top_p, finite(top_p) && top_p >= 0.0, "0 or more")?;
        check("min-p", min_p, (0.0..=1.0).contains(&min_p), "0 to 1")?;
        let penalty = finite(repeat_penalty) && repeat_penalty > 0.0;
        check("repeat-penalty", repeat_penalty, penalty, "above 0")?;
        for (name, penalty) in [
            ("frequency-penalty", self.frequency_penalty),
            ("presence-penalty", self.presence_penalty),
        ] {
            check(name, penalty, finite(penalty), "a finite number")?;
        }
        let penalty = finite(loop_penalty) && loop_penalty >= 0.0;
        check("loop-penalty", loop_penalty, penalty, "0 or more")
    }
}

/// A restriction of the next token, such as a grammar.
pub trait Constraint: Send {
    /// Sets the logits of tokens that are not allowed next, `[vocab]`, to negative infinity.
    ///
    /// # Errors
    /// No token is allowed.
    fn forbid(&mut self, logits: &mut [f32]) -> Result<()>;

    /// Advances past the chosen token.
    ///
    /// # Errors
    /// The token is not allowed.
    fn advance(&mut self, id: u32) -> Result<()>;

    /// Whether the text is complete and only its end may follow.
    fn is_complete(&self) -> bool {
        false
    }
}

/// Chooses tokens according to [`Sampling`] parameters.
pub struct Sampler {
    sampling: Sampling,
    /// Offsets to add to the logits of tokens.
    bias: Vec<(u32, f32)>,
    constraint: Option<Box<dyn Constraint>>,
    /// Occurrences of each token in the answer, and the number of tokens counted.
    counts: BTreeMap<u32, u32>,
    counted: usize,
    /// Tokens that would extend a repetition, and their penalties.
    loops: Vec<(u32, f32)>,
    rng: ChaCha8Rng,
    candidates: Vec<Candidate>,
}

#[derive(Clone, Copy)]
struct Candidate {
    id: u32,
    logit: f32,
    /// Probability relative to that of the most likely candidate.
    weight: f64,
}

impl Candidate {
    /// Most likely first; ties in the order of the ids.
    fn order(&self, other: &Self) -> Ordering {
        other.logit.total_cmp(&self.logit).then(self.id.cmp(&other.id))
    }
}

impl Sampler {
    /// Creates a sampler.
    ///
    /// # Errors
    /// A parameter is out of range.
    pub fn new(sampling: Sampling) -> Result<Self> {
        sampling.check()?;
        let rng = ChaCha8Rng::seed_from_u64(sampling.seed);
        Ok(Self {
            sampling,
            bias: Vec::new(),
            constraint: None,
            counts: BTreeMap::new(),
            counted: 0,
            loops: Vec::new(),
            rng,
            candidates: Vec::new(),
        })
    }

    /// Adds an offset to the logit of each listed token.
    ///
    /// # Errors
    /// An offset is not finite.
    pub fn with_bias(mut self, bias: Vec<(u32, f32)>) -> Result<Self> {
        if let Some(&(_, value)) = bias.iter().find(|(_, value)| !value.is_finite()) {
            return Err(Error::Sampling { name: "bias", value, expected: "a finite number" });
        }
        self.bias = bias;
        Ok(self)
    }

    /// Restricts the sampler to tokens that a constraint allows.
    #[must_use]
    pub fn with_constraint(self, constraint: Box<dyn Constraint>) -> Self {
        Self { constraint: Some(constraint), ..self }
    }

    /// Replaces the constraint.
    pub fn constrain(&mut self, constraint: Option<Box<dyn Constraint>>) {
        self.constraint = constraint;
    }

    /// Whether the constraint allows no more text.
    pub fn is_complete(&self) -> bool {
        self.constraint.as_ref().is_some_and(|constraint| constraint.is_complete())
    }

    /// Updates the penalties for an answer, before its next token is sampled. An answer that is no
    /// longer than the previous one starts a new count.
    pub fn watch(&mut self, answer: &[u32]) {
        if self.counts_tokens() {
            if answer.len() <= self.counted {
                (self.counts, self.counted) = (BTreeMap::new(), 0);
            }
            for &id in &answer[self.counted..] {
                *self.counts.entry(id).or_default() += 1;
            }
            self.counted = answer.len();
        }
        self.loops.clear();
        if self.sampling.loop_penalty == 0.0 {
            return;
        }
        for end in 1..answer.len() {
            let (earlier, last) = (answer[..end].iter().rev(), answer.iter().rev());
            let pairs = earlier.zip(last).take(MAX_LOOP);
            let repeated = pairs.take_while(|(a, b)| a == b).count();
            let Some(excess) = repeated.checked_sub(MIN_LOOP) else { continue };
            let penalty = self.sampling.loop_penalty;
            let loss = (0..excess).fold(penalty, |loss, _| loss * LOOP_GROWTH);
            match self.loops.iter_mut().find(|(id, _)| *id == answer[end]) {
                Some((_, most)) => *most = most.max(loss),
                None => self.loops.push((answer[end], loss)),
            }
        }
    }

    /// Whether tokens of the answer are penalized.
    fn counts_tokens(&self) -> bool {
        self.sampling.frequency_penalty != 0.0 || self.sampling.presence_penalty != 0.0
    }

    /// Whether a setting can change the logit of any token, so that all logits are needed.
    fn needs_all(&self) -> bool {
        let changes = self.sampling.repeat_penalty != 1.0 || self.counts_tokens();
        changes || !self.bias.is_empty() || self.constraint.is_some()
    }

    /// The logits that suffice for sampling, or `None` if all are needed.
    pub fn needs(&self) -> Option<Largest> {
        let Sampling { temperature, top_k, top_p, .. } = self.sampling;
        if temperature > 0.0 && top_k == 0 && top_p < 1.0 {
            // A penalty changes the probabilities of all tokens.
            let unchanged = !self.needs_all() && self.loops.is_empty();
            return unchanged.then_some(Largest::nucleus(Nucleus { top_p, temperature }));
        }
        let few = if temperature == 0.0 { 1 } else { top_k };
        let within = self.within();
        // A penalized token takes the place of another one among the largest.
        let lost = self.loops.len();
        let count = if few > 0 { few.saturating_add(lost) } else { usize::MAX };
        let fewer = few > 0 || within < f32::INFINITY;
        let largest = Largest { within, rank: 1 + lost, ..Largest::count(count) };
        (fewer && !self.needs_all()).then_some(largest)
    }

    /// A bound on how far below the largest logit min-p keeps tokens. Infinity if there is none.
    fn within(&self) -> f32 {
        let Sampling { temperature, top_p, min_p, .. } = self.sampling;
        // Top-p depends on the probabilities of tokens that min-p drops afterwards.
        if top_p < 1.0 || min_p == 0.0 || temperature == 0.0 {
            return f32::INFINITY;
        }
        // Generous, because the weight of a token has the rounding errors of a difference in f32
        // and of the exponential.
        let temperature = f64::from(temperature);
        ((1e-6 - 1.000_001 * libm::log(f64::from(min_p))) * temperature) as f32
    }

    /// The logits that suffice for sampling after `answer` and after each of the tokens `drafts` that
    /// may follow it, or `None` if all are needed. Updates the penalties for `answer`.
    pub fn needs_after(&mut self, answer: &[u32], drafts: &[u32]) -> Option<Largest> {
        self.watch(answer);
        let mut most = self.needs();
        if self.sampling.loop_penalty != 0.0 && !drafts.is_empty() {
            let all = [answer, drafts].concat();
            for end in answer.len() + 1..=all.len() {
                self.watch(&all[..end]);
                most = most.zip(self.needs()).map(|(most, needs)| most.and(needs));
            }
            self.watch(answer);
        }
        most
    }

    /// Returns the next token after `context`. `logits` are all logits, or at least those that
    /// the sampler [`needs`](Self::needs).
    ///
    /// # Errors
    /// No logit is a finite number. The weights of the model are broken then.
    pub fn sample(&mut self, logits: Logits<'_>, context: &[u32]) -> Result<u32> {
        let id = self.choose(logits, context)?;
        if let Some(constraint) = &mut self.constraint {
            constraint.advance(id)?;
        }
        Ok(id)
    }

    fn choose(&mut self, logits: Logits<'_>, context: &[u32]) -> Result<u32> {
        let Sampling { temperature, top_k, top_p, min_p, repeat_penalty, .. } = self.sampling;
        let mut values = Cow::Borrowed(logits.values());
        if repeat_penalty != 1.0 {
            values = penalize(&values, context, repeat_penalty).into();
        }
        for (&id, &count) in &self.counts {
            let Sampling { frequency_penalty, presence_penalty, .. } = self.sampling;
            if let Some(logit) = values.to_mut().get_mut(id as usize) {
                *logit -= frequency_penalty * count as f32 + presence_penalty;
            }
        }
        for &(id, bias) in &self.bias {
            if let Some(logit) = values.to_mut().get_mut(id as usize) {
                *logit += bias;
            }
        }
        for &(id, loss) in &self.loops {
            let index = (0..values.len()).find(|&index| logits.id(index) == id);
            if let Some(index) = index {
                values.to_mut()[index] -= loss;
            }
        }
        if let Some(constraint) = &mut self.constraint {
            constraint.forbid(values.to_mut())?;
        }
        let values = &*values;
        let first = argmax(values).ok_or(Error::NotFinite)? as usize;
        let best = logits.id(first);
        if temperature == 0.0 {
            return Ok(best);
        }
        let top = values[first];
        let weight = |logit: f32| libm::exp(f64::from(logit - top) / f64::from(temperature));
        self.candidates.clear();
        let known = values.iter().enumerate().filter(|(_, logit)| !logit.is_nan());
        let candidate =
            |(index, &logit): (usize, &f32)| Candidate { id: logits.id(index), logit, weight: 0.0 };
        self.candidates.extend(known.map(candidate));
        if top_k > 0 && top_k < self.candidates.len() {
            self.candidates.select_nth_unstable_by(top_k - 1, Candidate::order);
            self.candidates.truncate(top_k);
        }
        // Only for the remaining candidates: a vocabulary of 128,000 takes milliseconds.
        self.candidates.iter_mut().for_each(|candidate| candidate.weight = weight(candidate.logit));
        if top_p < 1.0 {
            self.cut_top_p(f64::from(top_p));
        }
        self.candidates.retain(|candidate| candidate.weight >= f64::from(min_p));
        self.candidates.sort_unstable_by(Candidate::order);
        let total: f64 = self.candidates.iter().map(|candidate| candidate.weight).sum();
        // 53 random bits: a uniform number in 0..1.
        let uniform = (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut left = uniform * total;
        for candidate in &self.candidates {
            left -= candidate.weight;
            if left < 0.0 {
                return Ok(candidate.id);
            }
        }
        Ok(self.candidates.last().map_or(best, |candidate| candidate.id))
    }

    /// Keeps the shortest prefix of the most likely candidates whose probabilities reach `top_p`.
    fn cut_top_p(&mut self, top_p: f64) {
        // Sum in the order of the ids: the selection leaves an arbitrary order.
        self.candidates.sort_unstable_by_key(|candidate| candidate.id);
        let total: f64 = self.candidates.iter().map(|candidate| candidate.weight).sum();
        let wanted = top_p * total;
        let mut sorted = 0;
        let mut mass = 0.0;
        // The prefix is usually short, so sort a small part of the list at a time.
        let mut step = 64;
        while sorted < self.candidates.len() {
            let rest = &mut self.candidates[sorted..];
            let take = step.min(rest.len());
            if take < rest.len() {
                rest.select_nth_unstable_by(take - 1, Candidate::order);
            }
            rest[..take].sort_unstable_by(Candidate::order);
            for (index, candidate) in rest[..take].iter().enumerate() {
                mass += candidate.weight;
                if mass >= wanted {
                    self.candidates.truncate(sorted + index + 1);
                    return;
                }
            }
            sorted += take;
            step *= 4;
        }
    }
}

/// The index of the largest logit, the first of equal ones. `None` if the largest is not finite or
/// no logit is a number.
pub fn argmax(logits: &[f32]) -> Option<u32> {
    let mut best: Option<(usize, f32)> = None;
    for (id, &logit) in logits.iter().enumerate() {
        if !logit.is_nan() && best.is_none_or(|(_, top)| logit > top) {
            best = Some((id, logit));
        }
    }
    best.filter(|(_, top)| top.is_finite()).map(|(id, _)| id as u32)
}

fn penalize(logits: &[f32], context: &[u32], penalty: f32) -> Vec<f32> {
    let mut out = logits.to_vec();
    for &id in context {
        // Read from the original logits, so that a token that occurs twice is penalized once.
        if let Some(&logit) = logits.get(id as usize) {
            out[id as usize] = if logit > 0.0 { logit / penalty } else { logit * penalty };
        }
    }
    out
}

#[cfg(test)]
mod tests;
