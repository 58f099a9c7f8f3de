//! Descriptions of tasks for lists.

use serde::Serialize;

use crate::data;
use crate::kind::protocol;
use crate::place::Place;
use crate::task::{DataFile, Task};

/// The description of a task in a list.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its display name.
    pub title: String,
    /// Its kind, by the name in definitions.
    pub kind: &'static str,
    /// Number of examples before each item.
    pub shots: usize,
    /// The metrics.
    pub metrics: Vec<String>,
    /// The number of items, or `None` if the data are missing or invalid.
    pub items: Option<usize>,
    /// What is wrong with the data, if they exist.
    pub fault: Option<String>,
    /// The split of the data set.
    pub split: String,
    /// The licence of the data.
    pub licence: String,
    /// The source of the protocol.
    pub protocol: String,
    /// The version of the definition.
    pub version: u32,
    /// The data files.
    pub data: Vec<ListedFile>,
}

/// A data file in a list.
#[derive(Clone, Debug, Serialize)]
pub struct ListedFile {
    /// Its path in the data folder, or beside the definition.
    pub file: String,
    /// The GitHub repository of the original; `None` if the definition names none.
    pub repository: Option<String>,
    /// The commit.
    pub revision: Option<String>,
    /// The path in the repository.
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

/// Describes a task.
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
