//! A row of the report: what was measured of a model or a peer.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value};

use super::perplexity::Perplexity;
use super::plan::Test;
use super::spread::Spread;
use super::subject::Subject;
use super::tasks::Score;

/// A number, or why there is none.
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

/// What was measured of a subject.
#[derive(Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    /// Its name in models.toml.
    pub(super) listed: Option<String>,
    pub(super) engine: &'static str,
    /// What was run: a file, or a command.
    pub(super) source: String,
    pub(super) notes: Vec<String>,
    pub(super) sha256: Option<String>,
    pub(super) file_bytes: Cell<u64>,
    pub(super) non_embedding_bytes: Cell<u64>,
    pub(super) peak_resident_bytes: Cell<u64>,
    pub(super) perplexity: Cell<Perplexity>,
    /// Tokens a second, by the names of the tests.
    pub(super) speeds: BTreeMap<String, Cell<Spread>>,
    pub(super) joules_per_token: Cell<Spread>,
    /// What Trilobite says of a decoded token: bytes read, rows of the head computed, and the like.
    pub(super) facts: Map<String, Value>,
    pub(super) scores: BTreeMap<String, Cell<Score>>,
    /// Why its speed is not measured.
    #[serde(skip)]
    pub(super) measure: Result<(), String>,
    /// Why its scores are not.
    #[serde(skip)]
    pub(super) score: Result<(), String>,
}

impl Row {
    /// A row that could not be run at all.
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
            facts: Map::new(),
            scores: BTreeMap::new(),
            measure: Err(why.to_owned()),
            score: Err(why.to_owned()),
        }
    }

    /// The speed in a test, if it was measured.
    pub(super) fn speed(&self, test: Test) -> Option<&Spread> {
        self.speeds.get(&test.name())?.value()
    }
}
