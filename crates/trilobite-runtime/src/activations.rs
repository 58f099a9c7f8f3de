//! How activations are rounded.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::weights::{Kind, Weights};

/// How the activations that are multiplied with dense weights in blocks are rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activations {
    /// To integers of 16 bits, and of 23 bits for weights of at most two bits.
    #[default]
    Exact,
    /// To int8 with a step for every 256: faster, and the logits change.
    Int8,
}

impl Activations {
    /// Every way.
    pub const ALL: &'static [Self] = &[Self::Exact, Self::Int8];

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Activations::Exact => "exact",
            Activations::Int8 => "int8",
        }
    }

    /// A one-line description.
    pub fn summary(self) -> &'static str {
        match self {
            Activations::Exact => "16 bits or more, so that logits hardly change",
            Activations::Int8 => "Lossy: int8, as other engines have, for weights in blocks",
        }
    }

    /// Checks that a model has weights to which the setting applies.
    pub(crate) fn check(self, weights: &Weights) -> Result<()> {
        let blocks = |kind| matches!(kind, Kind::Dense(ty) if ty.has_blocks());
        let layers = weights.layers.iter().flat_map(|layer| layer.matrices());
        let any_blocks = layers.chain([&weights.head]).any(|matrix| blocks(matrix.kind));
        match self == Activations::Exact || any_blocks {
            true => Ok(()),
            false => Err(Error::NoInt8),
        }
    }
}

impl fmt::Display for Activations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Activations {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|each| each.name() == name).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|each| each.name()).collect();
            Error::Activations { found: name.to_owned(), known: known.join(", ") }
        })
    }
}
