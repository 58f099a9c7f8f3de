//! Graders: what counts as a right answer.

mod code;
mod gsm8k;
mod ifeval;
mod math;
mod python;
mod triviaqa;

pub use code::{Confinement, SandboxLayer, confine_and_run, confinement};
pub(crate) use triviaqa::question as triviaqa_question;

use std::path::Path;

use crate::data::Record;
use crate::error::{Error, Result};
use crate::generation::Grade;
use crate::task::Grader;

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

/// The judge of a task; one with use for SymPy has that of `python`, and one that runs code may miss
/// `layers` of its sandbox.
pub(crate) fn judge(
    grader: Grader,
    python: Option<&Path>,
    layers: &[SandboxLayer],
) -> Result<Box<dyn Judge>> {
    Ok(match grader {
        Grader::Triviaqa => Box::new(triviaqa::TriviaQa),
        Grader::Gsm8k => Box::new(gsm8k::Gsm8k::new()?),
        Grader::HumanevalPlus => Box::new(code::HumanEvalPlus::new(layers)?),
        Grader::Math => Box::new(math::Math::new(python)?),
        Grader::Ifeval => Box::new(ifeval::IfEval::new()?),
    })
}

/// A regular expression of this crate: a constant, checked by tests.
pub(crate) fn regex(pattern: &str) -> Result<regex::Regex> {
    regex::Regex::new(pattern).map_err(|error| Error::Definition {
        task: "grader".to_owned(),
        message: error.to_string(),
    })
}
