//! Benchmark tasks: their data, prompts, graders and metrics, and a resumable run over a model.
//!
//! A task is a file in `tasks/`: where its data come from (repository, revision, SHA-256, licence),
//! how a record becomes a prompt, and what is measured. [`run`] goes through its items one by one
//! and appends a line for each to a file, so that a run that was broken off goes on where it
//! stopped, and runs over parts of a task can be merged.

mod choice;
mod conversation;
mod data;
mod engine;
mod error;
mod generation;
mod grade;
mod merge;
mod metrics;
mod origin;
mod results;
mod rolling;
mod run;
mod task;
mod template;
#[cfg(test)]
mod tests;

pub use conversation::JudgeServer;
pub use data::{sha256, unpack};
pub use engine::{Engine, Settings};
pub use error::{Error, Result};
pub use grade::{Confinement, SandboxLayer, confine_and_run, confinement};
pub use merge::merge;
pub use metrics::Metric;
pub use origin::Origin;
pub use run::{Outcome, Place, Progress, Shard, grade as grade_answers, run};
pub use task::{Conversation, DataFile, Format, Group, Kind, Role, Task};
