//! Graders decide whether an answer is right.

mod code;
mod exact;
mod gsm8k;
mod ifeval;
mod judge;
mod math;
mod python;
mod triviaqa;

pub use code::{Confinement, SandboxLayer, confine_and_run, confinement};
pub use exact::Matching;
pub(crate) use judge::{Judge, regex};
pub(crate) use triviaqa::question as triviaqa_question;

use std::path::Path;
use std::rc::Rc;

use serde::Deserialize;

use crate::error::Result;

/// The grader of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grader {
    /// The output, or the part of it that a pattern extracts, equals a right answer.
    ExactMatch,
    /// The output equals an alias, ignoring case and punctuation.
    Triviaqa,
    /// The number after `####`, or the last number.
    Gsm8k,
    /// Instructions whose fulfilment can be checked.
    Ifeval,
    /// The final answer of a solution.
    Math,
    /// Python code, which is run against tests in a sandbox.
    HumanevalPlus,
}

impl Grader {
    /// The metrics of the grader.
    pub(crate) fn metrics(self) -> &'static [&'static str] {
        match self {
            Grader::ExactMatch | Grader::Triviaqa => &["exact_match"],
            Grader::Gsm8k => &["exact_match", "exact_match_flexible"],
            Grader::Ifeval => &[
                "inst_level_strict",
                "inst_level_loose",
                "prompt_level_strict",
                "prompt_level_loose",
            ],
            Grader::Math => &["accuracy"],
            Grader::HumanevalPlus => &["pass_at_1", "pass_at_1_base"],
        }
    }

    /// Whether the grader runs generated code.
    pub(crate) fn runs_code(self) -> bool {
        self == Grader::HumanevalPlus
    }

    /// Creates the grader. `python` is the interpreter that has SymPy; the sandbox may lack
    /// `layers`.
    pub(crate) fn judge(
        self,
        matching: &Matching,
        python: Option<&Path>,
        layers: &[SandboxLayer],
    ) -> Result<Rc<dyn Judge>> {
        Ok(match self {
            Grader::ExactMatch => Rc::new(exact::ExactMatch::new(matching)?),
            Grader::Triviaqa => Rc::new(triviaqa::TriviaQa),
            Grader::Gsm8k => Rc::new(gsm8k::Gsm8k::new()?),
            Grader::HumanevalPlus => Rc::new(code::HumanEvalPlus::new(layers)?),
            Grader::Math => Rc::new(math::Math::new(python)?),
            Grader::Ifeval => Rc::new(ifeval::IfEval::new()?),
        })
    }
}
