//! How embedding models make one vector of the hidden states of a text.

use std::fmt;
use std::str::FromStr;

use super::prefixed::Keys;
use crate::Error;
use crate::keys::model::POOLING;

/// How the hidden states of a text become its embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Every token keeps a vector of its own.
    None,
    /// The mean over all tokens.
    Mean,
    /// The hidden state of the first token.
    Cls,
    /// The hidden state of the last token.
    Last,
}

impl Pooling {
    /// All kinds, in the order of their numbers in files.
    pub const ALL: &'static [Self] = &[Self::None, Self::Mean, Self::Cls, Self::Last];

    /// The name, as llama.cpp spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Mean => "mean",
            Self::Cls => "cls",
            Self::Last => "last",
        }
    }

    /// A description in a few words.
    pub fn summary(self) -> &'static str {
        match self {
            Self::None => "a vector for every token",
            Self::Mean => "the mean over all tokens",
            Self::Cls => "the first token",
            Self::Last => "the last token",
        }
    }

    /// Reads the key. Its value -1 means that nothing is stated, as does its absence.
    pub(super) fn read(keys: &Keys<'_>) -> Result<Option<Self>, Error> {
        let unstated = |found: i128| found == -1;
        if keys.get(POOLING).and_then(|value| value.as_integer()).is_some_and(unstated) {
            return Ok(None);
        }
        let Some(number) = keys.size(POOLING)? else { return Ok(None) };
        match Self::ALL.iter().find(|pooling| pooling.number() == number) {
            Some(pooling) => Ok(Some(*pooling)),
            None => Err(keys.bad(POOLING, "0 (none), 1 (mean), 2 (cls) or 3 (last)", number)),
        }
    }

    /// The number in files.
    pub(super) fn number(self) -> u64 {
        self as u64
    }
}

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The error for an unknown name.
#[derive(Debug, thiserror::Error)]
#[error("there is no pooling {found:?}; there are none, mean, cls and last")]
pub struct UnknownPooling {
    found: String,
}

impl FromStr for Pooling {
    type Err = UnknownPooling;

    fn from_str(name: &str) -> Result<Self, UnknownPooling> {
        let known = Self::ALL.iter().find(|pooling| pooling.name() == name);
        known.copied().ok_or_else(|| UnknownPooling { found: name.to_owned() })
    }
}
