//! Runs of a task over a model, item by item. A run can be interrupted and resumed.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use serde_json::{Value, json};

use crate::data;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::kind::protocol;
use crate::outcome::Outcome;
use crate::place::Place;
use crate::protocol::{Item, Items, Protocol, Work};
use crate::results::{self, AppendFile, Line, RunSettings};
use crate::shard::{Selection, Shard};
use crate::task::Task;

/// The progress of a run.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Number of items done, including those of earlier runs.
    pub done: usize,
    /// Number of items in total.
    pub total: usize,
}

/// The items of a task. Their ids are distinct.
pub(crate) fn items(protocol: &dyn Protocol, place: Place<'_>) -> Result<Items> {
    let items = protocol.items(place)?;
    let mut seen = HashSet::new();
    match items.list.iter().map(|item| item.id()).find(|id| !seen.insert(*id)) {
        Some(id) => Err(Error::SameId { task: protocol.task().name.clone(), id: id.to_owned() }),
        None => Ok(items),
    }
}

/// Runs a task, or the rest of it if an earlier run had the same settings.
///
/// # Errors
/// The data are invalid, the folder has results with other settings or of a run in progress, the
/// model fails on an item, or the listener stops the run. Finished items are kept.
pub fn run(
    engine: &mut Engine,
    task: &Task,
    place: Place<'_>,
    selection: Selection,
    listen: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Outcome> {
    // A missing chat template is an error before anything is written.
    engine.template(false)?;
    let protocol = protocol(task);
    let items = items(protocol.as_ref(), place)?;
    let ids: Vec<&str> = items.list.iter().map(|item| item.id()).collect();
    let chosen = selection.choose(&ids);
    if chosen.is_empty() {
        return Err(Error::NoItems { task: task.name.clone() });
    }

    std::fs::create_dir_all(place.output).map_err(Error::io(place.output))?;
    let path = results::items_path(place.output, task);
    let mut file = AppendFile::open(&path)?;
    let hashes = data::hashes(task, place.data)?;
    let data_sha256 = data::fingerprint(&hashes);
    let mut identity = identity(engine, task, &data_sha256, &items);
    // Positions in results depend on it.
    identity["shuffle"] = selection.shuffle.into();
    let parts = vec![selection.shard.unwrap_or(Shard::WHOLE)];
    let requested = selection.count(ids.len());
    RunSettings { identity, items: requested, parts }.save(place.output, task)?;
    let mut done: HashMap<String, Line> = HashMap::new();
    for line in results::parse(&path, &file.lines()?)? {
        done.insert(line.id.clone(), line);
    }
    let mut lines: Vec<Option<Line>> = Vec::new();
    for &(_, index) in &chosen {
        let item = &items.list[index];
        let line = done.remove(item.id());
        if let Some(line) = &line {
            let (found, expected) = (&line.value["prompt_sha256"], item.prompt_sha256());
            if *found != *expected {
                let field = format!("prompt_sha256 of item {}", item.id());
                return Err(Error::OtherRun { path, field, found: found.to_string(), expected });
            }
        }
        lines.push(line);
    }
    let total = chosen.len();
    let mut count = lines.iter().flatten().count();
    let mut proceed = |count: usize| match listen(Progress { done: count, total }) {
        ControlFlow::Break(()) if count < total => Err(Error::Interrupted {
            task: task.name.clone(),
            done: count,
            total,
            what: "items",
            path: path.clone(),
        }),
        _ => Ok(()),
    };
    proceed(count)?;
    let missing: Vec<usize> = (0..total).filter(|&at| lines[at].is_none()).collect();
    let work: Vec<&dyn Item> =
        missing.iter().map(|&at| items.list[chosen[at].1].as_ref()).collect();
    answer_all(engine, task, &work, &mut |number, mut value| {
        let at = missing[number];
        value["index"] = chosen[at].0.into();
        file.append(&value)?;
        lines[at] = Some(Line { number: 0, id: work[number].id().to_owned(), value });
        count += 1;
        proceed(count)
    })?;
    let lines: Vec<Line> = lines.into_iter().flatten().collect();
    file.sync()?;
    let mut outcome = Outcome::of(protocol.as_ref(), path, &lines)?;
    outcome.data = hashes;
    outcome.data_sha256 = Some(data_sha256);
    if place.log_samples {
        let path = results::samples_path(place.output, task);
        let mut samples = chosen.iter().zip(&lines).map(|(&(_, index), line)| {
            let mut sample = line.value.clone();
            for (field, value) in items.list[index].asked(engine, &line.value)? {
                sample[field] = value;
            }
            Ok(sample)
        });
        results::replace(&path, &mut samples)?;
        outcome.samples = Some(path);
    }
    let mut proceed = |done, total| listen(Progress { done, total }).is_continue();
    if let Some(measured) = protocol.rate(place, &outcome.items, &lines, &mut proceed)? {
        outcome.measured = measured;
    }
    Ok(outcome)
}

/// Runs the model on items, and calls `take` with the number of each and a line of the results.
/// Texts are generated several at once; the other items run one after another.
fn answer_all(
    engine: &mut Engine,
    task: &Task,
    items: &[&dyn Item],
    take: &mut dyn FnMut(usize, Value) -> Result<()>,
) -> Result<()> {
    let failed = |number: usize, error| Error::Item {
        task: task.name.clone(),
        id: items[number].id().to_owned(),
        source: Box::new(error),
    };
    let (mut prompts, mut graders, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for (number, item) in items.iter().enumerate() {
        match item.work(engine)? {
            Work::Generate { prompt, limits, grade } => {
                prompts.push((prompt, limits));
                graders.push((number, grade));
            }
            Work::Answer(answer) => others.push((number, answer)),
        }
    }
    let mut fault = None;
    let generated = engine.generate(&prompts, |prompt, text| {
        let (number, grade) = &graders[prompt];
        match grade(text).and_then(|value| take(*number, value)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                fault = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    if let Some(error) = fault {
        return Err(error);
    }
    generated.map_err(|(prompt, error)| failed(graders[prompt].0, error))?;
    for (number, answer) in others {
        let value = answer(engine).map_err(|error| match error {
            Error::Model(source) => failed(number, source),
            error => error,
        })?;
        take(number, value)?;
    }
    Ok(())
}

/// Everything that the results of a run depend on.
fn identity(engine: &Engine, task: &Task, data_sha256: &str, items: &Items) -> Value {
    let mut identity = json!({
        "task": task.name,
        "data_sha256": data_sha256,
        "model_sha256": engine.model_sha256(),
        "engine": concat!("trilobite ", env!("CARGO_PKG_VERSION")),
        "shots": task.shots,
        "settings": engine.settings(),
    });
    // The version of the engine determines the definitions of built-in tasks.
    if task.is_own() {
        identity["task_sha256"] = task.sha256.clone().into();
    }
    for (&field, value) in &items.identity {
        identity[field] = value.clone();
    }
    identity
}
