//! What a task's protocol is.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::data;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::metrics::Measured;
use crate::place::Place;
use crate::results::Line;
use crate::task::Task;

/// How a task is run and judged. Each kind of task has one.
pub(crate) trait Protocol {
    /// The task.
    fn task(&self) -> &Task;

    /// The items of the task's data, and what their results depend on besides the data, the model
    /// and its settings.
    fn items(&self, place: Place<'_>) -> Result<Items>;

    /// What the result lines of a file say.
    fn measure(&self, path: &Path, lines: &[Line]) -> Result<Measured>;

    /// The number of items.
    fn count(&self, place: Place<'_>) -> Result<usize> {
        let records = data::records(self.task(), place.data, place.any_data)?;
        Ok(records.iter().map(|records| records.items.len()).sum())
    }

    /// Has answers judged that only another model can judge. `proceed` says whether to go on after
    /// so many judgments of so many.
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
    /// In the order of the data.
    pub(crate) list: Vec<Box<dyn Item>>,
    /// What results depend on besides.
    pub(crate) identity: BTreeMap<&'static str, Value>,
}

impl Items {
    /// Items whose results depend on nothing else.
    pub(crate) fn new<I: Item + 'static>(items: Vec<I>) -> Self {
        let list = items.into_iter().map(|item| Box::new(item) as Box<dyn Item>).collect();
        Self { list, identity: BTreeMap::new() }
    }
}

/// An item of a task.
pub(crate) trait Item {
    /// Its id, unique in the task.
    fn id(&self) -> &str;

    /// The hash of what the model is asked, without what a chat template makes of it.
    fn prompt_sha256(&self) -> String;

    /// Asks a model, and judges the answer: a line of the results.
    fn answer(&self, engine: &mut Engine) -> Result<Value>;

    /// What the model was asked for a line of the results, word for word.
    fn asked(&self, engine: &Engine, line: &Value) -> Result<Map<String, Value>>;

    /// Judges an answer that was given elsewhere, in a chat or not: a line of the results. `None` if
    /// the task's answers are not graded.
    fn grade(&self, _output: String, _chat: Option<bool>) -> Result<Option<Value>> {
        Ok(None)
    }
}

/// The results in some lines of a file.
pub(crate) fn typed<T: DeserializeOwned>(path: &Path, lines: &[Line]) -> Result<Vec<T>> {
    let parse = |line: &Line| {
        serde_json::from_value(line.value.clone()).map_err(|error| Error::Record {
            path: path.to_owned(),
            line: line.number,
            message: error.to_string(),
        })
    };
    lines.iter().map(parse).collect()
}
