//! The subjects of a comparison: models that Trilobite runs, and other programs with their models.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::args::Args;
use super::plan::{RowSpec, expand};
use super::process::{self, Output};

/// A subject, which has a row in the report.
pub(super) struct Subject {
    /// Its name in the report.
    pub(super) name: String,
    /// Its name in models.toml.
    pub(super) listed: Option<String>,
    /// The model or program to run, or the reason why there is none.
    pub(super) kind: Result<Kind, String>,
    /// More arguments of `trilobite bench` and `trilobite perplexity`.
    pub(super) args: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) note: Option<String>,
}

pub(super) enum Kind {
    /// A model that Trilobite runs: a file, or the built-in one.
    Model(Option<PathBuf>),
    /// Another program and its arguments.
    Peer(Vec<String>),
}

impl Subject {
    pub(super) fn new(name: &str, listed: Option<&str>, kind: Result<Kind>) -> Self {
        Subject {
            name: name.to_owned(),
            listed: listed.map(str::to_owned),
            kind: kind.map_err(|error| format!("{error:#}")),
            args: Vec::new(),
            env: BTreeMap::new(),
            note: None,
        }
    }

    pub(super) fn of_row(row: &RowSpec) -> Self {
        let word = |word: &str| expand(word, |name| std::env::var(name).ok());
        let kind = match (&row.model, &row.peer) {
            (Some(model), None) => word(model).map(|path| Kind::Model(Some(path.into()))),
            (None, Some(peer)) => command(&row.name, peer).and_then(|words| {
                words.iter().map(|text| word(text)).collect::<Result<_>>().map(Kind::Peer)
            }),
            _ => Err(anyhow::anyhow!("the row names neither a model nor a peer, or both")),
        };
        let RowSpec { name, args, env, note, .. } = row.clone();
        Subject { args, env, note, ..Subject::new(&name, None, kind) }
    }

    /// The model and its arguments, for the report.
    pub(super) fn shown(&self, model: Option<&Path>) -> String {
        let model =
            model.map_or("the model in the binary".into(), |path| path.display().to_string());
        words(&self.env, &[&[model], &self.args[..]].concat())
    }
}

/// A command with its environment variables as text.
pub(super) fn words(env: &BTreeMap<String, String>, command: &[String]) -> String {
    let env = env.iter().map(|(name, value)| format!("{name}={value}"));
    env.chain(command.iter().cloned()).collect::<Vec<_>>().join(" ")
}

/// Splits a peer's command into words.
pub(super) fn command(name: &str, text: &str) -> Result<Vec<String>> {
    let words = shlex::split(text).filter(|words| !words.is_empty());
    words.with_context(|| format!("{name}: {text:?} is no command"))
}

/// The file of a converted model.
pub(super) fn converted(args: &Args, name: &str) -> PathBuf {
    args.output.join("models").join(format!("{}.gguf", safe(name)))
}

pub(super) fn convert(binary: &Path, source: &Path, out: &Path) -> Result<()> {
    let mut convert = Command::new(binary);
    convert.arg("convert").arg(source).args(["--force", "--quiet", "-o"]).arg(out);
    process::run(&mut convert).map(drop)
}

/// Converts a name to a valid file name.
pub(super) fn safe(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || "-._".contains(c) { c } else { '_' }).collect()
}

/// The command that describes a model.
pub(super) fn inspection(binary: &Path, model: Option<&Path>) -> Command {
    let mut inspect = Command::new(binary);
    inspect.arg("inspect").args(model).arg("--json");
    inspect
}

/// The output of `trilobite inspect --json`.
pub(super) fn inspect(inspection: &mut Command) -> Result<Value> {
    let Output { stdout, .. } = process::run(inspection)?;
    serde_json::from_str(&stdout).context("trilobite inspect --json")
}
