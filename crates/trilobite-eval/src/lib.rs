//! Benchmark tasks: their data, prompts, graders and metrics, and a resumable run over a model.
//!
//! A task is defined by a TOML file, in `tasks/` or anywhere else ([`Task::open`]). It says where
//! the data are, how a record becomes a prompt, and what is measured; `README.md` describes the
//! keys.
//! [`run`] appends one line per item to a results file. A run that was interrupted continues where
//! it stopped, and the results of runs over parts of a task can be merged.

mod answers;
mod bytes;
mod choice;
mod conversation;
mod data;
mod draw;
mod engine;
mod error;
mod generation;
mod grade;
mod kind;
mod list;
mod merge;
mod metrics;
mod origin;
mod outcome;
mod place;
mod prompt;
mod protocol;
mod record;
mod results;
mod rolling;
mod run;
mod shard;
mod task;
mod template;
#[cfg(test)]
mod tests;

pub use answers::grade_answers;
pub use conversation::JudgeServer;
pub use engine::{BATCH_SIZE, Engine, Prompting, Settings};
pub use error::{Error, Result};
pub use grade::{Confinement, SandboxLayer, confine_and_run, confinement};
pub use list::{Listed, ListedFile, list};
pub use merge::merge;
pub use metrics::{GroupScore, Measured, Metric};
pub use origin::Origin;
pub use outcome::Outcome;
pub use place::Place;
pub use run::{Progress, run};
pub use shard::{Selection, Shard};
pub use task::{
    Choice, Conversation, DataFile, Format, Generation, Grader, Group, Kind, Matching, Role,
    Sampler, Task,
};
