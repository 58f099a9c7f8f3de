//! What a task is: its definition as data.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Error, Result};

/// The definitions in `tasks/`, by name.
const TASKS: [(&str, &str); 18] = {
    macro_rules! task {
        ($name:literal) => {
            ($name, include_str!(concat!("../tasks/", $name, ".toml")))
        };
    }
    [
        task!("arc_challenge"),
        task!("arc_easy"),
        task!("openbookqa"),
        task!("boolq"),
        task!("hellaswag"),
        task!("piqa"),
        task!("winogrande"),
        task!("commonsense_qa"),
        task!("truthfulqa_mc1"),
        task!("truthfulqa_mc2"),
        task!("mmlu"),
        task!("wikitext"),
        task!("triviaqa"),
        task!("gsm8k"),
        task!("ifeval"),
        task!("math500"),
        task!("humaneval_plus"),
        task!("mt_bench"),
    ]
};

/// A benchmark task.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Its name on the command line.
    #[serde(skip)]
    pub name: String,
    /// Its name in tables.
    pub title: String,
    /// The split of the data set.
    pub split: String,
    /// Items of the whole task.
    pub items: usize,
    /// Licence of the data, as its authors state it.
    pub licence: String,
    /// Whose protocol this is.
    pub protocol: String,
    /// What is measured, the most quoted first.
    pub metrics: Vec<String>,
    /// Examples before each item.
    #[serde(default)]
    pub shots: usize,
    /// Names under which the same task runs with another number of examples.
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
    /// The GitHub repository that it was taken from.
    pub repository: String,
    /// The commit.
    pub revision: String,
    /// The path there.
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
    pub category: String,
    /// SHA-256 of its files, in the order of [`Task::data`].
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
    /// Template of the prompt for a model without a chat template; the question without it.
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
}

/// How an answer is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grader {
    /// Any alias, without case and punctuation.
    Triviaqa,
    /// The number after `####`, or the last number.
    Gsm8k,
    /// Instructions that can be checked.
    Ifeval,
    /// The final answer of a solution.
    Math,
    /// Python, run against tests in a sandbox.
    HumanevalPlus,
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
    #[serde(default = "blank_choice")]
    pub continuation: String,
    /// Expression for the number of the right choice, or a list with 1 for right and 0 for wrong.
    pub gold: String,
}

fn index() -> String {
    "{% if group %}{{ group }}/{% endif %}{{ index }}".to_owned()
}

fn blank_choice() -> String {
    " {{ choice }}".to_owned()
}

impl Task {
    /// The names of all tasks, variants included.
    pub fn names() -> Vec<String> {
        let mut names = Vec::new();
        for (name, _) in TASKS {
            names.push(name.to_owned());
            if let Ok(task) = Task::named(name) {
                names.extend(task.variants.into_keys());
            }
        }
        names
    }

    /// The task of a name.
    ///
    /// # Errors
    /// There is none.
    pub fn named(name: &str) -> Result<Task> {
        for (base, definition) in TASKS {
            let known = base == name || name.starts_with(base);
            if !known {
                continue;
            }
            let mut task: Task = toml::from_str(definition).map_err(|error| Error::Definition {
                task: base.into(),
                message: error.to_string(),
            })?;
            let shots = task.variants.get(name).copied();
            if base == name || shots.is_some() {
                task.name = name.to_owned();
                task.shots = shots.unwrap_or(task.shots);
                return Ok(task);
            }
        }
        Err(Error::UnknownTask { name: name.to_owned(), known: Task::names().join(", ") })
    }
}
