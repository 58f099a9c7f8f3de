//! The models of `models/models.toml`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::names::hint;
use crate::reference::{Spelling, is_same};
use crate::{Error, Result};

#[derive(Deserialize)]
struct Models {
    model: Vec<Listed>,
}

/// A published model and its files.
#[derive(Clone, Debug, Deserialize)]
pub struct Listed {
    /// Its name on the command line.
    pub name: String,
    /// Repository on the hub.
    pub repository: String,
    /// Licence of the weights.
    pub license: String,
    /// The files to fetch; empty if they are unknown.
    #[serde(default)]
    pub files: Vec<String>,
    /// The commit, if it is known.
    pub revision: Option<String>,
    /// The SHA-256 of each file, if known.
    #[serde(default)]
    pub sha256: BTreeMap<String, String>,
}

impl Listed {
    /// All models of the list.
    ///
    /// # Errors
    /// [`Error::Models`] if the built-in list is damaged.
    pub fn all() -> Result<Vec<Listed>> {
        let models: Models =
            toml::from_str(include_str!("../../../models/models.toml")).map_err(Error::Models)?;
        Ok(models.model)
    }

    /// The model with a name: its own or its repository's, ignoring case and punctuation.
    ///
    /// # Errors
    /// [`Error::UnknownModel`] with the most similar name.
    pub fn find(name: &str) -> Result<Listed> {
        let all = Listed::all()?;
        let names = all.iter().map(|model| model.name.as_str());
        let unknown = Error::UnknownModel { name: name.to_owned(), hint: hint(name, names) };
        let called = |name: &str| all.iter().find(|model| model.is_called(name)).cloned();
        Spelling::of(name).and_then(|spelling| called(spelling.name)).ok_or(unknown)
    }

    /// The repository without its owner.
    pub(crate) fn short(&self) -> &str {
        self.repository.rsplit('/').next().unwrap_or_default()
    }

    /// Whether a name refers to this model: its own name or its repository's, with or without the
    /// owner, ignoring case and punctuation.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        [&self.name, &self.repository, self.short()].iter().any(|own| is_same(own, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_found_under_every_spelling_of_their_names() {
        let named = |text: &str| Listed::find(text).ok().map(|model| model.name);
        for spelling in [
            "bitnet-b1.58-2b-4t",
            "bitnet-b1.58-2B-4T",
            "BitNet_b158_2B4T",
            "BitNet_b1_58_2B_4T/",
            "microsoft/bitnet-b1.58-2B-4T",
            "Microsoft/BitNet-b1.58-2B-4T",
            "https://huggingface.co/microsoft/bitnet-b1.58-2B-4T",
        ] {
            assert_eq!(named(spelling).as_deref(), Some("bitnet-b1.58-2b-4t"), "{spelling}");
        }
        assert_eq!(named("1bitLLM/bitnet_b1_58-large").as_deref(), Some("1bitllm-large"));
        for other in ["someone/bitnet-b1.58-2B-4T", "bitnet-b1.58-2b", "", "/"] {
            assert_eq!(named(other), None, "{other}");
        }
        // No two models share a spelling.
        for model in Listed::all().unwrap() {
            assert_eq!(named(&model.name).as_deref(), Some(&*model.name));
            assert_eq!(named(&model.repository).as_deref(), Some(&*model.name));
        }
    }
}
