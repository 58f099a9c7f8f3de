//! A limit of the time that a text may take.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Time for a text, and more of it for a long one. Some regular expressions look at the whole text
/// for every match, and some vocabularies have a token of every length: they would take days for
/// some megabytes.
const PATIENCE: Duration = Duration::from_secs(10);
const PATIENCE_FOR_A_BYTE: Duration = Duration::from_micros(2);

/// A limit of the time that a text may take.
pub(super) struct Deadline {
    end: Option<Instant>,
    /// Calls until the clock is looked at again.
    countdown: Cell<u32>,
}

impl Deadline {
    const INTERVAL: u32 = 64;

    pub(super) fn for_text(text: &str) -> Self {
        let bytes = u32::try_from(text.len()).unwrap_or(u32::MAX);
        let patience = PATIENCE + PATIENCE_FOR_A_BYTE * bytes;
        Self { end: Instant::now().checked_add(patience), countdown: Cell::new(Self::INTERVAL) }
    }

    /// An error when the time is up. It is asked in every loop whose work a file can multiply.
    pub(super) fn check(&self) -> Result<(), String> {
        let left = self.countdown.get();
        if left > 0 {
            self.countdown.set(left - 1);
            return Ok(());
        }
        self.countdown.set(Self::INTERVAL);
        if self.end.is_some_and(|end| Instant::now() > end) {
            return Err("it takes too long for this text".to_owned());
        }
        Ok(())
    }
}
