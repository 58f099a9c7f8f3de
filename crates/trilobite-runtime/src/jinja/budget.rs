//! What a rendering may take.

use std::cell::Cell;

use super::error::{Result, fail};

/// Bytes of memory that cost as much as a step.
const BYTES_PER_UNIT: usize = 32;

/// Units that are left to a rendering. A step of the program costs one, and so does looking at an
/// item of a list or at 32 bytes of a text, so that both time and memory have a bound.
pub(super) struct Budget {
    all: u64,
    left: Cell<u64>,
}

impl Budget {
    pub(super) fn new(units: u64) -> Self {
        Self { all: units, left: Cell::new(units) }
    }

    /// Pays for steps or items.
    pub(super) fn spend(&self, units: usize) -> Result<()> {
        match self.left.get().checked_sub(units as u64) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => {
                self.left.set(0);
                let megabytes = self.all as usize * BYTES_PER_UNIT / 1_000_000;
                fail(format!(
                    "it takes more than the {} steps or {megabytes} MB that a conversation of this \
                     size may take",
                    self.all
                ))
            }
        }
    }

    /// Pays for reading or making a text.
    pub(super) fn bytes(&self, bytes: usize) -> Result<()> {
        self.spend(bytes / BYTES_PER_UNIT + 1)
    }
}
