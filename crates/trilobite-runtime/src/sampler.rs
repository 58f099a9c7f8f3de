//! Sampling: chooses the next token from logits.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::error::{Error, Result};
use crate::head::{Largest, Logits};

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
        let Sampling { temperature, top_k, .. } = self.sampling;
        let few = if temperature == 0.0 { 1 } else { top_k };
        let within = self.within();
        // A penalized token takes the place of another one among the largest.
        let lost = self.loops.len();
        let count = if few > 0 { few.saturating_add(lost) } else { usize::MAX };
        let fewer = few > 0 || within < f32::INFINITY;
        (fewer && !self.needs_all()).then_some(Largest { count, within, rank: 1 + lost })
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
        let mut most = self.needs()?;
        if self.sampling.loop_penalty != 0.0 && !drafts.is_empty() {
            let all = [answer, drafts].concat();
            for end in answer.len() + 1..=all.len() {
                self.watch(&all[..end]);
                most = most.and(self.needs()?);
            }
            self.watch(answer);
        }
        Some(most)
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
mod tests {
    use super::*;

    fn sampler(sampling: Sampling) -> Sampler {
        Sampler::new(sampling).unwrap()
    }

    fn draws(sampling: Sampling, logits: &[f32], n: usize) -> Vec<u32> {
        let mut sampler = sampler(sampling);
        (0..n).map(|_| sampler.sample(Logits::all(logits), &[]).unwrap()).collect()
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        let mut sampler = sampler(Sampling::default());
        assert_eq!(sampler.sample(Logits::all(&[1.0, 3.0, 3.0, -1.0]), &[]).unwrap(), 1);
        assert!(sampler.sample(Logits::all(&[f32::NAN, f32::NAN]), &[]).is_err());
        assert!(sampler.sample(Logits::all(&[f32::INFINITY, 0.0]), &[]).is_err());
    }

    #[test]
    fn the_same_seed_gives_the_same_tokens() {
        let logits: Vec<f32> = (0..500).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
        let sampling = Sampling { temperature: 0.9, top_p: 0.95, seed: 7, ..Default::default() };
        assert_eq!(draws(sampling, &logits, 50), draws(sampling, &logits, 50));
        let other = Sampling { seed: 8, ..sampling };
        assert_ne!(draws(sampling, &logits, 50), draws(other, &logits, 50));
    }

    /// Frequencies of 20,000 draws are within 4 standard deviations (0.014) of the softmax.
    #[test]
    fn frequencies_follow_the_softmax() {
        const TOLERANCE: f64 = 0.014;
        let logits = [0.0f32, 1.0, 2.0];
        let sampling = Sampling { temperature: 2.0, ..Default::default() };
        let drawn = draws(sampling, &logits, 20_000);
        let weights: Vec<f64> = logits.iter().map(|&l| (f64::from(l) / 2.0).exp()).collect();
        for (id, weight) in weights.iter().enumerate() {
            let share = drawn.iter().filter(|&&d| d as usize == id).count() as f64 / 20_000.0;
            assert!((share - weight / weights.iter().sum::<f64>()).abs() < TOLERANCE);
        }
    }

    #[test]
    fn filters_keep_what_they_say() {
        // Probabilities 0.5, 0.3, 0.15, 0.05 in a shuffled order.
        let logits = [0.15f32.ln(), 0.5f32.ln(), 0.05f32.ln(), 0.3f32.ln()];
        let base = Sampling { temperature: 1.0, ..Default::default() };
        let kept = |sampling| {
            let mut kept = draws(sampling, &logits, 2_000);
            kept.sort_unstable();
            kept.dedup();
            kept
        };
        assert_eq!(kept(base), [0, 1, 2, 3]);
        assert_eq!(kept(Sampling { top_k: 2, ..base }), [1, 3]);
        assert_eq!(kept(Sampling { top_p: 0.75, ..base }), [1, 3]);
        assert_eq!(kept(Sampling { top_p: 0.85, ..base }), [0, 1, 3]);
        assert_eq!(kept(Sampling { top_p: 0.01, ..base }), [1]);
        assert_eq!(kept(Sampling { top_p: 0.0, ..base }), [1]);
        assert_eq!(kept(Sampling { top_p: 1.5, ..base }), [0, 1, 2, 3]);
        assert_eq!(kept(Sampling { top_k: 9, ..base }), [0, 1, 2, 3]);
        assert_eq!(kept(Sampling { min_p: 0.2, ..base }), [0, 1, 3]);
        assert_eq!(kept(Sampling { min_p: 1.0, ..base }), [1]);
    }

    #[test]
    fn top_p_of_a_long_flat_distribution_sorts_on() {
        let logits = vec![0.0f32; 1_000];
        let sampling = Sampling { temperature: 1.0, top_p: 0.5, ..Default::default() };
        assert!(draws(sampling, &logits, 500).iter().all(|&id| id < 501));
    }

    #[test]
    fn penalty_counts_a_token_once() {
        let sampling = Sampling { repeat_penalty: 2.0, ..Default::default() };
        let mut sampler = sampler(sampling);
        assert_eq!(sampler.sample(Logits::all(&[4.0, 3.0, 1.9]), &[0, 0]).unwrap(), 1);
        assert_eq!(sampler.sample(Logits::all(&[-1.0, -1.5]), &[0]).unwrap(), 1);
    }

    #[test]
    fn tokens_of_the_answer_lose_and_a_bias_is_added() {
        let chosen = |sampling: Sampling, bias: &[(u32, f32)], answer: &[u32]| {
            let mut sampler = sampler(sampling).with_bias(bias.to_vec()).unwrap();
            // Token by token, as answers come.
            (0..=answer.len()).for_each(|len| sampler.watch(&answer[..len]));
            sampler.sample(Logits::all(&[4.0, 3.0, 2.0]), &[0, 0]).unwrap()
        };
        let base = Sampling::default();
        let frequency = Sampling { frequency_penalty: 0.6, ..base };
        let presence = Sampling { presence_penalty: 1.1, ..base };
        // What only the prompt has counts nothing.
        assert_eq!(chosen(frequency, &[], &[]), 0);
        assert_eq!(chosen(frequency, &[], &[0]), 0);
        assert_eq!(chosen(frequency, &[], &[0, 0]), 1);
        assert_eq!(chosen(presence, &[], &[0, 0, 0]), 1);
        assert_eq!(chosen(presence, &[], &[0, 0, 1]), 0);
        assert_eq!(chosen(Sampling { presence_penalty: -2.0, ..base }, &[], &[1]), 1);
        assert_eq!(chosen(base, &[(2, 2.5)], &[]), 2);
        assert_eq!(chosen(base, &[(0, -100.0), (7, 1.0)], &[]), 1);
        assert_eq!(sampler(frequency).needs(), None);
        assert_eq!(sampler(base).with_bias(vec![(2, 1.0)]).unwrap().needs(), None);
        assert!(sampler(base).with_bias(vec![(2, f32::NAN)]).is_err());
    }

    #[test]
    fn another_answer_is_counted_anew() {
        let mut sampler = sampler(Sampling { presence_penalty: 2.0, ..Default::default() });
        sampler.watch(&[0]);
        sampler.watch(&[1]);
        assert_eq!(sampler.sample(Logits::all(&[4.0, 3.0, 2.5]), &[]).unwrap(), 0);
    }

    #[test]
    fn a_constraint_allows_tokens_and_learns_which_was_chosen() {
        struct Odd(std::sync::mpsc::Sender<u32>);
        impl Constraint for Odd {
            fn forbid(&mut self, logits: &mut [f32]) -> Result<()> {
                logits.iter_mut().step_by(2).for_each(|logit| *logit = f32::NEG_INFINITY);
                Ok(())
            }
            fn advance(&mut self, id: u32) -> Result<()> {
                self.0.send(id).unwrap();
                Ok(())
            }
        }
        let (sender, chosen) = std::sync::mpsc::channel();
        let sampling = Sampling { temperature: 1.0, ..Default::default() };
        let mut sampler = sampler(sampling).with_constraint(Box::new(Odd(sender)));
        assert_eq!(sampler.needs(), None);
        let logits = Logits::all(&[9.0, 1.0, 9.0, 1.5, 9.0]);
        let drawn: Vec<u32> = (0..50).map(|_| sampler.sample(logits, &[]).unwrap()).collect();
        assert!(drawn.iter().all(|id| id % 2 == 1));
        assert_eq!(chosen.try_iter().collect::<Vec<_>>(), drawn);
    }

    #[test]
    fn a_loop_ends_and_shorter_repetitions_go_on() {
        let sampling = Sampling { loop_penalty: 1.0, ..Default::default() };
        let mut sampler = sampler(sampling);
        // The model is sure of 0, 1, 2, 0, 1, 2, ... and would else say 3.
        let logits = |next: usize| {
            let mut logits = [0.0, 0.0, 0.0, 2.0];
            logits[next] = 6.0;
            logits
        };
        let mut answer = Vec::new();
        for step in 0..40 {
            sampler.watch(&answer);
            let next = sampler.sample(Logits::all(&logits(step % 3)), &[]).unwrap();
            answer.push(next);
        }
        let broken = answer.iter().position(|&id| id == 3).unwrap();
        // After 11 tokens eight repeat what came three before, and after 14 eleven: 1.75^3 > 6 - 2.
        assert_eq!(broken, 14);
        sampler.watch(&answer[..11]);
        assert_eq!(sampler.loops, [(2, 1.0)]);
        sampler.watch(&answer[..10]);
        assert_eq!(sampler.loops, []);
        let few = Sampling { top_k: 4, temperature: 1.0, ..sampling };
        let mut sampler = Sampler::new(few).unwrap();
        sampler.watch(&answer[..11]);
        assert_eq!(sampler.needs(), Some(Largest { rank: 2, ..Largest::count(5) }));
    }

    #[test]
    fn few_logits_are_needed_where_few_can_be_chosen() {
        let base = Sampling { temperature: 1.0, top_k: 40, ..Default::default() };
        let needs = |sampling| sampler(sampling).needs();
        assert_eq!(needs(Sampling::default()), Some(Largest::count(1)));
        assert_eq!(needs(base), Some(Largest::count(40)));
        assert_eq!(needs(Sampling { top_p: 0.5, min_p: 0.1, ..base }), Some(Largest::count(40)));
        assert_eq!(needs(Sampling { top_k: 0, top_p: 0.5, ..base }), None);
        assert_eq!(needs(Sampling { top_k: 0, top_p: 0.5, min_p: 0.1, ..base }), None);
        assert_eq!(needs(Sampling { repeat_penalty: 1.1, ..base }), None);
    }

    #[test]
    fn min_p_needs_what_is_near_the_largest() {
        let base = Sampling { temperature: 0.5, min_p: 0.1, ..Default::default() };
        let margin = |sampling| sampler(sampling).needs().map(|needs| (needs.count, needs.within));
        let (count, within) = margin(base).unwrap();
        assert_eq!(count, usize::MAX);
        let exact = 0.5 * 10f32.ln();
        assert!(within > exact && within < exact * 1.0001, "{within}");
        assert_eq!(margin(Sampling { top_k: 9, ..base }), Some((9, within)));
        let (_, within) = margin(Sampling { min_p: 1.0, ..base }).unwrap();
        assert!((0.0..1e-6).contains(&within));
        assert_eq!(margin(Sampling { min_p: 0.0, ..base }), None);
        assert_eq!(margin(Sampling { temperature: f32::MAX, ..base }), None);
        let greedy = Sampling { temperature: 0.0, ..base };
        assert_eq!(sampler(greedy).needs(), Some(Largest::count(1)));
    }

    #[test]
    fn parameters_out_of_range_are_errors() {
        let base = Sampling::default();
        for bad in [
            Sampling { temperature: -1.0, ..base },
            Sampling { temperature: f32::NAN, ..base },
            Sampling { top_p: -0.1, ..base },
            Sampling { min_p: 1.5, ..base },
            Sampling { repeat_penalty: 0.0, ..base },
            Sampling { loop_penalty: -1.0, ..base },
            Sampling { frequency_penalty: f32::NAN, ..base },
        ] {
            assert!(Sampler::new(bad).is_err(), "{bad:?}");
        }
    }
}
