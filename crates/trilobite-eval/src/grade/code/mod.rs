//! HumanEval+: generated code is run, in a sandbox.

mod sandbox;

use std::path::PathBuf;

use serde_json::{Map, json};

pub use sandbox::{Confinement, confine_and_run, confinement};

use crate::data::Record;
use crate::error::Result;
use crate::generation::Grade;
use crate::grade::Judge;

/// What runs inside the sandbox.
const HARNESS: &str = include_str!("harness.py");
/// Fields of a problem that the harness needs.
const FIELDS: [&str; 6] =
    ["prompt", "canonical_solution", "entry_point", "base_input", "plus_input", "atol"];

/// Runs solutions against their tests.
pub(crate) struct HumanEvalPlus {
    python: PathBuf,
}

impl HumanEvalPlus {
    /// The grader.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { python: sandbox::python()? })
    }
}

impl Judge for HumanEvalPlus {
    fn grade(&self, output: &str, record: &Record) -> Result<Grade> {
        let mut problem = Map::new();
        for field in FIELDS {
            let value = record.fields.get(field).map(|value| json!(value));
            let value = value.ok_or_else(|| record.error(format!("{field:?} is missing")))?;
            problem.insert(field.to_owned(), value);
        }
        problem.insert("output".to_owned(), output.into());
        let verdict = sandbox::run(&self.python, HARNESS, problem)?;
        let (letters, reason) = verdict.split_once(' ').unwrap_or(("ff", verdict.as_str()));
        Ok(Grade {
            extracted: reason.into(),
            gold: json!(record.text("entry_point")?),
            correct: letters == "pp",
            more: Map::from_iter([("correct_base".to_owned(), letters.starts_with('p').into())]),
        })
    }
}
