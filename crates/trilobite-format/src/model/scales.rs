//! Factors that some architectures apply between blocks.

use super::architecture::Architecture;
use super::fault::Fault;
use super::prefixed::Keys;
use crate::keys::model::{EMBEDDING_SCALE, LOGIT_SCALE, RESIDUAL_SCALE};
use crate::{Error, Value};

/// Factors of the residual stream and the logits, which MiniCPM has. They are 1 in other models.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scales {
    /// Factor of the token embeddings.
    pub embedding: f32,
    /// Factor of what attention and the feed-forward network add to the residual stream.
    pub residual: f32,
    /// Divisor of the logits.
    pub logits: f32,
}

impl Scales {
    /// No scaling.
    pub const NONE: Self = Self { embedding: 1.0, residual: 1.0, logits: 1.0 };

    /// Reads the keys. Old files of MiniCPM have none of them, and mean those of MiniCPM 2B.
    pub(super) fn read(
        keys: &Keys<'_>,
        arch: Architecture,
        layers: u64,
        hidden: u64,
    ) -> Result<Self, Error> {
        if arch != Architecture::MiniCpm {
            return Ok(Self::NONE);
        }
        let or = |key, default| Ok::<f32, Error>(keys.float(key)?.unwrap_or(default));
        Ok(Self {
            embedding: or(EMBEDDING_SCALE, 12.0)?,
            residual: or(RESIDUAL_SCALE, 1.4 / (layers as f32).sqrt())?,
            logits: or(LOGIT_SCALE, hidden as f32 / 256.0)?,
        })
    }

    /// Passes each key with its value to `set`.
    pub(super) fn describe(self, arch: Architecture, mut set: impl FnMut(&str, Option<Value>)) {
        if arch == Architecture::MiniCpm {
            set(EMBEDDING_SCALE, Some(self.embedding.into()));
            set(RESIDUAL_SCALE, Some(self.residual.into()));
            set(LOGIT_SCALE, Some(self.logits.into()));
        }
    }

    pub(super) fn check(self) -> Result<(), Fault> {
        Fault::positive(EMBEDDING_SCALE, self.embedding)?;
        Fault::positive(RESIDUAL_SCALE, self.residual)?;
        Fault::positive(LOGIT_SCALE, self.logits)
    }
}
