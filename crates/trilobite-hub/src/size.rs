//! Human-readable sizes.

use std::fmt;

/// A number of bytes, displayed in kB, MB or GB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0;
        let text = match n {
            0..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
            1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
            _ => format!("{:.2} GB", n as f64 / 1e9),
        };
        f.pad(&text)
    }
}
