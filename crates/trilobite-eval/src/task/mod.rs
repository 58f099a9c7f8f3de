//! What a task is: its definition as data.

mod builtin;
mod file;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

pub use crate::grade::{Grader, Matching};

/// A benchmark task.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Its name on the command line: that of its file, with the number of examples where that is
    /// chosen by the name.
    #[serde(skip)]
    pub name: String,
    /// The folder of a definition that is not one of the built-in ones: that of its data.
    #[serde(skip)]
    pub folder: Option<PathBuf>,
    /// SHA-256 of the definition.
    #[serde(skip)]
    pub sha256: String,
    /// The version of the definition: another one where scores are not comparable.
    #[serde(default = "first_version")]
    pub version: u32,
    /// Its name in tables.
    #[serde(default)]
    pub title: String,
    /// The split of the data set.
    #[serde(default)]
    pub split: String,
    /// Items of the whole task; 0 if the definition does not say.
    #[serde(default)]
    pub items: usize,
    /// Licence of the data, as its authors state it.
    #[serde(default)]
    pub licence: String,
    /// Whose protocol this is.
    #[serde(default)]
    pub protocol: String,
    /// What is measured, the most quoted first.
    pub metrics: Vec<String>,
    /// Examples before each item.
    #[serde(default)]
    pub shots: usize,
    /// How the examples are chosen.
    #[serde(default)]
    pub sampler: Sampler,
    /// Names under which lists of tasks show the task with another number of examples.
    #[serde(default)]
    pub variants: BTreeMap<String, usize>,
    /// Template of a text before the examples.
    #[serde(default)]
    pub description: String,
    /// Where the data come from.
    pub data: Vec<DataFile>,
    /// Parts of the task with files of their own, such as the subjects of MMLU.
    #[serde(default)]
    pub groups: BTreeMap<String, Group>,
    /// How an item is run and judged.
    pub kind: Kind,
}

/// How the examples before an item are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// Drawn for each item, as lm-evaluation-harness draws them with its seed of 1234.
    #[default]
    Random,
    /// The first ones of the file.
    FirstN,
}

/// A file of a task's data; `{group}` in it stands for each group's name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataFile {
    /// Where it lies in the data folder; it may be compressed and end in `.gz` or `.bz2` there.
    pub file: String,
    /// How it is read.
    pub format: Format,
    /// What it is for.
    #[serde(default)]
    pub role: Role,
    /// SHA-256 of the original, as it was published or unpacked.
    pub sha256: Option<String>,
    /// The GitHub repository that it was taken from; empty for a file of one's own.
    #[serde(default)]
    pub repository: String,
    /// The commit.
    #[serde(default)]
    pub revision: String,
    /// The path there.
    #[serde(default)]
    pub path: String,
    /// Whether the file was made from the one at `path` and is not that file itself.
    #[serde(default)]
    pub rebuilt: bool,
}

/// The format of a data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A JSON object a line.
    Jsonl,
    /// One JSON array of objects.
    Json,
    /// Comma-separated values under a header.
    Csv,
    /// Values separated by tabulators under a header, no quoting.
    Tsv,
    /// A value a line: the field `label`.
    Lines,
    /// Six lines a record: the field `lines`.
    Lines6,
    /// The whole file: the field `text`.
    Text,
}

/// What a data file is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Its records are the items.
    #[default]
    Items,
    /// A label for each record of the items' file.
    Labels,
    /// Its records are the examples.
    Shots,
    /// Something that the task's code reads.
    Other,
}

/// A part of a task.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// What its results are averaged with.
    #[serde(default)]
    pub category: String,
    /// SHA-256 of its files, in the order of [`Task::data`].
    #[serde(default)]
    pub sha256: Vec<String>,
}

/// How an item is run and judged.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Kind {
    /// The likeliest of some continuations is the answer.
    Choice(Choice),
    /// The likelihood of whole texts.
    Rolling {},
    /// A generated answer is graded.
    Generation(Generation),
    /// Another model rates the answers to two questions in a row.
    Conversation(Conversation),
}

impl Kind {
    /// Its name in definitions.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Choice(_) => "choice",
            Kind::Rolling {} => "rolling",
            Kind::Generation(_) => "generation",
            Kind::Conversation(_) => "conversation",
        }
    }

    /// What it can measure.
    fn metrics(&self) -> &'static [&'static str] {
        match self {
            Kind::Choice(_) => &["acc", "acc_norm", "mc2"],
            Kind::Rolling {} => {
                &["word_perplexity", "byte_perplexity", "bits_per_byte", "token_perplexity"]
            }
            Kind::Generation(generation) => generation.grader.metrics(),
            Kind::Conversation(_) => &["rating"],
        }
    }
}

/// Records have a `question_id`, a `category` and two `turns`. The second data file holds the judge's
/// prompts, the third the reference answers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conversation {
    /// Most tokens of an answer.
    pub max_tokens: usize,
    /// The sampling temperature of each category.
    pub temperatures: BTreeMap<String, f32>,
    /// Categories whose answers are rated beside a reference answer.
    pub referenced: Vec<String>,
}

/// Templates over a record's fields, as in [`Choice`], and what ends an answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// Template of the item's id.
    #[serde(default = "index")]
    pub id: String,
    /// Template of the question.
    pub prompt: String,
    /// Template of the answer to an example.
    #[serde(default)]
    pub target: String,
    /// Template of the question for a model without a chat template, where it is another one.
    #[serde(default)]
    pub plain: Option<String>,
    /// The beginning of the answer in a chat.
    #[serde(default)]
    pub begun: String,
    /// Texts that end the answer.
    #[serde(default)]
    pub stop: Vec<String>,
    /// Further ones in a chat.
    #[serde(default)]
    pub chat_stop: Vec<String>,
    /// Further ones without a chat template.
    #[serde(default)]
    pub plain_stop: Vec<String>,
    /// Most tokens of an answer.
    pub max_tokens: usize,
    /// How an answer is judged.
    pub grader: Grader,
    /// Expression for the right answer, which the grader sees as the record's field `gold`.
    #[serde(default)]
    pub gold: Option<String>,
    /// How [`Grader::ExactMatch`] compares.
    #[serde(default, rename = "match")]
    pub matching: Option<Matching>,
}

/// Templates and expressions (Jinja) over a record's fields, the record itself as `this`, its number
/// from 0 as `index`, and the group's name as `group`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// Template of the item's id.
    #[serde(default = "index")]
    pub id: String,
    /// Template of the context; `choice` is the choice in question.
    pub context: String,
    /// Expression for the list of choices, strings.
    pub choices: String,
    /// Template of the continuation for `choice`.
    #[serde(default = "space_choice")]
    pub continuation: String,
    /// Expression for the number of the right choice, or a list with 1 for right and 0 for wrong.
    pub gold: String,
}

fn first_version() -> u32 {
    1
}

fn index() -> String {
    "{% if group %}{{ group }}/{% endif %}{{ index }}".to_owned()
}

fn space_choice() -> String {
    " {{ choice }}".to_owned()
}

impl Task {
    /// Whether the definition is a file of one's own.
    pub fn is_own(&self) -> bool {
        self.folder.is_some()
    }

    /// What no type says about a definition: a message about the first fault.
    fn fault(&self) -> Option<String> {
        let known = self.kind.metrics();
        if let Some(name) = self.metrics.iter().find(|name| !known.contains(&name.as_str())) {
            let (kind, known) = (self.kind.name(), known.join(", "));
            return Some(format!(
                "metrics: {name:?} is none of {known}, which {kind} measures here"
            ));
        }
        if self.metrics.is_empty() {
            return Some(format!("metrics: the list is empty; there are {}", known.join(", ")));
        }
        let count = |role: Role| self.data.iter().filter(|file| file.role == role).count();
        if count(Role::Items) == 0 {
            return Some("data: no file has the role \"items\"".to_owned());
        }
        if count(Role::Labels) > 1 {
            return Some("data: more than one file has the role \"labels\"".to_owned());
        }
        let divided = |file: &&DataFile| file.file.contains("{group}");
        match (self.data.iter().find(divided), self.groups.is_empty()) {
            (Some(file), true) => {
                return Some(format!("data: {} needs [groups.NAME] tables", file.file));
            }
            (None, false) => return Some("groups: no file has {group} in its name".to_owned()),
            _ => {}
        }
        match &self.kind {
            Kind::Generation(generation) if generation.grader != Grader::ExactMatch => {
                let grader = generation.grader;
                let key = generation.matching.as_ref().map(|_| "match");
                let key = key.or(generation.gold.as_ref().map(|_| "gold"))?;
                Some(format!(
                    "kind.generation.{key}: only the grader exact_match reads it, not {grader:?}"
                ))
            }
            _ => None,
        }
    }
}
