//! Hyperparameters outside their valid ranges.

use std::fmt::Display;

/// A hyperparameter outside its valid range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The metadata key, without the name of the architecture.
    pub key: &'static str,
    /// The accepted values.
    pub expected: String,
    /// The value.
    pub found: String,
}

impl Fault {
    pub(super) fn unless(
        fits: bool,
        key: &'static str,
        found: impl Display,
        expected: impl FnOnce() -> String,
    ) -> Result<(), Self> {
        if fits {
            return Ok(());
        }
        Err(Self { key, expected: expected(), found: found.to_string() })
    }

    pub(super) fn range(key: &'static str, found: u64, least: u64, most: u64) -> Result<(), Self> {
        Self::unless((least..=most).contains(&found), key, found, || {
            format!("an integer from {least} to {most}")
        })
    }

    pub(super) fn positive(key: &'static str, found: f32) -> Result<(), Self> {
        Self::unless(found > 0.0 && found.is_finite(), key, found, || "a positive number".into())
    }
}
