//! Grading of answers that were generated elsewhere.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde_json::json;

use crate::error::{Error, Result};
use crate::kind::protocol;
use crate::outcome::Outcome;
use crate::place::Place;
use crate::results::{self, Line, RunSettings};
use crate::run;
use crate::task::Task;

/// An answer that was generated elsewhere.
#[derive(serde::Deserialize)]
struct GivenAnswer {
    id: String,
    output: String,
    /// Whether it is a chat reply or continues the prompt; `None` if unknown.
    chat: Option<bool>,
}

/// Grades answers that were generated elsewhere. The file has lines `{"id", "output"}`. Each answer
/// gets a verdict. A score takes one answer per item.
///
/// # Errors
/// The task has no grader, the data or the answers cannot be read, an answer has an unknown id, or
/// an item has two answers.
pub fn grade_answers(task: &Task, place: Place<'_>, answers: &Path) -> Result<Outcome> {
    let protocol = protocol(task);
    let items = run::items(protocol.as_ref(), place)?.list;
    let ids = items.iter().map(|item| item.id());
    let places: HashMap<&str, usize> = ids.zip(0..).collect();
    let text = std::fs::read_to_string(answers).map_err(Error::io(answers))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let fault =
        |line: usize, message: String| Error::Record { path: answers.to_owned(), line, message };
    let (mut lines, mut answered, mut twice) = (Vec::new(), HashSet::new(), None);
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let answer: GivenAnswer =
            serde_json::from_str(line).map_err(|error| fault(number, error.to_string()))?;
        let index = places.get(answer.id.as_str());
        let index = *index.ok_or_else(|| fault(number, format!("no item {:?}", answer.id)))?;
        if !answered.insert(index) {
            let message = format!("another answer to item {:?}", answer.id);
            twice.get_or_insert_with(|| fault(number, message));
        }
        let graded = items[index].grade(answer.output, answer.chat)?;
        let mut value = graded.ok_or_else(|| {
            let message = "its answers are not graded, there is nothing to compare".to_owned();
            Error::Definition { task: task.name.clone(), message }
        })?;
        value["index"] = index.into();
        lines.push(Line { number, id: answer.id, value });
    }
    if lines.is_empty() {
        return Err(Error::NoItems { task: task.name.clone() });
    }
    std::fs::create_dir_all(place.output).map_err(Error::io(place.output))?;
    let identity = json!({"task": task.name, "answers": true});
    RunSettings { identity, items: 0, parts: Vec::new() }.save(place.output, task)?;
    let path = results::items_path(place.output, task);
    results::replace(&path, &mut lines.iter().map(|line| Ok(line.value.clone())))?;
    twice.map_or_else(|| Outcome::of(protocol.as_ref(), path, &lines), Err)
}
