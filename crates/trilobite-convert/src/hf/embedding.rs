//! Embedding models: the files of sentence-transformers beside a checkpoint, and the norms of
//! Microsoft's BitNet embedding models.

use serde_json::Value;
use trilobite_format::model::{Architecture, Pooling, Role};
use trilobite_format::{Metadata, keys};

use super::config::{HfConfig, Quantization};
use super::json::Object;
use crate::Error;
use crate::source::{Checkpoint, MODULES, Shards};

const PROMPTS: &str = "config_sentence_transformers.json";
/// Qwen's token that ends a text. Its tokenizers name the one that ends a turn instead.
const QWEN_END: &str = "<|endoftext|>";

/// An embedding model.
pub(super) struct Embedding {
    /// Whether every text ends in the token that ends a text.
    ends: bool,
}

/// Completes the configuration of an embedding model. `None` for any other model.
///
/// A model whose projections have norms of their own, which config.json does not mention, is one of
/// BitNet's: its weights are master weights.
pub(super) fn complete(
    checkpoint: &Checkpoint,
    config: Object<'_>,
    source: &mut HfConfig,
    shards: &Shards<'_>,
) -> Result<Option<Embedding>, Error> {
    let normed = source.has_input_norms(shards);
    if normed && matches!(source.quantization, Quantization::Unstated | Quantization::Stated) {
        source.quantization = Quantization::Online;
    }
    let stated = pooling(checkpoint)?;
    let names = config.get("architectures").and_then(Value::as_array);
    let name = names.and_then(|names| names.first()).and_then(Value::as_str);
    let is_base = name.is_none_or(|name| name.ends_with("Model"));
    source.model.pooling = match stated {
        None if normed && is_base => {
            source.notes.push(format!("there is no {MODULES}: the last token is the embedding"));
            Some(Pooling::Last)
        }
        stated => stated,
    };
    if source.model.pooling.is_none() {
        return Ok(None);
    }
    if shards.get(&format!("{}.weight", super::names::HEAD)).is_none() {
        source.tied = Some(true);
    }
    Ok(Some(Embedding { ends: normed || source.input_norms }))
}

impl HfConfig {
    /// Whether the first layer has the norm of a projection's input that config.json does not mention.
    pub(super) fn has_input_norm(&self, role: Role, shards: &Shards<'_>) -> bool {
        let there = |module: String| shards.get(&format!("{module}.weight")).is_some();
        !self.input_norms && role.is_input_norm() && self.module(role, 0).is_some_and(there)
    }

    fn has_input_norms(&self, shards: &Shards<'_>) -> bool {
        let projections =
            [Role::Q, Role::K, Role::V, Role::AttnOutput, Role::Gate, Role::Up, Role::Down];
        let mut norms = projections.into_iter().filter_map(Role::input_norm);
        norms.any(|norm| self.has_input_norm(norm, shards))
    }
}

impl Embedding {
    /// Adds the prompts, and the token that ends every text.
    pub(super) fn describe(
        &self,
        checkpoint: &Checkpoint,
        arch: Architecture,
        metadata: &mut Metadata,
    ) -> Result<(), Error> {
        if let Some(json) = checkpoint.object(PROMPTS)? {
            let file = Object::new(PROMPTS, &json);
            let prompts = file.object("prompts.")?;
            for (object, name) in
                prompts.iter().flat_map(|all| all.keys().map(move |key| (all, key)))
            {
                if let Some(prompt) = object.str(name)? {
                    metadata.insert(format!("{}{name}", keys::PROMPTS), prompt);
                }
            }
            if let Some(name) = file.str("default_prompt_name")? {
                if prompts.is_none_or(|prompts| prompts.get(name).is_none()) {
                    return Err(file.bad("default_prompt_name", "the name of a prompt"));
                }
                metadata.insert(keys::DEFAULT_PROMPT, name);
            }
        }
        if self.ends {
            let tokens = metadata.strings(keys::TOKENS).ok().flatten().unwrap_or_default();
            let end = tokens.iter().position(|token| token == QWEN_END);
            if let (Architecture::Qwen2 | Architecture::Qwen3, Some(end)) = (arch, end) {
                metadata.insert(keys::token_id("eos"), end as u32);
            }
            metadata.insert(keys::add_token("eos"), true);
        }
        Ok(())
    }
}

/// The pooling that a checkpoint of sentence-transformers states.
fn pooling(checkpoint: &Checkpoint) -> Result<Option<Pooling>, Error> {
    let Some(file) = checkpoint.pooling_file()? else { return Ok(None) };
    let absent = || Error::NoFile { file: file.clone(), by: MODULES.to_owned() };
    let json = checkpoint.object(&file)?.ok_or_else(absent)?;
    let object = Object::new(&file, &json);
    let pooling = match object.str("pooling_mode")? {
        Some(name) => named(name).ok_or_else(|| object.unsupported("pooling_mode"))?,
        None => {
            let mut chosen = Vec::new();
            for (key, value) in object.iter() {
                if let Some(name) = key.strip_prefix("pooling_mode_")
                    && value.as_bool() == Some(true)
                {
                    chosen.push(named(name).ok_or_else(|| object.unsupported(key))?);
                }
            }
            match chosen[..] {
                [one] => one,
                [] => return Err(object.bad("pooling_mode", "a kind of pooling")),
                _ => {
                    let what = "more than one kind of pooling".to_owned();
                    return Err(Error::Unsupported { file: file.clone(), what });
                }
            }
        }
    };
    // A mean without the tokens of the prompt.
    if pooling == Pooling::Mean && object.bool("include_prompt")? == Some(false) {
        return Err(object.unsupported("include_prompt"));
    }
    Ok(Some(pooling))
}

/// The pooling of this name in sentence-transformers.
fn named(name: &str) -> Option<Pooling> {
    match name {
        "cls" | "cls_token" => Some(Pooling::Cls),
        "mean" | "mean_tokens" => Some(Pooling::Mean),
        "lasttoken" => Some(Pooling::Last),
        _ => None,
    }
}
