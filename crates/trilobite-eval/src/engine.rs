//! A model that answers a task's requests.

use std::sync::Arc;

use serde::Serialize;
use trilobite_format::keys::CHAT_TEMPLATE;
use trilobite_runtime::{Model, Request, Score, Scorer, Session};

use crate::data::sha256;

/// What results depend on besides the model and the task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// Whether prompts begin with what the tokenizer puts before a text.
    pub bos: bool,
    /// Whether prompts of generation tasks go through the chat template.
    pub chat: bool,
    /// Whether examples become turns of the conversation instead of parts of its only question.
    pub turns: bool,
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
    pub fn new(session: Session, name: &str, bos: bool, chat: bool, turns: bool) -> Self {
        let model = Arc::clone(session.model());
        let (context, kv) = (session.context(), session.cache_type().name());
        let settings = Settings { bos, chat, turns, context, kv };
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

    /// Whether prompts become conversations: that is wished, and the model has a chat template.
    pub(crate) fn chats(&self) -> trilobite_runtime::Result<bool> {
        Ok(self.settings.chat && self.model.metadata().str(CHAT_TEMPLATE)?.is_some())
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
            Request::encode(&self.model, context, continuation, self.settings.bos)
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
