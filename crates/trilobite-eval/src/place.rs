//! Where a run reads and writes, and what it may do.

use std::path::Path;

use crate::conversation::client::JudgeServer;
use crate::grade::SandboxLayer;

/// Where a run reads and writes.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The folder of the data sets.
    pub data: &'a Path,
    /// Whether data are taken whatever their hash.
    pub any_data: bool,
    /// Whether code that a model writes may be run, in a sandbox.
    pub untrusted_code: bool,
    /// Layers of that sandbox that may be missing.
    pub sandbox_allow_missing: &'a [SandboxLayer],
    /// The Python whose SymPy compares answers to MATH-500.
    pub python: Option<&'a Path>,
    /// Who rates the answers of MT-bench.
    pub judge: Option<&'a JudgeServer>,
    /// Whether what the model was asked is kept too, in `NAME.samples.jsonl`.
    pub log_samples: bool,
    /// The folder of the results: `NAME.jsonl` and `NAME.settings.json` for each task.
    pub output: &'a Path,
}
