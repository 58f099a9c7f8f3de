//! A time limit for tokenizing a text.

use std::cell::Cell;
use std::time::Duration;

/// Time limit for a text, to which each byte adds. Some regular expressions read the whole text for
/// every match, and some vocabularies have a token of every length; they would take days for a few
/// megabytes. Others take a hundredth of the limit.
const BASE_TIME: Duration = Duration::from_secs(10);
const TIME_PER_BYTE: Duration = Duration::from_micros(5);

/// A time limit for tokenizing a text.
pub(super) struct Deadline {
    end: Duration,
    /// Calls of [`check`](Self::check) until the next reading of the clock.
    countdown: Cell<u32>,
}

impl Deadline {
    const INTERVAL: u32 = 16;

    pub(super) fn for_text(text: &str) -> Self {
        let bytes = u32::try_from(text.len()).unwrap_or(u32::MAX);
        let limit = BASE_TIME + TIME_PER_BYTE * bytes;
        Self { end: time().saturating_add(limit), countdown: Cell::new(Self::INTERVAL) }
    }

    /// A deadline that has passed.
    #[cfg(test)]
    pub(super) fn passed() -> Self {
        Self { end: Duration::ZERO, countdown: Cell::new(Self::INTERVAL) }
    }

    /// Returns an error after the deadline. Every loop whose work a file can multiply calls it.
    pub(super) fn check(&self) -> Result<(), String> {
        let left = self.countdown.get();
        if left > 0 {
            self.countdown.set(left - 1);
            return Ok(());
        }
        self.countdown.set(Self::INTERVAL);
        if time() > self.end {
            return Err("it takes too long for this text".to_owned());
        }
        Ok(())
    }
}

/// The CPU time of this thread, so that other load on the machine does not count.
#[cfg(unix)]
fn time() -> Duration {
    use rustix::time::{ClockId, clock_gettime};

    // The clock begins at zero.
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or(Duration::ZERO)
}

/// Wall-clock time since the first call.
#[cfg(not(unix))]
fn time() -> Duration {
    use std::sync::LazyLock;
    use std::time::Instant;

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}
