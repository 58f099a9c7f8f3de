//! A model that answers a task's requests.

use std::sync::Arc;

use serde::Serialize;
use trilobite_runtime::{ChatTemplate, Model, Request, Score, Scorer, Session};

use crate::bytes::sha256;
use crate::error::{Error, Result};

/// How a model is prompted.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Prompting {
    /// Whether prompts begin with what the tokenizer puts before a text.
    pub bos: bool,
    /// Whether prompts of generation tasks go through the chat template, where the model has one.
    pub chat: bool,
    /// Whether examples become turns of the conversation instead of parts of its only question.
    pub turns: bool,
    /// Whether all prompts go through the chat template, those of multiple choice too; the model
    /// must have one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub apply_chat_template: bool,
    /// The system message; without a chat template, the text that prompts begin with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
}

/// What results depend on besides the model and the task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// How the model is prompted.
    #[serde(flatten)]
    pub prompting: Prompting,
    /// Tokens of the context.
    pub context: usize,
    /// The type of the cache: rounded keys and values move logits.
    pub kv: &'static str,
}

/// A model, a session and the settings of a run.
pub struct Engine {
    model: Arc<Model>,
    scorer: Scorer,
    settings: Settings,
    sha256: String,
    name: String,
    whole: bool,
}

impl Engine {
    /// An engine on a session of the model that results call `name`.
    pub fn new(session: Session, name: &str, prompting: Prompting) -> Self {
        let model = Arc::clone(session.model());
        let (context, kv) = (session.context(), session.cache_type().name());
        let settings = Settings { prompting, context, kv };
        // Of a model in several files, one for each.
        let sha256 = model.files().map(sha256).collect::<Vec<_>>().join(" ");
        Self {
            model,
            scorer: Scorer::new(session),
            settings,
            sha256,
            name: name.into(),
            whole: false,
        }
    }

    /// Whether every prompt is scored by itself, which changes no result.
    pub fn score_whole(&mut self, whole: bool) {
        self.whole = whole;
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// SHA-256 of the model's file, or of its files with spaces between.
    pub fn model_sha256(&self) -> &str {
        &self.sha256
    }

    /// What results call the model.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The model.
    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// The model, to be held while the session is used.
    pub(crate) fn shared_model(&self) -> Arc<Model> {
        Arc::clone(&self.model)
    }

    /// How the model is prompted.
    pub(crate) fn prompting(&self) -> &Prompting {
        &self.settings.prompting
    }

    /// The template that prompts go through, if they go through one: those of generation tasks do
    /// where the model has one, those of multiple choice only on request.
    ///
    /// # Errors
    /// The model has none, although it was asked for.
    pub(crate) fn template(&self, generation: bool) -> Result<Option<ChatTemplate>> {
        let Prompting { chat, apply_chat_template: all, .. } = self.settings.prompting;
        if !(all || generation && chat) {
            return Ok(None);
        }
        let metadata = self.model.metadata();
        let key = metadata.str("tokenizer.chat_template");
        match key.map_err(trilobite_runtime::Error::from)? {
            None if all => Err(Error::NoChatTemplate { model: self.name.clone() }),
            None => Ok(None),
            Some(_) => Ok(ChatTemplate::from_metadata(metadata, self.model.tokenizer()?)?),
        }
    }

    /// The session.
    pub(crate) fn session(&mut self) -> &mut Session {
        self.scorer.session()
    }

    /// The score of each continuation after its context, with its number of tokens.
    pub(crate) fn score(
        &mut self,
        requests: &[(String, String)],
    ) -> trilobite_runtime::Result<Vec<(Score, usize)>> {
        let encode = |(context, continuation): &(String, String)| {
            Request::encode(&self.model, context, continuation, self.settings.prompting.bos)
        };
        let requests: Vec<Request> =
            requests.iter().map(encode).collect::<trilobite_runtime::Result<_>>()?;
        let scores = match self.whole {
            true => self.scorer.score_whole(&requests)?,
            false => self.scorer.score_all(&requests)?,
        };
        Ok(scores.into_iter().zip(&requests).map(|(s, r)| (s, r.continuation.len())).collect())
    }
}
