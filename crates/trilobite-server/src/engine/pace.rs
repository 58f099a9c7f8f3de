//! The number of prompt tokens in a step.

use std::time::Duration;

/// Time for prefill in a step that also decodes. It bounds the extra time between two tokens of an
/// answer. With half of this time, prefill is about a sixth slower.
const BESIDE_ANSWERS: Duration = Duration::from_millis(125);
/// Time of a step with prefill only, which a new request waits for.
const ALONE: Duration = Duration::from_millis(500);
/// Minimum tokens of a step. Fewer take nearly the same time.
const LEAST: usize = 16;
/// Tokens of a step before the first measurement.
const FIRST: usize = 32;
/// The weight of the newest measurement.
const NEWEST: f64 = 0.3;

/// The measured speed of prefill, and the number of prompt tokens that it allows in a step.
pub(super) struct Pace {
    /// Seconds of a prompt token.
    seconds: Option<f64>,
    most: usize,
}

impl Pace {
    /// Creates a pace without a measurement. A step has at most `most` tokens.
    pub(super) fn new(most: usize) -> Self {
        Self { seconds: None, most: most.max(1) }
    }

    /// Number of prompt tokens in the next step. `answers` means that the step also decodes.
    pub(super) fn tokens(&self, answers: bool) -> usize {
        let time = if answers { BESIDE_ANSWERS } else { ALONE };
        let fitting = |seconds: f64| (time.as_secs_f64() / seconds) as usize;
        self.seconds.map_or(FIRST, fitting).max(LEAST).min(self.most)
    }

    /// Records the time of a step with `tokens` prompt tokens.
    pub(super) fn note(&mut self, tokens: usize, time: Duration) {
        // With few tokens the time is mostly the fixed cost of a step.
        if tokens < LEAST.min(self.most) {
            return;
        }
        let measured = time.as_secs_f64() / tokens as f64;
        let mixed = |before: f64| before + NEWEST * (measured - before);
        self.seconds = Some(self.seconds.map_or(measured, mixed));
    }
}

/// Divides `tokens` evenly among prompts with `left` tokens each. Longer prompts share what shorter ones
/// do not need, so a long prompt never delays a short one.
pub(super) fn share(left: &[usize], tokens: usize) -> Vec<usize> {
    let mut shares = vec![0; left.len()];
    let mut order: Vec<usize> = (0..left.len()).collect();
    order.sort_by_key(|&index| left[index]);
    let mut budget = tokens;
    for (place, &index) in order.iter().enumerate() {
        let even = budget.div_ceil(left.len() - place);
        shares[index] = left[index].min(even);
        budget -= shares[index];
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_share_a_step_evenly() {
        assert_eq!(share(&[], 10), Vec::<usize>::new());
        assert_eq!(share(&[100], 10), [10]);
        assert_eq!(share(&[100, 3, 100], 11), [4, 3, 4]);
        assert_eq!(share(&[2, 3], 64), [2, 3]);
        assert_eq!(share(&[9, 9, 9], 2), [1, 1, 0]);
    }

    #[test]
    fn a_step_takes_as_many_tokens_as_fit_in_its_time() {
        let mut pace = Pace::new(256);
        assert_eq!(pace.tokens(true), FIRST);
        // 5 ms a token.
        (0..50).for_each(|_| pace.note(100, Duration::from_millis(500)));
        assert_eq!((pace.tokens(true), pace.tokens(false)), (25, 100));
        (0..50).for_each(|_| pace.note(100, Duration::from_micros(1)));
        assert_eq!(pace.tokens(true), 256);
        (0..50).for_each(|_| pace.note(16, Duration::from_secs(60)));
        assert_eq!(pace.tokens(true), LEAST);
        pace.note(1, Duration::ZERO);
        assert_eq!(pace.tokens(true), LEAST);
    }
}
