//! The speeds of several runs.

use serde_json::{Value, json};

/// Median, minimum and maximum of several runs.
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let mid = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[mid] } else { (values[mid - 1] + values[mid]) / 2.0 };
        Self { median, min: values[0], max: values[values.len() - 1] }
    }

    pub(crate) fn json(&self) -> Value {
        json!({"median": self.median, "min": self.min, "max": self.max})
    }
}

/// The noun for a number of threads.
pub(crate) fn noun(threads: usize) -> &'static str {
    if threads == 1 { "thread" } else { "threads" }
}

pub(super) fn row(threads: usize, what: &str, speed: &Spread) -> String {
    let Spread { median, min, max } = speed;
    let noun = noun(threads);
    format!("{threads:3} {noun:7}  {what:14} {median:9.2} tokens/s  ({min:.2} to {max:.2})\n")
}
