//! The models that a tokenizer of the `tokenizers` crate is built around here.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tokenizers::models::{ModelWrapper, TrainerWrapper};
use tokenizers::{Model as _, Token};

use super::ranked::Ranked;
use super::scored::Scored;
use super::vocabulary::Vocabulary;

/// How the pieces of a text become tokens.
pub(super) enum Model {
    /// Byte-pair encoding by a list of merges. The crate has this too, but for 128,000 tokens takes
    /// 0.2 s and 100 MB more.
    Ranked(Ranked),
    /// Byte-pair encoding by scores.
    Scored(Scored),
    /// What the crate has and files seldom need.
    Other(Box<ModelWrapper>),
}

impl Model {
    fn vocabulary(&self) -> Result<&Vocabulary, &ModelWrapper> {
        match self {
            Model::Ranked(model) => Ok(&model.vocabulary),
            Model::Scored(model) => Ok(&model.vocabulary),
            Model::Other(model) => Err(model),
        }
    }

    /// The highest id.
    pub(super) fn max_id(&self) -> Option<u32> {
        match self.vocabulary() {
            Ok(vocabulary) => vocabulary.len().checked_sub(1).map(|id| id as u32),
            Err(other) => other.get_vocab().into_values().max(),
        }
    }
}

impl tokenizers::Model for Model {
    type Trainer = TrainerWrapper;

    fn tokenize(&self, sequence: &str) -> tokenizers::Result<Vec<Token>> {
        match self {
            Model::Ranked(model) => Ok(model.tokenize(sequence)),
            Model::Scored(model) => Ok(model.tokenize(sequence)),
            Model::Other(model) => model.tokenize(sequence),
        }
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        match self.vocabulary() {
            Ok(vocabulary) => vocabulary.id(token),
            Err(other) => other.token_to_id(token),
        }
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        match self.vocabulary() {
            Ok(vocabulary) => {
                vocabulary.text(id).filter(|text| !text.is_empty()).map(str::to_owned)
            }
            Err(other) => other.id_to_token(id),
        }
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        match self.vocabulary() {
            Ok(vocabulary) => vocabulary.iter().map(|(text, id)| (text.to_owned(), id)).collect(),
            Err(other) => other.get_vocab(),
        }
    }

    fn get_vocab_size(&self) -> usize {
        match self.vocabulary() {
            Ok(vocabulary) => vocabulary.texts(),
            Err(other) => other.get_vocab_size(),
        }
    }

    fn save(&self, folder: &Path, prefix: Option<&str>) -> tokenizers::Result<Vec<PathBuf>> {
        match self {
            Model::Other(model) => model.save(folder, prefix),
            Model::Ranked(_) | Model::Scored(_) => Err("only reading is supported".into()),
        }
    }

    fn get_trainer(&self) -> TrainerWrapper {
        match self {
            Model::Other(model) => model.get_trainer(),
            Model::Ranked(_) | Model::Scored(_) => {
                TrainerWrapper::BpeTrainer(tokenizers::models::bpe::BpeTrainer::default())
            }
        }
    }
}
