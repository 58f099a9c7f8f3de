//! How many tokens of prompts a step reads.

use std::time::Duration;

/// The time that reading prompts may add to a step while answers are being generated: the time between
/// two tokens of an answer is at most this and what a token of every running answer takes.
const BESIDE_ANSWERS: Duration = Duration::from_millis(250);
/// The same while there are only prompts: what a new request waits for.
const ALONE: Duration = Duration::from_millis(500);
/// Fewer tokens than this cost nearly as much as so many.
const LEAST: usize = 16;
/// The tokens of a step until one has been measured.
const FIRST: usize = 32;
/// The weight of the newest measurement.
const NEWEST: f64 = 0.3;

/// The speed at which prompts are read, as measured, and the tokens that a step may read of them.
pub(super) struct Pace {
    /// Seconds that a token of a prompt takes.
    seconds: Option<f64>,
    most: usize,
}

impl Pace {
    /// No measurement yet; never more than `most` tokens.
    pub(super) fn new(most: usize) -> Self {
        Self { seconds: None, most: most.max(1) }
    }

    /// Tokens of prompts for the next step, which continues answers or does not.
    pub(super) fn tokens(&self, answers: bool) -> usize {
        let time = if answers { BESIDE_ANSWERS } else { ALONE };
        let fitting = |seconds: f64| (time.as_secs_f64() / seconds) as usize;
        self.seconds.map_or(FIRST, fitting).max(LEAST).min(self.most)
    }

    /// Notes that a step with so many tokens of prompts took so long.
    pub(super) fn note(&mut self, tokens: usize, time: Duration) {
        // The cost of a few tokens is that of a step, not theirs.
        if tokens < LEAST.min(self.most) {
            return;
        }
        let measured = time.as_secs_f64() / tokens as f64;
        let mixed = |before: f64| before + NEWEST * (measured - before);
        self.seconds = Some(self.seconds.map_or(measured, mixed));
    }
}

/// Divides `tokens` among prompts that have so many left to read: evenly, and what a short one does
/// not need goes to the others, so that a long prompt never keeps a short one waiting.
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
        // 10 ms a token.
        (0..50).for_each(|_| pace.note(100, Duration::from_secs(1)));
        assert_eq!((pace.tokens(true), pace.tokens(false)), (25, 50));
        (0..50).for_each(|_| pace.note(100, Duration::from_micros(1)));
        assert_eq!(pace.tokens(true), 256);
        (0..50).for_each(|_| pace.note(16, Duration::from_secs(60)));
        assert_eq!(pace.tokens(true), LEAST);
        pace.note(1, Duration::ZERO);
        assert_eq!(pace.tokens(true), LEAST);
    }
}
