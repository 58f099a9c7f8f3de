//! The chat template of a run.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use trilobite_hub::hint;
use trilobite_runtime::{ChatTemplate, Error, Message, Model, Tokenizer};

use crate::args::Run;
use crate::usage::WrongUsage;
use crate::{input, model};

/// A chat template with additional stop strings.
pub(crate) struct Template {
    pub(crate) template: ChatTemplate,
    /// A description for people.
    pub(crate) name: String,
    /// The file that it is from, or the flag that chose it.
    place: String,
    pub(crate) stop: &'static [&'static str],
}

impl Template {
    /// The template given by the flags or the model; `None` without a chat.
    pub(crate) fn choose(opened: &Model, args: &Run) -> Result<Option<Self>> {
        if args.no_chat {
            return Ok(None);
        }
        let (metadata, tokenizer) = (opened.metadata(), opened.tokenizer()?);
        if let Some(name) = &args.chat_template {
            return Ok(Some(Self::named(opened, name)?));
        }
        let template = ChatTemplate::from_metadata(metadata, tokenizer)?;
        if template.is_none() && (args.chat || args.system.is_some()) {
            let names = ChatTemplate::standard_names();
            bail!(
                "{}: the model brings no chat template; --chat-template takes a file or {names}",
                model::name(&args.model)
            );
        }
        let (name, place) = ("of the model".to_owned(), model::name(&args.model));
        Ok(template.map(|template| Self { template, name, place, stop: &[] }))
    }

    /// A standard template, or the one in a file.
    pub(crate) fn named(model: &Model, name: &Path) -> Result<Self> {
        let (source, stop) = source(name)?;
        let template = ChatTemplate::new(source, model.metadata(), model.tokenizer()?)?;
        let name = name.display().to_string();
        let place = format!("--chat-template {name}");
        Ok(Self { template, name, place, stop })
    }

    /// The token ids of a conversation's prompt.
    pub(crate) fn encode(&self, messages: &[Message], tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        self.template.encode(messages, tokenizer).map_err(|error| match error {
            Error::Template(_) => anyhow!(
                "{}: {error} (--no-chat leaves the template out, --chat-template takes another)",
                self.place
            ),
            error => error.into(),
        })
    }
}

/// The source of a standard template or of a file, with its stop strings.
fn source(name: &Path) -> Result<(String, &'static [&'static str])> {
    let text = name.to_string_lossy();
    let standard = ChatTemplate::standard();
    if let Some(known) = standard.iter().find(|known| known.name == text) {
        return Ok((known.source.to_owned(), known.stop));
    }
    if !name.exists() && name.components().count() == 1 && name.extension().is_none() {
        let hint = hint(&text, standard.iter().map(|known| known.name));
        let why = "there is no file and no standard template";
        bail!(WrongUsage(format!("--chat-template: {why} {text:?}; {hint}")));
    }
    Ok((input::text(name).context("--chat-template")?, &[]))
}
