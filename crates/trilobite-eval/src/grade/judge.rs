//! The interface of a grader, which turns an answer and a record into a verdict.

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::record::Record;

/// A grader of answers.
pub(crate) trait Judge {
    /// Grades an answer to a record's question.
    fn grade(&self, output: &str, record: &Record) -> Result<Grade>;

    /// Grades an answer that is a chat reply, or continues the prompt; `None` if that is unknown.
    fn grade_in(&self, output: &str, record: &Record, _chat: Option<bool>) -> Result<Grade> {
        self.grade(output, record)
    }

    /// The method of comparing answers, if the grader has more than one.
    fn equality(&self) -> Option<String> {
        None
    }
}

/// The verdict of a grader.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Grade {
    /// The answer extracted from the output.
    pub(crate) extracted: Value,
    /// The right answer.
    pub(crate) gold: Value,
    /// Whether the two agree.
    pub(crate) correct: bool,
    /// Further findings. `correct_WAY` counts for the metrics that end in `_WAY`.
    pub(crate) more: Map<String, Value>,
}

/// Compiles a constant regular expression. Tests check that each is valid.
pub(crate) fn regex(pattern: &str) -> Result<regex::Regex> {
    regex::Regex::new(pattern).map_err(|error| Error::Definition {
        task: "grader".to_owned(),
        message: error.to_string(),
    })
}
