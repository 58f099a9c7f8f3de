//! A task's run over a model: item by item into a file, so that it can be broken off.

use std::collections::{BTreeMap, HashMap, HashSet};
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
use crate::results::{self, Appended, Line, RunSettings};
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shard {
    /// Which part, from 0.
    pub index: usize,
    /// The number of parts.
    pub count: usize,
}

impl Shard {
    /// Whether an item belongs to this part.
    pub(crate) fn holds(self, item: usize) -> bool {
        item % self.count == self.index
    }
}

impl std::fmt::Display for Shard {
    /// As it is parsed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index + 1, self.count)
    }
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
    /// Which items of a merged task are missing.
    pub missing: Option<String>,
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
    /// The items, which have different ids.
    fn read(task: &Task, place: Place<'_>) -> Result<Self> {
        let items = Self::of_any_id(task, place)?;
        let mut seen = HashSet::new();
        match items.ids().into_iter().find(|id| !seen.insert(*id)) {
            Some(id) => Err(Error::SameId { task: task.name.clone(), id: id.to_owned() }),
            None => Ok(items),
        }
    }

    fn of_any_id(task: &Task, place: Place<'_>) -> Result<Self> {
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

    fn prompt_sha256(&self, index: usize) -> String {
        match self {
            Items::Choice(items) => items[index].prompt_sha256(),
            Items::Rolling(items) => items[index].prompt_sha256(),
            Items::Generation(items, _) => items[index].prompt_sha256(),
            Items::Conversation(items, _) => items[index].prompt_sha256(),
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

/// Runs a task, or what an earlier run of the same settings left of it.
///
/// # Errors
/// Data, results of another run in the way, an item that the model cannot do, or the listener broke
/// off; what was done is kept. Another run is at work on the same results.
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
        chosen.retain(|&index| shard.holds(index));
    }

    if chosen.is_empty() {
        return Err(Error::NoItems { task: task.name.clone() });
    }

    std::fs::create_dir_all(place.output).map_err(Error::io(place.output))?;
    let path = results::items_path(place.output, task);
    let mut file = Appended::open(&path)?;
    let settings = RunSettings {
        identity: identity(engine, task, place, &items)?,
        items: ids.len().min(limit.unwrap_or(usize::MAX)),
        parts: vec![shard.unwrap_or(Shard { index: 0, count: 1 })],
    };
    settings.note(place.output, task)?;
    let mut done: HashMap<String, Line> = HashMap::new();
    for line in results::parse(&path, &file.lines()?)? {
        done.insert(line.id.clone(), line);
    }
    let mut lines = Vec::new();
    for (count, &index) in chosen.iter().enumerate() {
        if listen(Progress { done: count, total: chosen.len() }).is_break() {
            return Err(Error::Interrupted {
                task: task.name.clone(),
                done: count,
                total: chosen.len(),
                what: "items",
                path,
            });
        }
        let line = match done.remove(ids[index]) {
            Some(line) => {
                let (found, expected) = (&line.value["prompt_sha256"], items.prompt_sha256(index));
                if *found != *expected {
                    let field = format!("prompt_sha256 of item {}", ids[index]);
                    let found = found.to_string();
                    return Err(Error::OtherRun { path, field, found, expected });
                }
                line
            }
            None => {
                let mut value = items.run(engine, task, index).map_err(|error| match error {
                    Error::Model(source) => Error::Item {
                        task: task.name.clone(),
                        id: ids[index].to_owned(),
                        source: Box::new(source),
                    },
                    error => error,
                })?;
                value["index"] = index.into();
                file.append(&value)?;
                Line { number: 0, id: ids[index].to_owned(), value }
            }
        };
        lines.push(line);
    }
    file.sync()?;
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
            conversation::judged(ratings, (task, definition), &held, server, &path, &mut proceed)?;
        outcome.not_run = None;
    }
    Ok(outcome)
}

/// What the result lines of a task say.
pub(crate) fn outcome(task: &Task, items: PathBuf, lines: &[Line]) -> Result<Outcome> {
    let not_run = matches!(task.kind, Kind::Conversation(_)).then_some(NO_JUDGE);
    let metrics = metrics(task, &items, lines)?;
    Ok(Outcome { n: lines.len(), metrics, items, not_run, missing: None })
}

/// Grades answers that were given elsewhere: a file of lines `{"id", "output"}`. Every answer has a
/// verdict; for a score, an item has one answer.
///
/// # Errors
/// The task is not graded, data or answers cannot be read, an answer has an unknown id, or an item
/// has two answers.
pub fn grade(task: &Task, place: Place<'_>, answers: &Path) -> Result<Outcome> {
    let items = Items::read(task, place)?;
    let Items::Generation(prompts, judge) = &items else {
        let message = "its answers are not graded, there is nothing to compare".to_owned();
        return Err(Error::Definition { task: task.name.clone(), message });
    };
    let places: HashMap<&str, usize> = items.ids().into_iter().zip(0..).collect();
    let text = std::fs::read_to_string(answers).map_err(Error::io(answers))?;
    let fault =
        |line: usize, message: String| Error::Record { path: answers.to_owned(), line, message };
    let (mut lines, mut answered, mut twice) = (Vec::new(), HashSet::new(), None);
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let answer: Answer =
            serde_json::from_str(line).map_err(|error| fault(number, error.to_string()))?;
        let index = places.get(answer.id.as_str());
        let index = *index.ok_or_else(|| fault(number, format!("no item {:?}", answer.id)))?;
        if !answered.insert(index) {
            let message = format!("another answer to item {:?}", answer.id);
            twice.get_or_insert_with(|| fault(number, message));
        }
        let prompt = &prompts[index];
        let graded = generation::graded(judge.as_ref(), prompt, answer.output, answer.chat)?;
        let mut value = json!(graded);
        value["index"] = index.into();
        lines.push(Line { number, id: answer.id, value });
    }
    if lines.is_empty() {
        return Err(Error::NoItems { task: task.name.clone() });
    }
    std::fs::create_dir_all(place.output).map_err(Error::io(place.output))?;
    let identity = json!({"task": task.name, "answers": true});
    RunSettings { identity, items: 0, parts: Vec::new() }.note(place.output, task)?;
    let path = results::items_path(place.output, task);
    results::replace(&path, lines.iter().map(|line| &line.value))?;
    twice.map_or_else(|| outcome(task, path, &lines), Err)
}

/// An answer that was given elsewhere.
#[derive(serde::Deserialize)]
struct Answer {
    id: String,
    output: String,
    /// Whether it was given in a chat, or continues the prompt.
    chat: Option<bool>,
}

/// What the results of a run depend on.
fn identity(engine: &Engine, task: &Task, place: Place<'_>, items: &Items) -> Result<Value> {
    let mut identity = json!({
        "task": task.name,
        "data_sha256": data::fingerprint(task, place.data)?,
        "model_sha256": engine.model_sha256(),
        "engine": concat!("trilobite ", env!("CARGO_PKG_VERSION")),
        "shots": task.shots,
        "settings": engine.settings(),
    });
    if let Items::Generation(_, judge) = items
        && let Some(equality) = judge.equality()
    {
        identity["equality"] = equality.into();
    }
    Ok(identity)
}
