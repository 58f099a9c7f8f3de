//! A model that is served.

use std::sync::{Arc, OnceLock};

use axum::http::StatusCode;
use trilobite_runtime::{
    ChatTemplate, Conversation, Embedder, Limits, Message, Model, Pooling, Sampler, SessionOptions,
    Tokenizer, encode, end_ids, prefix_token,
};
use trilobite_structured::{Compiler, Tools, calls_as_text};

use crate::api::chat::ChatRequest;
use crate::api::completions::Prompt;
use crate::api::embeddings::EmbeddingRequest;
use crate::api::error::{ApiError, ApiResult};
use crate::api::models::ModelObject;
use crate::api::tokens::TokenizerInfo;
use crate::embeddings::Embeds;
use crate::engine::{Answer, Engine, Job};
use crate::error::Result;
use crate::metrics::Metrics;
use crate::options::Options;

/// A model to serve.
pub struct ServedModel {
    /// The name by which requests choose it.
    pub name: String,
    /// The model.
    pub model: Arc<Model>,
    /// The chat template; `None` refuses chats.
    pub template: Option<ChatTemplate>,
    /// Stop strings of chats, besides the model's end tokens.
    pub stop: Vec<String>,
    /// Settings of the forward pass. The context is at most the model's.
    pub session: SessionOptions,
}

impl ServedModel {
    /// A model with the chat template of its file and default settings.
    ///
    /// # Errors
    /// The model has no tokenizer, or its chat template is invalid.
    pub fn new(name: impl Into<String>, model: Arc<Model>) -> Result<Self> {
        let template = ChatTemplate::from_metadata(model.metadata(), model.tokenizer()?)?;
        let (stop, session) = (Vec::new(), SessionOptions::default());
        Ok(Self { name: name.into(), model, template, stop, session })
    }
}

/// A model in service.
pub(crate) struct Served {
    name: String,
    model: Arc<Model>,
    template: Option<ChatTemplate>,
    stop: Vec<String>,
    end_ids: Vec<u32>,
    context: usize,
    max_tokens: Option<usize>,
    created: u64,
    /// `None` for a model that gives embeddings only.
    engine: Option<Engine>,
    /// `None` for a model that gives text only.
    embeds: Option<Embeds>,
    /// Created for the first constrained request.
    compiler: OnceLock<Compiler>,
}

/// A prompt, and the settings of its answers.
pub(crate) struct Wanted {
    /// The prompt.
    pub(crate) prompt: Vec<u32>,
    /// A sampler for each choice.
    pub(crate) samplers: Vec<Sampler>,
    /// Maximum tokens of an answer.
    pub(crate) max_tokens: Option<usize>,
    /// Stop strings.
    pub(crate) stop: Vec<String>,
    /// Number of likeliest tokens to report with each prompt token; `None` reports no log-probabilities.
    pub(crate) prompt_logprobs: Option<usize>,
    /// The same number for the answer's tokens.
    pub(crate) logprobs: Option<usize>,
}

impl Served {
    /// Starts the engine of a model, one of `models` that share the machine.
    pub(crate) fn start(
        served: ServedModel,
        options: &Options,
        models: usize,
        metrics: &Metrics,
    ) -> Result<Self> {
        let engine = options.engine(&served, models);
        let ServedModel { name, model, template, stop, .. } = served;
        let end_ids = end_ids(model.metadata(), Some(model.tokenizer()?))?;
        let metrics = metrics.of_model(&name);
        metrics.page_limit.set(engine.pages as i64);
        let embeds = match model.config().pooling {
            Some(Pooling::Mean | Pooling::Cls | Pooling::Last) => {
                let embedder = Embedder::new(Arc::clone(&model), engine.session, None)?;
                Some(Embeds::new(embedder, engine.queue, metrics.clone()))
            }
            // The protocol has one vector for a text.
            Some(Pooling::None) | None => None,
        };
        let (context, created) = (engine.session.context, crate::api::now());
        let engine = match model.only_embeds() {
            true => None,
            false => Some(Engine::start(&model, engine, metrics, options.prompt_folder.as_ref())?),
        };
        let compiler = OnceLock::new();
        Ok(Self {
            name,
            model,
            template,
            stop,
            end_ids,
            context,
            max_tokens: options.max_tokens,
            created,
            engine,
            embeds,
            compiler,
        })
    }

    /// The name by which requests choose it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The model.
    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// Refuses new requests.
    pub(crate) fn close(&self) {
        self.engine.iter().for_each(Engine::close);
        self.embeds.iter().for_each(Embeds::close);
    }

    /// Refuses new requests and aborts the others.
    pub(crate) fn abort(&self) {
        self.engine.iter().for_each(Engine::abort);
        self.embeds.iter().for_each(Embeds::abort);
    }

    /// Whether it can answer no more.
    pub(crate) fn has_ended(&self) -> bool {
        self.engine.as_ref().is_some_and(Engine::has_ended)
    }

    /// The engine of a model that generates text.
    pub(crate) fn engine(&self) -> ApiResult<&Engine> {
        self.engine.as_ref().ok_or_else(|| {
            let name = &self.name;
            let message = format!(
                "the model {name:?} generates no text: /v1/embeddings gives its embeddings"
            );
            let error = ApiError::status(StatusCode::NOT_FOUND, message);
            error.with_param("model").with_code("no_text")
        })
    }

    /// The embedder of a model that gives embeddings.
    pub(crate) fn embeds(&self) -> ApiResult<&Embeds> {
        self.embeds.as_ref().ok_or_else(|| {
            let message = format!("the model {:?} gives no embeddings of texts", self.name);
            let error = ApiError::status(StatusCode::NOT_FOUND, message);
            error.with_param("model").with_code("no_embeddings")
        })
    }

    /// The tokens of the texts to embed. Slow for long texts.
    pub(crate) fn to_embed(&self, request: &EmbeddingRequest) -> ApiResult<Vec<Vec<u32>>> {
        let prompt = self.model.prompt(request.prompt_name.as_deref());
        let prompt = prompt.map_err(|error| ApiError::field("prompt_name", error.to_string()))?;
        let text = |input| match input {
            Prompt::Text(text) => Ok(self.model.encode_to_embed(prompt, &text)?),
            Prompt::Tokens(ids) => self.checked(ids, "input"),
        };
        let fits = |ids: Vec<u32>| match ids.len() {
            0 => Err(ApiError::field("input", "a text of the input has no tokens")),
            tokens if tokens > self.context => {
                Err(ApiError::context(tokens, self.context, "input"))
            }
            _ => Ok(ids),
        };
        request.input.each().into_iter().map(|input| text(input).and_then(fits)).collect()
    }

    /// Tokens that its context holds.
    pub(crate) fn context(&self) -> usize {
        self.context
    }

    /// The server's limit of tokens in an answer.
    pub(crate) fn max_tokens(&self) -> Option<usize> {
        self.max_tokens
    }

    /// Its tokenizer.
    pub(crate) fn tokenizer(&self) -> ApiResult<&Tokenizer> {
        Ok(self.model.tokenizer()?)
    }

    /// The object of `/v1/models`.
    pub(crate) fn object(&self) -> ModelObject {
        ModelObject {
            id: self.name.clone(),
            object: "model",
            created: self.created,
            owned_by: "trilobite",
            max_model_len: self.context,
            chat: self.template.is_some() && self.engine.is_some(),
        }
    }

    /// The prompt of a conversation. Slow for long ones.
    pub(crate) fn chat_prompt(&self, request: &ChatRequest) -> ApiResult<Vec<u32>> {
        self.engine()?;
        let Some(template) = &self.template else {
            let message = format!(
                "the model {:?} has no chat template; /v1/completions continues a text",
                self.name
            );
            return Err(ApiError::field("model", message).with_code("no_chat_template"));
        };
        let tools = request.callable.as_ref().map(|callable| &callable.tools);
        let messages = &request.messages;
        let (tools, rewritten) = match (tools, template.with_tools()) {
            (Some(tools), None) => (None, Some(tools.described(messages))),
            // The template would drop earlier calls.
            (None, None) if messages.iter().any(has_calls) => (None, Some(calls_as_text(messages))),
            (tools, _) => (tools, None),
        };
        let conversation = Conversation {
            messages: rewritten.as_deref().unwrap_or(messages),
            tools: tools.map(Tools::list),
            variables: request.chat_template_kwargs.clone().unwrap_or_default(),
            ..Conversation::default()
        };
        let prompt = template.encode_conversation(&conversation, self.tokenizer()?);
        prompt.map_err(|error| ApiError::from(error).with_param("messages"))
    }

    /// The tokens of a text, in which names of special tokens stand for the tokens. `special` adds the
    /// tokenizer's own tokens, such as a beginning-of-text token. Slow for long texts.
    pub(crate) fn encode(&self, text: &str, special: bool) -> ApiResult<Vec<u32>> {
        Ok(encode(&self.model, text, special)?)
    }

    /// The tokens of a prompt of `/v1/completions`.
    pub(crate) fn prompt(&self, prompt: Prompt, special: bool) -> ApiResult<Vec<u32>> {
        self.engine()?;
        match prompt {
            Prompt::Text(text) => {
                let ids = self.encode(&text, special)?;
                // As in scoring, an empty text becomes the prefix token.
                let prefix = if ids.is_empty() { prefix_token(&self.model)? } else { None };
                Ok(if ids.is_empty() { prefix.into_iter().collect() } else { ids })
            }
            Prompt::Tokens(ids) => self.checked(ids, "prompt"),
        }
    }

    /// Checks that token ids are in the vocabulary.
    pub(crate) fn checked(&self, ids: Vec<u32>, param: &str) -> ApiResult<Vec<u32>> {
        let vocab = self.model.config().vocab;
        match ids.iter().find(|&&id| id as usize >= vocab) {
            Some(id) => {
                let message = format!("token id {id} is outside the vocabulary of {vocab}");
                Err(ApiError::field(param, message))
            }
            None => Ok(ids),
        }
    }

    /// The chat template, if it supports tools.
    pub(crate) fn template_with_tools(&self) -> Option<&str> {
        self.template.as_ref().and_then(ChatTemplate::with_tools)
    }

    /// The compiler of constraints. The first call creates it, which is slow.
    pub(crate) fn compiler(&self) -> ApiResult<&Compiler> {
        if let Some(compiler) = self.compiler.get() {
            return Ok(compiler);
        }
        let vocab = self.model.config().vocab;
        let compiler = Compiler::new(self.tokenizer()?, vocab, &self.end_ids)
            .map_err(|error| ApiError::internal(error.to_string()))?;
        Ok(self.compiler.get_or_init(|| compiler))
    }

    /// Stop strings of chats.
    pub(crate) fn chat_stop(&self) -> &[String] {
        &self.stop
    }

    /// Submits prompts to the engine.
    pub(crate) fn submit(&self, wanted: Vec<Wanted>, param: &str) -> ApiResult<Vec<Answer>> {
        let jobs: ApiResult<Vec<Job>> =
            wanted.into_iter().map(|wanted| self.job(wanted, param)).collect();
        Ok(self.engine()?.submit(jobs?)?)
    }

    fn job(&self, wanted: Wanted, param: &str) -> ApiResult<Job> {
        let Wanted { prompt, samplers, max_tokens, stop, prompt_logprobs, logprobs } = wanted;
        if prompt.is_empty() {
            return Err(ApiError::field(
                param,
                "the prompt is empty: at least one token is needed",
            ));
        }
        if prompt.len() > self.context {
            return Err(ApiError::context(prompt.len(), self.context, param));
        }
        if let (Some(limit), Some(asked)) = (self.max_tokens, max_tokens)
            && asked > limit
        {
            let message = format!("max_tokens is {asked}, but this server gives at most {limit}");
            return Err(ApiError::field("max_tokens", message));
        }
        let max_tokens = max_tokens.or(self.max_tokens);
        let limits = Limits { max_tokens, end_ids: self.end_ids.clone(), stop };
        Ok(Job { prompt, samplers, limits, prompt_logprobs, logprobs })
    }

    /// The special tokens and the chat template.
    pub(crate) fn tokenizer_info(&self) -> ApiResult<TokenizerInfo> {
        let metadata = self.model.metadata();
        let token = |name: &str| -> ApiResult<Option<String>> {
            let text = metadata.str(&format!("trilobite.{name}_token"));
            Ok(text.map_err(trilobite_runtime::Error::from)?.map(str::to_owned))
        };
        let chat_template = metadata.str("tokenizer.chat_template");
        let chat_template = chat_template.map_err(trilobite_runtime::Error::from)?;
        Ok(TokenizerInfo {
            bos_token: token("bos")?,
            eos_token: token("eos")?,
            chat_template: chat_template.map(str::to_owned),
        })
    }

    /// The bytes of a token in the text of an answer, which leaves special tokens out.
    pub(crate) fn text_bytes(&self, id: u32) -> Vec<u8> {
        // A single space at the beginning of a text may be dropped.
        let text = self.model.tokenizer().and_then(|tokenizer| tokenizer.decode(&[id, id], false));
        match text {
            Ok(text) if text.is_empty() => Vec::new(),
            _ => self.token_bytes(id),
        }
    }

    /// The bytes of a token.
    pub(crate) fn token_bytes(&self, id: u32) -> Vec<u8> {
        // `start` has checked the tokenizer. An id without a token has no bytes.
        self.model.tokenizer().and_then(|tokenizer| tokenizer.bytes(id)).unwrap_or_default()
    }
}

/// Whether a message calls functions or is the result of a call.
fn has_calls(message: &Message) -> bool {
    let calls = message.get("tool_calls").and_then(|calls| calls.as_array());
    message.role() == "tool" || calls.is_some_and(|calls| !calls.is_empty())
}
