//! The number of drafts that are worth a pass.

use std::time::Duration;

/// Time of a draft in a pass before the first measurement, in passes without drafts.
const FIRST_COST: f64 = 0.3;
/// Bounds of the measured time, so that a pause of the machine does not end speculation.
const COSTS: (f64, f64) = (0.01, 2.0);
/// Assumed fraction of right drafts before the first one.
const FIRST_RATE: f64 = 0.6;
/// Weight of the newest draft in the fraction.
const NEWEST_GUESS: f64 = 0.15;
/// Weight of the newest measurement of time.
const NEWEST_TIME: f64 = 0.2;
/// Time that wrong drafts may take at first, in passes.
const FIRST_CREDIT: f64 = 0.5;
/// Time that each pass adds to that. Where every draft is wrong, this is the fraction lost.
const CREDIT: f64 = 0.01;
/// Maximum time that right drafts gain for wrong ones.
const MAX_CREDIT: f64 = 2.0;

/// Chooses the number of drafts from the measured times and the fraction that was right. The time
/// lost by wrong drafts is bounded, whatever was right before.
pub(crate) struct Pace {
    /// Seconds of a pass without drafts.
    pass: Option<f64>,
    /// Time of a draft, in passes.
    cost: Option<f64>,
    /// Probability that a draft after right ones is right.
    rate: f64,
    /// Time that wrong drafts may take, in passes.
    credit: f64,
    eager: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self { pass: None, cost: None, rate: FIRST_RATE, credit: FIRST_CREDIT, eager: false }
    }
}

impl Pace {
    /// A pace that always asks for the maximum number of drafts.
    pub(crate) fn eager() -> Self {
        Self { eager: true, ..Self::default() }
    }

    /// The number of drafts to ask for, at most `most`.
    pub(crate) fn drafts(&self, most: usize) -> usize {
        if self.eager {
            return most;
        }
        let cost = self.cost.unwrap_or(FIRST_COST);
        let affordable = (self.credit / cost).max(0.0) as usize;
        let most = most.min(affordable);
        // Tokens in the time of a pass without drafts.
        let (mut best, mut speed) = (0, 1.0);
        let (mut tokens, mut reached) = (1.0, 1.0);
        for count in 1..=most {
            reached *= self.rate;
            tokens += reached;
            let now = tokens / (1.0 + cost * count as f64);
            if now > speed {
                (best, speed) = (count, now);
            }
        }
        // A draft now and then shows whether the text has changed.
        best.max(most.min(1))
    }

    /// Records a pass with `drafted` drafts, of which the first `accepted` were right.
    pub(crate) fn note(&mut self, drafted: usize, accepted: usize, time: Duration) {
        let seconds = time.as_secs_f64();
        self.credit += CREDIT;
        if drafted == 0 {
            let mixed = |before: f64| before + NEWEST_TIME * (seconds - before);
            self.pass = Some(self.pass.map_or(seconds, mixed));
            self.credit = self.credit.min(MAX_CREDIT);
            return;
        }
        let cost = self.pass.filter(|pass| *pass > 0.0).map_or(FIRST_COST, |pass| {
            ((seconds / pass - 1.0) / drafted as f64).clamp(COSTS.0, COSTS.1)
        });
        let mixed = |before: f64| before + NEWEST_TIME * (cost - before);
        self.cost = Some(self.cost.map_or(cost, mixed));
        for index in 0..drafted.min(accepted + 1) {
            let right = if index < accepted { 1.0 } else { 0.0 };
            self.rate += NEWEST_GUESS * (right - self.rate);
        }
        let gained = accepted as f64 - cost * drafted as f64;
        self.credit = (self.credit + gained).min(MAX_CREDIT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASS: Duration = Duration::from_millis(10);

    /// The time of `passes` passes of which each takes `cost` more for a draft, in passes, and the
    /// number of tokens, if drafts are right as `right` says.
    fn decode(pace: &mut Pace, passes: usize, cost: f64, right: impl Fn(usize) -> bool) -> f64 {
        let (mut time, mut tokens) = (0.0, 0);
        for _ in 0..passes {
            let drafted = pace.drafts(7);
            let accepted = (0..drafted).take_while(|index| right(tokens + index)).count();
            let took = 1.0 + cost * drafted as f64;
            pace.note(drafted, accepted, PASS.mul_f64(took));
            time += took;
            tokens += 1 + accepted;
        }
        tokens as f64 / time
    }

    #[test]
    fn wrong_drafts_cost_two_percent_at_most() {
        for cost in [0.05, 0.2, 0.6] {
            for passes in [64, 128, 1_000] {
                let mut pace = Pace::default();
                // The first pass of an answer is without drafts.
                pace.note(0, 0, PASS);
                let speed = decode(&mut pace, passes, cost, |_| false);
                assert!(speed > 0.98, "{cost}, {passes}: {speed}");
            }
        }
    }

    #[test]
    fn wrong_drafts_after_right_ones_end_soon() {
        let mut pace = Pace::default();
        decode(&mut pace, 100, 0.2, |_| true);
        let (lost, passes) = (MAX_CREDIT + 2.0, 1_000);
        let speed = decode(&mut pace, passes, 0.2, |_| false);
        assert!(speed > 1.0 - CREDIT - lost / passes as f64, "{speed}");
    }

    #[test]
    fn right_drafts_are_taken() {
        let mut pace = Pace::default();
        pace.note(0, 0, PASS);
        assert!(decode(&mut pace, 100, 0.2, |_| true) > 2.5);
        // Also after a long text without right drafts.
        let mut pace = Pace::default();
        decode(&mut pace, 1_000, 0.2, |_| false);
        decode(&mut pace, 100, 0.2, |_| true);
        assert!(decode(&mut pace, 100, 0.2, |_| true) > 2.5);
    }

    #[test]
    fn drafts_that_take_as_long_as_passes_are_not_made() {
        let mut pace = Pace::default();
        pace.note(0, 0, PASS);
        let speed = decode(&mut pace, 1_000, 1.2, |_| true);
        assert!(speed > 0.98, "{speed}");
    }
}
