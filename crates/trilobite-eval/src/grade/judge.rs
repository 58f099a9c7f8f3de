//! What a grader is: an answer and a record in, a verdict out.

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::record::Record;

/// Grades answers.
pub(crate) trait Judge {
    /// Grades an answer to a record's question.
    fn grade(&self, output: &str, record: &Record) -> Result<Grade>;

    /// Grades an answer that was given in a chat, that continues the prompt, or of which neither is
    /// known.
    fn grade_in(&self, output: &str, record: &Record, _chat: Option<bool>) -> Result<Grade> {
        self.grade(output, record)
    }

    /// By what answers are compared, where there is a choice.
    fn equality(&self) -> Option<String> {
        None
    }
}

/// What a grader finds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Grade {
    /// The answer as it was found in the output.
    pub(crate) extracted: Value,
    /// What it was compared with.
    pub(crate) gold: Value,
    /// Whether they agree.
    pub(crate) correct: bool,
    /// Further findings: `correct_WAY` counts for the metrics that end in `_WAY`.
    pub(crate) more: Map<String, Value>,
}

/// A regular expression of this crate: a constant, checked by tests.
pub(crate) fn regex(pattern: &str) -> Result<regex::Regex> {
    regex::Regex::new(pattern).map_err(|error| Error::Definition {
        task: "grader".to_owned(),
        message: error.to_string(),
    })
}
