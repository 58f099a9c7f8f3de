//! The profile of `trilobite bench`: the time of each stage of a token.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};
use trilobite_runtime::{Profile, Session, Stage};

use super::spread::noun;

/// The time of each stage for some tokens.
pub(super) struct StageTimes {
    threads: usize,
    what: &'static str,
    /// Number of tokens, or of sequences.
    count: usize,
    tokens: usize,
    profile: Profile,
    /// The whole time, including work outside of the forward pass.
    total: Duration,
}

impl StageTimes {
    /// Measures `work` on `tokens` tokens. The heading of its column is the activity and a number.
    pub(super) fn new(
        session: &mut Session,
        threads: usize,
        (what, count): (&'static str, usize),
        tokens: usize,
        work: impl FnOnce(&mut Session) -> Result<()>,
    ) -> Result<Self> {
        session.measure(true);
        let start = Instant::now();
        let result = work(session);
        let total = start.elapsed();
        let profile = session.measure(false).unwrap_or_default();
        result.map(|()| Self { threads, what, count, tokens, profile, total })
    }

    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    fn micros(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / self.tokens as f64
    }

    fn sum(&self, part: impl Fn(Stage) -> Duration) -> Duration {
        Stage::ALL.into_iter().map(part).sum()
    }

    fn outside(&self) -> Duration {
        self.total.saturating_sub(self.sum(|stage| self.profile.spent(stage).time))
    }

    pub(super) fn json(&self) -> Value {
        let stages = Stage::ALL.map(|stage| {
            let spent = self.profile.spent(stage);
            json!({
                "stage": stage.name(),
                "us_per_token": self.micros(spent.time),
                "waiting_us_per_token": self.micros(spent.waiting),
            })
        });
        json!({
            "work": self.what,
            "count": self.count,
            "tokens": self.tokens,
            "us_per_token": self.micros(self.total),
            "outside_us_per_token": self.micros(self.outside()),
            "stages": stages,
        })
    }
}

/// A table of microseconds per token, with a column for each measurement.
pub(super) fn table(columns: &[StageTimes]) -> String {
    let line = |name: &str, cell: &dyn Fn(&StageTimes) -> String| {
        let cells: String = columns.iter().map(|column| format!("{:>16}", cell(column))).collect();
        format!("{name:24}{cells}\n")
    };
    let mut text = line("us a token", &|column| format!("{} {}", column.what, column.count));
    text += &line("", &|column| format!("{} {}", column.threads, noun(column.threads)));
    let mut row = |name: &str, time: &dyn Fn(&StageTimes) -> Duration| {
        text += &line(name, &|column| format!("{:.1}", column.micros(time(column))));
    };
    for stage in Stage::ALL {
        row(stage.name(), &|column| column.profile.spent(stage).time);
    }
    row("outside the pass", &StageTimes::outside);
    row("all", &|column| column.total);
    row("of it waiting", &|column| column.sum(|stage| column.profile.spent(stage).waiting));
    text
}
