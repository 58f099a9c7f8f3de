//! A limit of the time that a text may take.

use std::cell::Cell;
use std::time::Duration;

/// Time for a text, and more of it for a long one. Some regular expressions look at the whole text
/// for every match, and some vocabularies have a token of every length: they would take days for
/// some megabytes. Others take a hundredth of this.
const PATIENCE: Duration = Duration::from_secs(10);
const PATIENCE_FOR_A_BYTE: Duration = Duration::from_micros(5);

/// A limit of the time that a text may take.
pub(super) struct Deadline {
    end: Duration,
    /// Calls until the clock is looked at again.
    countdown: Cell<u32>,
}

impl Deadline {
    const INTERVAL: u32 = 16;

    pub(super) fn for_text(text: &str) -> Self {
        let bytes = u32::try_from(text.len()).unwrap_or(u32::MAX);
        let patience = PATIENCE + PATIENCE_FOR_A_BYTE * bytes;
        Self { end: time().saturating_add(patience), countdown: Cell::new(Self::INTERVAL) }
    }

    /// One that has passed.
    #[cfg(test)]
    pub(super) fn passed() -> Self {
        Self { end: Duration::ZERO, countdown: Cell::new(Self::INTERVAL) }
    }

    /// An error when the time is up. It is asked in every loop whose work a file can multiply.
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

/// The time that this thread has computed: what else the machine does counts for nothing.
#[cfg(unix)]
fn time() -> Duration {
    use rustix::time::{ClockId, clock_gettime};

    // The clock begins at zero.
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or(Duration::ZERO)
}

/// The time since the first call.
#[cfg(not(unix))]
fn time() -> Duration {
    use std::sync::LazyLock;
    use std::time::Instant;

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}
