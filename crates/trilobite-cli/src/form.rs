//! The form of an answer: a JSON schema, a grammar, or a regular expression.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use trilobite_runtime::{Model, Tokenizer, end_ids};
use trilobite_structured::{Compiler, Form, Grammar};

use crate::input;

// The constraint on an answer.
//
// With a doc comment, clap would replace the summary of the command by it.
#[derive(Args)]
pub(crate) struct FormArgs {
    /// Answer with JSON that is valid for the schema in this file
    #[arg(long, value_name = "FILE", group = "form")]
    json_schema: Option<PathBuf>,
    /// Answer with a text of the grammar in this file, in Lark's notation
    #[arg(long, value_name = "FILE", group = "form")]
    grammar: Option<PathBuf>,
    /// Answer with a text that this regular expression matches as a whole
    #[arg(long, value_name = "REGEX", group = "form", allow_hyphen_values = true)]
    regex: Option<String>,
}

impl FormArgs {
    /// Whether a form is given.
    pub(crate) fn is_given(&self) -> bool {
        self.json_schema.is_some() || self.grammar.is_some() || self.regex.is_some()
    }

    /// Compiles the form for a model, if one is given.
    pub(crate) fn compile(&self, model: &Model, tokenizer: &Tokenizer) -> Result<Option<Form>> {
        let (place, grammar) = match (&self.json_schema, &self.grammar, &self.regex) {
            (Some(path), ..) => {
                let place = path.display().to_string();
                let schema = serde_json::from_str(&input::text(path)?);
                let schema = schema.with_context(|| format!("{place} is no JSON"))?;
                (place, Grammar::Schema(schema))
            }
            (_, Some(path), _) => (path.display().to_string(), Grammar::Lark(input::text(path)?)),
            (.., Some(regex)) => ("--regex".to_owned(), Grammar::Regex(regex.clone())),
            (None, None, None) => return Ok(None),
        };
        let ends = end_ids(model.metadata(), Some(tokenizer))?;
        let compiler = Compiler::new(tokenizer, model.config().vocab, &ends)?;
        compiler.compile(&grammar).map(Some).context(place)
    }
}
