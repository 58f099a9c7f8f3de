//! The folders of a run and its permissions.

use std::path::Path;

use crate::conversation::client::JudgeServer;
use crate::grade::SandboxLayer;

/// The folders of a run and its permissions.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The folder of the data sets.
    pub data: &'a Path,
    /// Whether the hashes of data files are ignored.
    pub any_data: bool,
    /// Whether generated code may be run in a sandbox.
    pub untrusted_code: bool,
    /// Layers of the sandbox that may be missing.
    pub sandbox_allow_missing: &'a [SandboxLayer],
    /// The Python interpreter whose SymPy compares answers to MATH-500.
    pub python: Option<&'a Path>,
    /// The server of the model that rates answers to MT-bench.
    pub judge: Option<&'a JudgeServer>,
    /// Whether prompts are logged in `NAME.samples.jsonl`.
    pub log_samples: bool,
    /// The folder of the results: `NAME.jsonl` and `NAME.settings.json` for each task.
    pub output: &'a Path,
}
