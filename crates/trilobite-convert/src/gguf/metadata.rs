//! The metadata of an output that is converted from a GGUF file.

use trilobite_format::model::{
    Architecture, END_OF_TURN, Hyperparameters, Words, special_id, stray_ids, template_instead,
};
use trilobite_format::{Metadata, Value, keys};

use crate::{Error, plan};

/// The metadata of the source, completed with the keys that Trilobite needs.
pub(crate) fn translate(
    file: &str,
    source: &Metadata,
    model: &Hyperparameters,
    name: &str,
    notes: &mut Vec<String>,
) -> Result<Metadata, Error> {
    let error = |source| Error::Gguf { file: file.to_owned(), source };
    let (_, old) = Architecture::of(source).map_err(error)?;
    let (old, new) = (format!("{old}."), format!("{}.", model.arch.name()));
    let mut metadata = Metadata::new();
    for (key, value) in source.iter() {
        let key = match key.strip_prefix(&old) {
            Some(rest) => format!("{new}{rest}"),
            None => key.to_owned(),
        };
        metadata.insert(key, value.clone());
    }
    let name = source.str(keys::NAME).map_err(error)?.unwrap_or(name);
    plan::general(&mut metadata, model.arch, name, None);
    model.describe(&mut metadata);
    let own = source.get(keys::VERSION).is_some();
    tokenizer(file, model.vocab, own, &mut metadata, notes)?;
    Ok(metadata)
}

/// Fills in missing tokenizer keys and corrects known wrong ones. A key that a file of our `own`
/// lacks has no value in its checkpoint.
fn tokenizer(
    file: &str,
    vocab: u64,
    own: bool,
    metadata: &mut Metadata,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    let error = |source| Error::Gguf { file: file.to_owned(), source };
    // Some files have no tokenizer.
    let tokens = metadata.strings(keys::TOKENS).map_err(error)?.unwrap_or_default();
    if tokens.len() as u64 > vocab {
        let expected = format!("at most {vocab} tokens, the rows of the embedding");
        return Err(bad(file, metadata, keys::TOKENS, &expected));
    }
    let id_of = |text: &str| tokens.iter().position(|token| token == text).map(|id| id as u32);
    let text_of = |id: u32| tokens.get(id as usize).cloned();
    let end_of_turn = id_of(END_OF_TURN);
    let id = |name: &str| special_id(metadata, name).map_err(error);
    let (bos, eos, eot) = (id("bos")?, id("eos")?, id("eot")?);
    notes.extend(stray_ids(metadata).map(|(key, id)| format!("{key} is {id}, which is no token")));
    let (bos_text, eos_text) = (bos.and_then(text_of), eos.and_then(text_of));

    let mut ends: Vec<u32> = Vec::new();
    for id in [eos, eot, end_of_turn].into_iter().flatten() {
        if !ends.contains(&id) {
            ends.push(id);
        }
    }
    let model = metadata.str(keys::TOKENIZER).map_err(error)?;
    let unsaid = model == Some("gpt2") && metadata.get(keys::WORDS).is_none();
    if let Some(words) = Words::marked(|text| id_of(text).is_some()).filter(|_| unsaid) {
        metadata.insert(keys::WORDS, words.name());
        notes.push(format!("{} was missing and is taken to be {}", keys::WORDS, words.name()));
    }
    let template = metadata.str(keys::CHAT_TEMPLATE).map_err(error)?;
    if let Some(right) = template.and_then(template_instead) {
        metadata.insert(keys::CHAT_TEMPLATE, right);
        notes.push("the chat template was an outdated one and was replaced".to_owned());
    }
    let mut fill = |key: &str, value: Option<Value>| {
        if let Some(value) = value.filter(|_| !own && metadata.get(key).is_none()) {
            metadata.insert(key, value);
        }
    };
    fill(keys::END_IDS, (!ends.is_empty()).then(|| ends.into()));
    fill(&keys::token_text("bos_token"), bos_text.map(Value::from));
    fill(&keys::token_text("eos_token"), eos_text.map(Value::from));
    Ok(())
}

fn bad(file: &str, metadata: &Metadata, key: &str, expected: &str) -> Error {
    let found = match metadata.get(key) {
        None => "missing".to_owned(),
        Some(Value::String(text)) => format!("{text:?}"),
        Some(value) => value.as_integer().map_or_else(|| value.describe(), |n| n.to_string()),
    };
    let (file, key, expected) = (file.to_owned(), key.to_owned(), expected.to_owned());
    Error::Value { file, key, expected, found }
}
