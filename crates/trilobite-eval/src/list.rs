//! What there is to know of a task before it is run.

use serde::Serialize;

use crate::data;
use crate::kind::protocol;
use crate::place::Place;
use crate::task::{DataFile, Task};

/// A task in a list.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its name in tables.
    pub title: String,
    /// Its kind, as definitions call it.
    pub kind: &'static str,
    /// Examples before each item.
    pub shots: usize,
    /// What is measured.
    pub metrics: Vec<String>,
    /// The number of items, if the data are there and whole.
    pub items: Option<usize>,
    /// What is wrong with data that are there.
    pub fault: Option<String>,
    /// The split of the data set.
    pub split: String,
    /// Licence of the data.
    pub licence: String,
    /// Whose protocol this is.
    pub protocol: String,
    /// Version of the definition.
    pub version: u32,
    /// The data files.
    pub data: Vec<ListedFile>,
}

/// A data file in a list.
#[derive(Clone, Debug, Serialize)]
pub struct ListedFile {
    /// Where it lies: in the data folder, or beside the definition.
    pub file: String,
    /// The GitHub repository that it comes from; none for a file of one's own.
    pub repository: Option<String>,
    /// The commit.
    pub revision: Option<String>,
    /// The path there.
    pub path: Option<String>,
}

impl ListedFile {
    fn of(file: &DataFile) -> Self {
        let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        Self {
            file: file.file.clone(),
            repository: given(&file.repository),
            revision: given(&file.revision),
            path: given(&file.path),
        }
    }
}

/// What a list says of a task.
pub fn list(task: &Task, place: Place<'_>) -> Listed {
    let there = data::is_there(task, place.data);
    let count = there.then(|| protocol(task).count(place));
    let (items, fault) = match count {
        Some(Err(error)) => (None, Some(error.to_string())),
        count => (count.and_then(Result::ok), None),
    };
    Listed {
        name: task.name.clone(),
        title: task.title.clone(),
        kind: task.kind.name(),
        shots: task.shots,
        metrics: task.metrics.clone(),
        items,
        fault,
        split: task.split.clone(),
        licence: task.licence.clone(),
        protocol: task.protocol.clone(),
        version: task.version,
        data: task.data.iter().map(ListedFile::of).collect(),
    }
}
