//! The definition of a task, as data.

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
    /// The name on the command line: the name of the file, with the number of examples if that is
    /// part of the name.
    #[serde(skip)]
    pub name: String,
    /// The folder of the definition and its data, unless it is built in.
    #[serde(skip)]
    pub folder: Option<PathBuf>,
    /// The file of the definition, unless it is built in.
    #[serde(skip)]
    pub path: Option<PathBuf>,
    /// SHA-256 of the definition.
    #[serde(skip)]
    pub sha256: String,
    /// The version of the definition. Scores of different versions are not comparable.
    #[serde(default = "first_version")]
    pub version: u32,
    /// The display name.
    #[serde(default)]
    pub title: String,
    /// The split of the data set.
    #[serde(default)]
    pub split: String,
    /// Number of items of the whole task; 0 if unknown.
    #[serde(default)]
    pub items: usize,
    /// Licence of the data, as its authors state it.
    #[serde(default)]
    pub licence: String,
    /// The source of the protocol.
    #[serde(default)]
    pub protocol: String,
    /// The metrics, the most quoted first.
    pub metrics: Vec<String>,
    /// Number of examples before each item.
    #[serde(default)]
    pub shots: usize,
    /// How examples are selected.
    #[serde(default)]
    pub sampler: Sampler,
    /// Additional names under which the task appears in lists, with other numbers of examples.
    #[serde(default)]
    pub variants: BTreeMap<String, usize>,
    /// Template of a text before the examples.
    #[serde(default)]
    pub description: String,
    /// The data files.
    pub data: Vec<DataFile>,
    /// Groups: parts of the task with their own files, such as the subjects of MMLU.
    #[serde(default)]
    pub groups: BTreeMap<String, Group>,
    /// How an item is run and judged.
    pub kind: Kind,
}

/// How the examples before an item are selected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// Random for each item, the same as lm-evaluation-harness draws with its seed of 1234.
    #[default]
    Random,
    /// The first ones of the file.
    FirstN,
}

/// A data file of a task. `{group}` in a name or path is replaced by each group's name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataFile {
    /// The path in the data folder. The file there may be compressed, with `.gz` or `.bz2` added.
    pub file: String,
    /// The format of the file.
    pub format: Format,
    /// The role of the file.
    #[serde(default)]
    pub role: Role,
    /// SHA-256 of the original as published or after unpacking.
    pub sha256: Option<String>,
    /// The GitHub repository of the original; empty if there is none.
    #[serde(default)]
    pub repository: String,
    /// The commit.
    #[serde(default)]
    pub revision: String,
    /// The path in the repository.
    #[serde(default)]
    pub path: String,
    /// Whether the file was derived from the one at `path`.
    #[serde(default)]
    pub rebuilt: bool,
}

/// The format of a data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A JSON object per line.
    Jsonl,
    /// One JSON array of objects.
    Json,
    /// Comma-separated values with a header.
    Csv,
    /// Tab-separated values with a header, without quoting.
    Tsv,
    /// A value per line, as the field `label`.
    Lines,
    /// Six lines per record, as the field `lines`.
    Lines6,
    /// The whole file, as the field `text`.
    Text,
}

/// The role of a data file.
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
    /// Read by the code of the task's kind.
    Other,
}

/// A part of a task.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The category over whose groups a further mean is taken.
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
    /// Multiple choice: the most likely continuation is the answer.
    Choice(Choice),
    /// Rolling likelihood of whole texts.
    Rolling {},
    /// Generation: a grader judges the generated answer.
    Generation(Generation),
    /// Conversation: another model rates the answers to two questions in a row.
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

    /// The metrics that the kind supports.
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

/// A task of conversations. Records have a `question_id`, a `category` and two `turns`. The second
/// data file has the judge's prompts, the third the reference answers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conversation {
    /// Maximum number of tokens of an answer.
    pub max_tokens: usize,
    /// The sampling temperature of each category.
    pub temperatures: BTreeMap<String, f32>,
    /// Categories whose answers are rated against a reference answer.
    pub referenced: Vec<String>,
}

/// A generation task: templates over a record's fields as in [`Choice`], and the end of an answer.
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
    /// Template of the question for a model without a chat template, if it differs.
    #[serde(default)]
    pub plain: Option<String>,
    /// The beginning of the answer in a chat, which the model continues.
    #[serde(default)]
    pub begun: String,
    /// Stop strings.
    #[serde(default)]
    pub stop: Vec<String>,
    /// Additional stop strings in a chat.
    #[serde(default)]
    pub chat_stop: Vec<String>,
    /// Additional stop strings without a chat template.
    #[serde(default)]
    pub plain_stop: Vec<String>,
    /// Maximum number of tokens of an answer.
    pub max_tokens: usize,
    /// The grader of answers.
    pub grader: Grader,
    /// Expression for the right answer, which the grader gets as the record's field `gold`.
    #[serde(default)]
    pub gold: Option<String>,
    /// How [`Grader::ExactMatch`] compares.
    #[serde(default, rename = "match")]
    pub matching: Option<Matching>,
}

/// A multiple-choice task. Its templates and expressions (Jinja) see the record's fields, the
/// record itself as `this`, its index from 0 as `index`, and the group's name as `group`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// Template of the item's id.
    #[serde(default = "index")]
    pub id: String,
    /// Template of the context. It is rendered for each `choice`.
    pub context: String,
    /// Expression for the choices, a list of strings.
    pub choices: String,
    /// Template of the continuation for `choice`.
    #[serde(default = "space_choice")]
    pub continuation: String,
    /// Expression for the index of the right choice, or for a list with 1 for right and 0 for
    /// wrong.
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
    /// Whether the definition is not built in.
    pub fn is_own(&self) -> bool {
        self.folder.is_some()
    }

    /// The first error of a definition that its types do not exclude.
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
            Kind::Generation(Generation { max_tokens: 0, .. })
            | Kind::Conversation(Conversation { max_tokens: 0, .. }) => {
                let kind = self.kind.name();
                Some(format!("kind.{kind}.max_tokens is 0, expected at least 1"))
            }
            Kind::Generation(generation) if generation.grader != Grader::ExactMatch => {
                let grader = generation.grader;
                let key = generation.matching.as_ref().map(|_| "match");
                let key = key.or(generation.gold.as_ref().map(|_| "gold"))?;
                Some(format!(
                    "kind.generation.{key}: only the grader exact_match reads it, not {grader:?}"
                ))
            }
            Kind::Generation(generation) => {
                let fault = generation.matching.as_ref().and_then(Matching::fault)?;
                Some(format!("kind.generation.match.pattern: {fault}"))
            }
            _ => None,
        }
    }
}
