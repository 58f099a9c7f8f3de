//! A row of the report: the measurements of a model or a peer.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value};

use super::perplexity::Perplexity;
use super::plan::Test;
use super::scaling::Scaling;
use super::spread::Spread;
use super::subject::Subject;
use super::tasks::Score;

/// A number, or the reason why there is none.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Cell<T> {
    Value(T),
    NotRun(String),
}

impl<T> Cell<T> {
    pub(super) fn value(&self) -> Option<&T> {
        match self {
            Cell::Value(value) => Some(value),
            Cell::NotRun(_) => None,
        }
    }
}

impl<T> From<Result<T>> for Cell<T> {
    fn from(result: Result<T>) -> Self {
        result.map_or_else(|error| Cell::NotRun(format!("{error:#}")), Cell::Value)
    }
}

/// The measurements of a subject.
#[derive(Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    /// Its name in models.toml.
    pub(super) listed: Option<String>,
    pub(super) engine: &'static str,
    /// The file or the command that was run.
    pub(super) source: String,
    pub(super) notes: Vec<String>,
    pub(super) sha256: Option<String>,
    pub(super) file_bytes: Cell<u64>,
    pub(super) non_embedding_bytes: Cell<u64>,
    pub(super) peak_resident_bytes: Cell<u64>,
    pub(super) perplexity: Cell<Perplexity>,
    /// Tokens per second, by the names of the tests.
    pub(super) speeds: BTreeMap<String, Cell<Spread>>,
    pub(super) joules_per_token: Cell<Spread>,
    pub(super) scaling: Option<Scaling>,
    /// The commands that were run, by the names of the tests and tasks.
    pub(super) commands: BTreeMap<String, String>,
    /// The length of the context in tokens.
    pub(super) context: Option<usize>,
    /// Trilobite's figures for a decoded token, such as bytes read and rows of the head computed.
    pub(super) facts: Map<String, Value>,
    pub(super) scores: BTreeMap<String, Cell<Score>>,
    /// An error is the reason why its speed is not measured.
    #[serde(skip)]
    pub(super) measure: Result<(), String>,
    /// An error is the reason why it is not scored.
    #[serde(skip)]
    pub(super) score: Result<(), String>,
}

impl Row {
    /// Creates a row without measurements; `why` is the reason.
    pub(super) fn new(subject: &Subject, why: &str) -> Self {
        Row {
            name: subject.name.clone(),
            listed: subject.listed.clone(),
            engine: "Trilobite",
            source: String::new(),
            notes: subject.note.iter().cloned().collect(),
            sha256: None,
            file_bytes: Cell::NotRun(why.to_owned()),
            non_embedding_bytes: Cell::NotRun(why.to_owned()),
            peak_resident_bytes: Cell::NotRun(why.to_owned()),
            perplexity: Cell::NotRun(why.to_owned()),
            speeds: BTreeMap::new(),
            joules_per_token: Cell::NotRun(why.to_owned()),
            scaling: None,
            commands: BTreeMap::new(),
            context: None,
            facts: Map::new(),
            scores: BTreeMap::new(),
            measure: Err(why.to_owned()),
            score: Err(why.to_owned()),
        }
    }

    /// Records a command.
    pub(super) fn ran(&mut self, what: &str, command: &Command) {
        let env = command.get_envs().filter_map(|(name, value)| {
            Some(format!("{}={}", name.to_string_lossy(), value?.to_string_lossy()))
        });
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words = env.chain(words.map(|word| word.to_string_lossy().into_owned()));
        let words: Vec<String> = words.collect();
        let quoted = shlex::try_join(words.iter().map(String::as_str));
        // Words with a null character can neither be quoted nor be run.
        self.commands.insert(what.to_owned(), quoted.unwrap_or_else(|_| words.join(" ")));
    }

    /// The speed in a test, if it was measured.
    pub(super) fn speed(&self, test: Test) -> Option<&Spread> {
        self.speeds.get(&test.name())?.value()
    }
}
