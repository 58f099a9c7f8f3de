//! Limits of the time and memory that a rendering takes.

use std::cell::Cell;

use super::error::{Result, fail};

/// Number of bytes that cost one unit.
const BYTES_PER_UNIT: usize = 32;

/// The units left to a rendering. A step of the program costs one unit, and so do an item of a list
/// and 32 bytes of a string, so both time and memory are bounded.
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

    /// Pays for reading or creating a string.
    pub(super) fn bytes(&self, bytes: usize) -> Result<()> {
        self.spend(bytes / BYTES_PER_UNIT + 1)
    }
}
