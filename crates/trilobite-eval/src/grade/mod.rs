//! Graders: what counts as a right answer.

mod gsm8k;
mod triviaqa;

pub(crate) use triviaqa::question as triviaqa_question;

use crate::data::Record;
use crate::error::Result;
use crate::generation::Grade;
use crate::task::Grader;

/// Grades an answer to a record's question.
pub(crate) fn grade(grader: Grader, output: &str, record: &Record) -> Result<Grade> {
    match grader {
        Grader::Triviaqa => triviaqa::grade(output, record),
        Grader::Gsm8k => gsm8k::grade(output, record),
    }
}

/// The regular expressions of this crate are constants, checked by tests.
pub(crate) fn regex(pattern: &str) -> Result<regex::Regex> {
    regex::Regex::new(pattern).map_err(|error| crate::Error::Definition {
        task: "grader".to_owned(),
        message: error.to_string(),
    })
}
