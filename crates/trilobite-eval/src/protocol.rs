//! The interface of a task's protocol.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use trilobite_runtime::Limits;

use crate::data;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::metrics::Measured;
use crate::place::Place;
use crate::results::Line;
use crate::task::Task;

/// How a kind of task is run and judged.
pub(crate) trait Protocol {
    /// The task.
    fn task(&self) -> &Task;

    /// The items of the task, and what their results depend on besides data, model and settings.
    fn items(&self, place: Place<'_>) -> Result<Items>;

    /// The metrics for the lines of a results file.
    fn measure(&self, path: &Path, lines: &[Line]) -> Result<Measured>;

    /// The number of items.
    fn count(&self, place: Place<'_>) -> Result<usize> {
        let records = data::records(self.task(), place.data, place.any_data)?;
        Ok(records.iter().map(|records| records.items.len()).sum())
    }

    /// Has another model judge the answers that only a model can judge. `proceed` is called with
    /// the number of judgments done and in total, and returns whether to continue.
    fn rate(
        &self,
        _place: Place<'_>,
        _path: &Path,
        _lines: &[Line],
        _proceed: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Option<Measured>> {
        Ok(None)
    }
}

/// The items of a task.
pub(crate) struct Items {
    /// The items, in the order of the data.
    pub(crate) list: Vec<Box<dyn Item>>,
    /// What results depend on besides data, model and settings.
    pub(crate) identity: BTreeMap<&'static str, Value>,
}

impl Items {
    /// Items whose results depend on nothing else.
    pub(crate) fn new<I: Item + 'static>(items: Vec<I>) -> Self {
        let list = items.into_iter().map(|item| Box::new(item) as Box<dyn Item>).collect();
        Self { list, identity: BTreeMap::new() }
    }
}

/// What the model has to do for an item. Either way the result is a line of the results.
pub(crate) enum Work<'a> {
    /// Generate a text and grade it. Several items are generated at once.
    Generate {
        /// The tokens of the prompt.
        prompt: Vec<u32>,
        limits: Limits,
        grade: Box<dyn Fn(String) -> Result<Value> + 'a>,
    },
    /// Anything else.
    Answer(AnswerItem<'a>),
}

/// Runs the model on an item.
pub(crate) type AnswerItem<'a> = Box<dyn FnOnce(&mut Engine) -> Result<Value> + 'a>;

/// An item of a task.
pub(crate) trait Item {
    /// Its id, unique in the task.
    fn id(&self) -> &str;

    /// The hash of the prompt before the chat template is applied.
    fn prompt_sha256(&self) -> String;

    /// What the model has to do.
    fn work(&self, engine: &Engine) -> Result<Work<'_>>;

    /// The exact prompts that led to a line of the results.
    fn asked(&self, engine: &Engine, line: &Value) -> Result<Map<String, Value>>;

    /// Grades an answer that was generated elsewhere, and returns a line of the results; `None` if
    /// the task has no grader. `chat` tells whether the answer is a chat reply.
    fn grade(&self, _output: String, _chat: Option<bool>) -> Result<Option<Value>> {
        Ok(None)
    }
}

/// Parses lines of a results file.
pub(crate) fn parse_lines<T: DeserializeOwned>(path: &Path, lines: &[Line]) -> Result<Vec<T>> {
    let parse = |line: &Line| {
        serde_json::from_value(line.value.clone()).map_err(|error| Error::Record {
            path: path.to_owned(),
            line: line.number,
            message: error.to_string(),
        })
    };
    lines.iter().map(parse).collect()
}
