//! A task's run over a model: item by item into a file, so that it can be broken off.

use std::collections::{BTreeMap, HashMap};
use std::fs::OpenOptions;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::choice::{self, Question};
use crate::conversation::{self, Conversation, JudgeServer, Ratings};
use crate::data;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::generation::{self, Prompt};
use crate::grade::{self, Judge, SandboxLayer};
use crate::metrics::Metric;
use crate::rolling::{self, Page};
use crate::task::{Grader, Kind, Task};

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
    /// The folder of the results: `NAME.jsonl` and `NAME.settings.json` for each task.
    pub output: &'a Path,
}

/// Every `count`-th item, from item `index` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which part, from 0.
    pub index: usize,
    /// The number of parts.
    pub count: usize,
}

impl std::str::FromStr for Shard {
    type Err = String;

    /// `i/n`, `i` from 1.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parts = text.split_once('/').and_then(|(index, count)| {
            Some((index.parse::<usize>().ok()?, count.parse::<usize>().ok()?))
        });
        match parts {
            Some((index, count)) if (1..=count).contains(&index) => {
                Ok(Shard { index: index - 1, count })
            }
            _ => Err(format!("{text:?} is not a part such as 1/4")),
        }
    }
}

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Items done, those of earlier runs included.
    pub done: usize,
    /// Items to do.
    pub total: usize,
}

/// What a run measured.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Number of items.
    pub n: usize,
    /// The metrics; none where the answers were not judged.
    pub metrics: BTreeMap<String, Metric>,
    /// The items' file.
    pub items: PathBuf,
    /// Why nothing was measured.
    pub not_run: Option<&'static str>,
}

/// The items of a task.
enum Items {
    Choice(Vec<Question>),
    Rolling(Vec<Page>),
    Generation(Vec<Prompt>, Box<dyn Judge>),
    Conversation(Vec<Conversation>, Option<Box<Ratings>>),
}

/// Why answers that only another model can rate have no score.
const NO_JUDGE: &str = "no judge was given (--judge-url)";
/// What follows a task's name in the name of the file of its judgments.
const JUDGMENTS: &str = ".judgments.jsonl";

impl Items {
    fn read(task: &Task, place: Place<'_>) -> Result<Self> {
        Ok(match &task.kind {
            Kind::Choice(choice) => {
                Items::Choice(choice::questions(task, choice, place.data, place.any_data)?)
            }
            Kind::Rolling {} => Items::Rolling(rolling::pages(task, place.data, place.any_data)?),
            Kind::Generation(generation) => {
                if generation.grader == Grader::HumanevalPlus && !place.untrusted_code {
                    return Err(Error::Untrusted { task: task.name.clone() });
                }
                let prompts = generation::prompts(task, generation, place.data, place.any_data)?;
                Items::Generation(
                    prompts,
                    grade::judge(generation.grader, place.python, place.sandbox_allow_missing)?,
                )
            }
            Kind::Conversation(definition) => {
                let (data, any) = (place.data, place.any_data);
                let ratings = place.judge.map(|_| Ratings::new(task, data, any)).transpose()?;
                let items = conversation::conversations(task, definition, data, any)?;
                Items::Conversation(items, ratings.map(Box::new))
            }
        })
    }

    fn ids(&self) -> Vec<&str> {
        match self {
            Items::Choice(items) => items.iter().map(|item| item.id.as_str()).collect(),
            Items::Rolling(items) => items.iter().map(|item| item.id.as_str()).collect(),
            Items::Generation(items, _) => items.iter().map(|item| item.id.as_str()).collect(),
            Items::Conversation(items, _) => items.iter().map(|item| item.id.as_str()).collect(),
        }
    }

    fn run(&self, engine: &mut Engine, task: &Task, index: usize) -> Result<Value> {
        Ok(match (self, &task.kind) {
            (Items::Choice(items), _) => json!(choice::answer(engine, &items[index])?),
            (Items::Rolling(items), _) => json!(rolling::score(engine, &items[index])?),
            (Items::Generation(items, judge), Kind::Generation(generation)) => {
                json!(generation::answer(engine, generation, judge.as_ref(), &items[index])?)
            }
            (Items::Conversation(items, _), Kind::Conversation(definition)) => {
                json!(conversation::answer(engine, definition, &items[index])?)
            }
            // `read` makes the items of the task's own kind.
            (Items::Generation(..) | Items::Conversation(..), _) => Value::Null,
        })
    }
}

/// The metrics of a task's result lines, given with their line numbers in `path`.
fn metrics(task: &Task, path: &Path, lines: &[Line]) -> Result<BTreeMap<String, Metric>> {
    Ok(match &task.kind {
        Kind::Choice(_) => choice::metrics(task, &typed(path, lines)?),
        Kind::Rolling {} => rolling::metrics(&typed(path, lines)?),
        Kind::Generation(_) => generation::metrics(task, &typed(path, lines)?),
        Kind::Conversation(_) => BTreeMap::new(),
    })
}

fn typed<T: serde::de::DeserializeOwned>(path: &Path, lines: &[Line]) -> Result<Vec<T>> {
    let parse = |line: &Line| {
        serde_json::from_value(line.value.clone()).map_err(|error| Error::Record {
            path: path.to_owned(),
            line: line.number,
            message: error.to_string(),
        })
    };
    lines.iter().map(parse).collect()
}

/// A line of results.
#[derive(Clone)]
struct Line {
    number: usize,
    id: String,
    value: Value,
}

/// Runs a task, or what an earlier run of the same settings left of it.
///
/// # Errors
/// Data, results of another run in the way, an item that the model cannot do, or the listener broke
/// off; what was done is kept.
pub fn run(
    engine: &mut Engine,
    task: &Task,
    place: Place<'_>,
    limit: Option<usize>,
    shard: Option<Shard>,
    listen: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Outcome> {
    let items = Items::read(task, place)?;
    let ids = items.ids();
    let mut chosen: Vec<usize> = (0..ids.len()).take(limit.unwrap_or(usize::MAX)).collect();
    if let Some(shard) = shard {
        chosen.retain(|index| index % shard.count == shard.index);
    }

    std::fs::create_dir_all(place.output).map_err(Error::io(place.output))?;
    check_settings(place.output, task, &identity(engine, task, place))?;
    let path = place.output.join(format!("{}.jsonl", task.name));
    let mut done: HashMap<String, Line> = HashMap::new();
    for line in finished(&path)? {
        done.insert(line.id.clone(), line);
    }
    let mut file =
        OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io(&path))?;
    let mut lines = Vec::new();
    for (count, &index) in chosen.iter().enumerate() {
        if listen(Progress { done: count, total: chosen.len() }).is_break() {
            return Err(Error::Interrupted);
        }
        let line = match done.remove(ids[index]) {
            Some(line) => line,
            None => {
                let value = items.run(engine, task, index).map_err(|error| match error {
                    Error::Model(source) => Error::Item {
                        task: task.name.clone(),
                        id: ids[index].to_owned(),
                        source: Box::new(source),
                    },
                    error => error,
                })?;
                // One write a line: a run that is killed leaves at most the last one torn.
                file.write_all(format!("{value}\n").as_bytes()).map_err(Error::io(&path))?;
                Line { number: 0, id: ids[index].to_owned(), value }
            }
        };
        lines.push(line);
    }
    file.sync_all().map_err(Error::io(&path))?;
    let _ = listen(Progress { done: chosen.len(), total: chosen.len() });
    let mut outcome = outcome(task, path, &lines)?;
    if let (Items::Conversation(items, Some(ratings)), Kind::Conversation(definition)) =
        (&items, &task.kind)
        && let Some(server) = place.judge
    {
        let answers = typed(&outcome.items, &lines)?;
        let held: Vec<_> = chosen.iter().map(|&index| &items[index]).zip(answers).collect();
        let path = place.output.join(format!("{}{JUDGMENTS}", task.name));
        let mut proceed = |done, total| listen(Progress { done, total }).is_continue();
        outcome.metrics =
            conversation::judged(ratings, definition, &held, server, &path, &mut proceed)?;
        outcome.not_run = None;
    }
    Ok(outcome)
}

/// What the result lines of a task say.
fn outcome(task: &Task, items: PathBuf, lines: &[Line]) -> Result<Outcome> {
    let not_run = matches!(task.kind, Kind::Conversation(_)).then_some(NO_JUDGE);
    Ok(Outcome { n: lines.len(), metrics: metrics(task, &items, lines)?, items, not_run })
}

/// Grades answers that were given elsewhere: a file of lines `{"id", "output"}`.
///
/// # Errors
/// The task is not graded, data or answers cannot be read, or an answer has an unknown id.
pub fn grade(task: &Task, place: Place<'_>, answers: &Path) -> Result<Outcome> {
    let Items::Generation(prompts, judge) = Items::read(task, place)? else {
        let message = "its answers are not graded, there is nothing to compare".to_owned();
        return Err(Error::Definition { task: task.name.clone(), message });
    };
    let text = std::fs::read_to_string(answers).map_err(Error::io(answers))?;
    let fault = |line: usize, message: String| Error::Record {
        path: answers.to_owned(),
        line: line + 1,
        message,
    };
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let answer: Answer =
            serde_json::from_str(line).map_err(|error| fault(number, error.to_string()))?;
        let prompt = prompts.iter().find(|prompt| prompt.id == answer.id);
        let prompt = prompt.ok_or_else(|| fault(number, format!("no item {:?}", answer.id)))?;
        let value = json!(generation::graded(judge.as_ref(), prompt, answer.output, answer.chat)?);
        lines.push(Line { number, id: answer.id, value });
    }
    finish(task, place.output, &lines)
}

/// An answer that was given elsewhere.
#[derive(serde::Deserialize)]
struct Answer {
    id: String,
    output: String,
    /// Whether it was given in a chat, or continues the prompt.
    chat: Option<bool>,
}

/// Writes all lines of a task's results and measures them.
fn finish(task: &Task, output: &Path, lines: &[Line]) -> Result<Outcome> {
    std::fs::create_dir_all(output).map_err(Error::io(output))?;
    let items = output.join(format!("{}.jsonl", task.name));
    let text: String = lines.iter().map(|line| format!("{}\n", line.value)).collect();
    std::fs::write(&items, text).map_err(Error::io(&items))?;
    outcome(task, items, lines)
}

/// Puts the results of a task's parts together.
///
/// # Errors
/// A part cannot be read, the parts were run with different settings, or an item is in two of them
/// with different results.
pub fn merge(task: &Task, parts: &[PathBuf], output: &Path) -> Result<Outcome> {
    std::fs::create_dir_all(output).map_err(Error::io(output))?;
    let mut all: BTreeMap<String, Line> = BTreeMap::new();
    for part in parts {
        let settings = part.join(format!("{}.settings.json", task.name));
        let text = std::fs::read_to_string(&settings).map_err(Error::io(&settings))?;
        let settings = serde_json::from_str(&text).map_err(|error| Error::Record {
            path: settings,
            line: error.line(),
            message: error.to_string(),
        })?;
        check_settings(output, task, &settings)?;
        for line in finished(&part.join(format!("{}.jsonl", task.name)))? {
            if let Some(other) = all.get(&line.id).filter(|other| other.value != line.value) {
                let message = format!("item {} has two results", other.id);
                return Err(Error::Merge { task: task.name.clone(), message });
            }
            all.insert(line.id.clone(), line);
        }
    }
    finish(task, output, &all.into_values().collect::<Vec<_>>())
}

/// What the results of a run depend on.
fn identity(engine: &Engine, task: &Task, place: Place<'_>) -> Value {
    let mut identity = json!({
        "task": task.name,
        "model_sha256": engine.model_sha256(),
        "engine": concat!("trilobite ", env!("CARGO_PKG_VERSION")),
        "shots": task.shots,
        "settings": engine.settings(),
    });
    if matches!(&task.kind, Kind::Generation(kind) if kind.grader == Grader::Math) {
        identity["equality"] = if place.python.is_some() { "sympy" } else { "own" }.into();
    }
    identity
}

/// Writes the settings of a run, or compares them with those that are there.
fn check_settings(folder: &Path, task: &Task, expected: &Value) -> Result<()> {
    let path = folder.join(format!("{}.settings.json", task.name));
    let Ok(text) = std::fs::read_to_string(&path) else {
        return std::fs::write(&path, format!("{expected:#}\n")).map_err(Error::io(&path));
    };
    let found: Value = serde_json::from_str(&text).unwrap_or_default();
    let fields = expected.as_object().into_iter().flatten();
    for (field, value) in fields {
        if found.get(field) != Some(value) {
            let found = found.get(field).map_or("missing".into(), Value::to_string);
            let (field, expected) = (field.clone(), value.to_string());
            return Err(Error::OtherRun { path, field, found, expected });
        }
    }
    Ok(())
}

/// The finished lines of a results file.
fn finished(path: &Path) -> Result<Vec<Line>> {
    let text = data::whole_lines(path)?;
    let parse = |(index, line): (usize, &str)| {
        let value: Option<Value> = serde_json::from_str(line).ok();
        let id = value.as_ref().and_then(|value| Some(value.get("id")?.as_str()?.to_owned()));
        match (value, id) {
            (Some(value), Some(id)) => Ok(Line { number: index + 1, id, value }),
            _ => Err(Error::Record {
                path: path.to_owned(),
                line: index + 1,
                message: "not a result".to_owned(),
            }),
        }
    };
    text.lines().enumerate().map(parse).collect()
}
