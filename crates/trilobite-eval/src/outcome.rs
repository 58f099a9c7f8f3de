//! The outcome of a run.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::error::Result;
use crate::metrics::Measured;
use crate::protocol::Protocol;
use crate::results::Line;
use crate::task::Task;

/// The field of a result with the most tokens that were dropped from a prompt of the item, because the
/// context has no room for them. Absent if there are none.
const CUT: &str = "cut";

/// The line of an item, a prompt of which lost so many tokens.
pub(crate) fn with_cut(mut line: Value, tokens: usize) -> Value {
    if tokens > 0 {
        line[CUT] = tokens.into();
    }
    line
}

/// The outcome of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Number of items.
    pub n: usize,
    /// Number of items whose prompts lost their first tokens, because the context has no room for them.
    pub cut: usize,
    /// The metrics.
    pub measured: Measured,
    /// The results file.
    pub items: PathBuf,
    /// The file with the prompts, if they were logged.
    pub samples: Option<PathBuf>,
    /// The data files that were read, with the SHA-256 of each after unpacking; empty if none was
    /// needed.
    pub data: Vec<(String, String)>,
    /// A single hash for all data.
    pub data_sha256: Option<String>,
    /// A description of the items that are missing from a merged task.
    pub missing: Option<String>,
}

impl Outcome {
    /// The outcome for the lines of a results file.
    pub(crate) fn of(protocol: &dyn Protocol, items: PathBuf, lines: &[Line]) -> Result<Self> {
        let measured = protocol.measure(&items, lines)?;
        Ok(Self {
            n: lines.len(),
            cut: lines.iter().filter(|line| line.value.get(CUT).is_some()).count(),
            measured,
            items,
            samples: None,
            data: Vec::new(),
            data_sha256: None,
            missing: None,
        })
    }

    /// The outcome as JSON, for reports.
    pub fn report(&self, task: &Task) -> Value {
        let mut report = json!({
            "n": self.n,
            "metrics": self.measured.metrics,
            "items": self.items.display().to_string(),
            "shots": task.shots,
            "version": task.version,
            "task_sha256": task.sha256,
        });
        if self.cut > 0 {
            report["cut"] = self.cut.into();
        }
        if !self.measured.groups.is_empty() {
            report["groups"] = json!(self.measured.groups);
        }
        if !self.data.is_empty() {
            report["data"] = self.data.iter().cloned().collect();
        }
        if let Some(hash) = &self.data_sha256 {
            report["data_sha256"] = hash.as_str().into();
        }
        if let Some(samples) = &self.samples {
            report["samples"] = samples.display().to_string().into();
        }
        if let Some(reason) = self.measured.not_run {
            report["not_run"] = reason.into();
        }
        if let Some(missing) = &self.missing {
            report["missing"] = missing.as_str().into();
        }
        report
    }
}
