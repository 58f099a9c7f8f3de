//! A model that answers the requests of a task.

use std::ops::ControlFlow;
use std::sync::Arc;

use serde::Serialize;
use trilobite_format::keys::CHAT_TEMPLATE;
use trilobite_runtime::{
    Activations, ChatTemplate, Limits, Model, Request, Sampling, Score, Scorer, Session,
    generate_many,
};

use crate::bytes::sha256;
use crate::error::{Error, Result};

/// Default number of answers that are generated at once.
pub const BATCH_SIZE: usize = 8;

/// Settings of the prompts.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Prompting {
    /// Whether prompts begin with the tokens that the tokenizer adds before a text.
    pub bos: bool,
    /// Whether generation tasks use the chat template, if the model has one.
    pub chat: bool,
    /// Whether each example is a turn of the conversation. Otherwise all are part of one question.
    pub turns: bool,
    /// Whether all tasks use the chat template, multiple choice included. The model must have one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub apply_chat_template: bool,
    /// The system message. Without a chat template, prompts begin with this text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
}

/// The settings that results depend on, besides the model and the task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// Settings of the prompts.
    #[serde(flatten)]
    pub prompting: Prompting,
    /// Length of the context in tokens.
    pub context: usize,
    /// Element type of the KV cache. Rounded keys and values change logits.
    pub kv: &'static str,
    /// How activations are rounded, unless as by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activations: Option<&'static str>,
}

/// A model and a session, with the settings of a run.
pub struct Engine {
    model: Arc<Model>,
    scorer: Scorer,
    settings: Settings,
    sha256: String,
    name: String,
    whole: bool,
    batch: usize,
}

impl Engine {
    /// Creates an engine on a session. `name` is the name of the model in results.
    pub fn new(session: Session, name: &str, prompting: Prompting) -> Self {
        let model = Arc::clone(session.model());
        let (context, kv) = (session.context(), session.cache_type().name());
        let activations = session.activations();
        let activations = (activations != Activations::default()).then(|| activations.name());
        let settings = Settings { prompting, context, kv, activations };
        // A model in several files has one hash for each.
        let sha256 = model.files().map(sha256).collect::<Vec<_>>().join(" ");
        Self {
            model,
            scorer: Scorer::new(session),
            settings,
            sha256,
            name: name.into(),
            whole: false,
            batch: BATCH_SIZE,
        }
    }

    /// Sets whether every continuation is scored by itself, which changes no result.
    pub fn score_whole(&mut self, whole: bool) {
        self.whole = whole;
    }

    /// Sets how many answers are generated at once, which changes no result.
    pub fn generate_at_once(&mut self, batch: usize) {
        self.batch = batch;
    }

    /// Generates the continuations of prompts greedily, several at once. `listen` is called with the
    /// number of a prompt and its continuation, in the order in which they end.
    ///
    /// # Errors
    /// The model fails on the prompt with the returned number.
    pub(crate) fn generate(
        &mut self,
        prompts: &[(Vec<u32>, Limits)],
        listen: impl FnMut(usize, String) -> ControlFlow<()>,
    ) -> std::result::Result<(), (usize, trilobite_runtime::Error)> {
        if prompts.is_empty() {
            return Ok(());
        }
        let model = Arc::clone(&self.model);
        let tokenizer = Some(model.tokenizer().map_err(|error| (0, error))?);
        let (sampling, batch) = (Sampling::default(), self.batch);
        generate_many(self.session(), tokenizer, sampling, prompts, batch, listen)
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The SHA-256 of the model's file. If there are several files, their hashes separated by
    /// spaces.
    pub fn model_sha256(&self) -> &str {
        &self.sha256
    }

    /// The name of the model in results.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The model.
    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// A shared reference to the model, to hold while the session is in use.
    pub(crate) fn shared_model(&self) -> Arc<Model> {
        Arc::clone(&self.model)
    }

    /// How the model is prompted.
    pub(crate) fn prompting(&self) -> &Prompting {
        &self.settings.prompting
    }

    /// The chat template for prompts, or `None` if they are plain text. Generation tasks use the
    /// template if the model has one, multiple choice only on request.
    ///
    /// # Errors
    /// The template was requested and the model has none.
    pub(crate) fn template(&self, generation: bool) -> Result<Option<ChatTemplate>> {
        let Prompting { chat, apply_chat_template: all, .. } = self.settings.prompting;
        if !(all || generation && chat) {
            return Ok(None);
        }
        let metadata = self.model.metadata();
        let key = metadata.str(CHAT_TEMPLATE);
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

    /// The score and the number of tokens of each continuation after its context, and the most tokens
    /// that a context loses because there is no room for them.
    pub(crate) fn score(
        &mut self,
        requests: &[(String, String)],
    ) -> trilobite_runtime::Result<(Vec<(Score, usize)>, usize)> {
        let encode = |(context, continuation): &(String, String)| {
            Request::encode(&self.model, context, continuation, self.settings.prompting.bos)
        };
        let requests: Vec<Request> =
            requests.iter().map(encode).collect::<trilobite_runtime::Result<_>>()?;
        // The last token is only predicted.
        let needed = requests.iter().map(|r| r.context.len() + r.continuation.len() - 1).max();
        let cut = needed.unwrap_or(0).saturating_sub(self.settings.context);
        let scores = match self.whole {
            true => self.scorer.score_whole(&requests)?,
            false => self.scorer.score_all(&requests)?,
        };
        let scores = scores.into_iter().zip(&requests).map(|(s, r)| (s, r.continuation.len()));
        Ok((scores.collect(), cut))
    }
}
