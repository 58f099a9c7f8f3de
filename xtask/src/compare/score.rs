//! Scores: `trilobite eval`, task by task.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Args;
use super::plan::Plan;
use super::process::{self, Pulls};
use super::row::{Cell, Row};
use super::subject::{Kind, Subject, safe};

/// The tasks that take seconds with a small model: those whose answers are chosen, not written.
pub(super) const DEFAULT_TASKS: [&str; 10] = [
    "arc_challenge",
    "arc_easy",
    "openbookqa",
    "boolq",
    "hellaswag",
    "piqa",
    "winogrande",
    "commonsense_qa",
    "truthfulqa_mc2",
    "mmlu",
];

/// The rows of the published table: the name there, the task, and the metric that the cells are.
const ROWS: [(&str, &str, &str); 16] = [
    ("arc_challenge", "arc_challenge", "acc_norm"),
    ("arc_easy", "arc_easy", "acc_norm"),
    ("openbookqa", "openbookqa", "acc_norm"),
    ("boolq", "boolq", "acc"),
    ("hellaswag", "hellaswag", "acc_norm"),
    ("piqa", "piqa", "acc_norm"),
    ("winogrande", "winogrande", "acc"),
    ("commonsenseqa", "commonsense_qa", "acc"),
    ("truthfulqa", "truthfulqa_mc2", "mc2"),
    ("triviaqa", "triviaqa", "exact_match"),
    ("mmlu", "mmlu", "acc"),
    ("humaneval_plus", "humaneval_plus", "pass_at_1"),
    ("gsm8k", "gsm8k", "exact_match"),
    ("math_500", "math500", "accuracy"),
    ("ifeval", "ifeval", "inst_level_strict"),
    ("mt_bench", "mt_bench", "rating"),
];

/// A row of the table of scores.
#[derive(Clone, Serialize)]
pub(super) struct Task {
    /// Its name in `published.scores` of models.toml.
    pub(super) key: String,
    /// Its name for `trilobite eval`.
    pub(super) name: String,
    pub(super) title: String,
    pub(super) metric: String,
    /// Items of the whole task.
    pub(super) items: Option<usize>,
    pub(super) asked: bool,
}

impl Task {
    /// A value as the table shows it: in percent, but for MT-bench's marks from 1 to 10.
    fn shown(&self, value: f64) -> f64 {
        if self.key == "mt_bench" { value } else { 100.0 * value }
    }
}

/// A measured score, in the table's unit.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Score {
    pub(super) value: f64,
    pub(super) stderr: Option<f64>,
    pub(super) n: usize,
}

/// What is needed of a task's definition.
#[derive(Deserialize)]
struct Definition {
    title: String,
    items: usize,
    metrics: Vec<String>,
}

/// The tasks of the published table.
pub(super) fn published_tasks() -> Vec<String> {
    ROWS.iter().map(|(_, name, _)| (*name).to_owned()).collect()
}

/// The table's tasks, and others that were asked for.
pub(super) fn tasks(asked: &[String]) -> Result<Vec<Task>> {
    let folder = crate::root().join("crates/trilobite-eval/tasks");
    let define = |key: &str, name: &str, metric: Option<&str>| -> Result<Task> {
        let path = folder.join(format!("{name}.toml"));
        // A variant, such as mmlu_5shot, is defined with its task.
        let base = folder.join(format!("{}.toml", name.rsplit_once('_').map_or(name, |(b, _)| b)));
        let path = if path.exists() || metric.is_some() { path } else { base };
        let definition: Option<Definition> = match std::fs::read_to_string(&path) {
            Ok(text) => Some(toml::from_str(&text).with_context(|| path.display().to_string())?),
            Err(_) if metric.is_some() => None,
            Err(error) => bail!("--tasks: {name}: {}: {error}", path.display()),
        };
        let first = definition.as_ref().and_then(|known| known.metrics.first());
        let metric = metric.map(str::to_owned).or_else(|| first.cloned());
        Ok(Task {
            key: key.to_owned(),
            name: name.to_owned(),
            title: definition.as_ref().map_or_else(|| name.to_owned(), |known| known.title.clone()),
            metric: metric.unwrap_or_default(),
            items: definition.map(|known| known.items),
            asked: asked.iter().any(|other| other == name),
        })
    };
    let mut tasks: Vec<Task> = Vec::new();
    for (key, name, metric) in ROWS {
        tasks.push(define(key, name, Some(metric))?);
    }
    for name in asked {
        if tasks.iter().all(|task| task.name != *name) {
            tasks.push(define(name, name, None)?);
        }
    }
    Ok(tasks)
}

/// Fetches the data of the tasks, unless a folder was given. What cannot be fetched is returned, by
/// task, and said by the cells that need it.
pub(super) fn fetch(binary: &Path, args: &Args, tasks: &[Task]) -> BTreeMap<String, String> {
    let mut failures = BTreeMap::new();
    let mut pulls = Pulls::default();
    let asked = tasks.iter().filter(|task| task.asked);
    for task in asked.filter(|_| args.data.is_none() && !args.no_fetch) {
        let mut pull = Command::new(binary);
        pull.args(["pull", "--quiet", "--data", &task.name]);
        if let Err(error) = pulls.run(&mut pull) {
            let why = format!("{error:#}");
            let said = failures.values().any(|other| *other == why);
            eprintln!("data of {}: {}", task.name, if said { "the same" } else { &why });
            failures.insert(task.name.clone(), why);
        }
    }
    failures
}

/// Scores a row on every task.
pub(super) fn row(
    binary: &Path,
    args: &Args,
    plan: &Plan,
    subject: &Subject,
    row: &mut Row,
    unfetched: &BTreeMap<String, String>,
) {
    for task in &plan.tasks {
        let cell = match (&row.score, &subject.kind) {
            (Err(why), _) => Cell::NotRun(why.clone()),
            _ if !task.asked => Cell::NotRun("not among --tasks".to_owned()),
            (Ok(()), Ok(Kind::Model(model))) => {
                eprintln!("{}: {}", subject.name, task.name);
                let id = row.sha256.as_deref().and_then(|hash| hash.get(..8)).unwrap_or("model");
                let folder = args.output.join("eval").join(format!("{}-{id}", safe(&row.name)));
                let score = one(binary, args, plan, task, model.as_deref(), &folder);
                score.map_err(|error| without_data(error, unfetched.get(&task.name))).into()
            }
            (Ok(()), Ok(Kind::Peer(_))) => Cell::NotRun("a peer is not scored".to_owned()),
            (Ok(()), Err(why)) => Cell::NotRun(why.clone()),
        };
        row.scores.insert(task.key.clone(), cell);
    }
}

/// Why a task was not scored: what its data could not be fetched for, where that is the reason.
fn without_data(error: anyhow::Error, reason: Option<&String>) -> anyhow::Error {
    let text = format!("{error:#}");
    let missing = ["no such data file", "--data is missing"].iter().any(|part| text.contains(part));
    match reason.filter(|_| missing) {
        Some(reason) => anyhow!("its data could not be fetched: {reason}"),
        None => error,
    }
}

fn one(
    binary: &Path,
    args: &Args,
    plan: &Plan,
    task: &Task,
    model: Option<&Path>,
    folder: &Path,
) -> Result<Score> {
    let mut eval = Command::new(binary);
    eval.arg("eval")
        .args(model)
        .args(["--tasks", &task.name, "--json", "--quiet", "-o"])
        .arg(folder);
    eval.args(["-t", &args.threads().to_string()]);
    if let Some(data) = &args.data {
        eval.arg("--data").arg(data);
    }
    if plan.limit > 0 {
        eval.args(["--limit", &plan.limit.to_string()]);
    }
    if let Some(more) = &args.eval_args {
        eval.args(shlex::split(more).with_context(|| format!("--eval-args {more:?}"))?);
    }
    let output = process::run(&mut eval)?;
    read(task, &output.stdout)
}

/// Reads `trilobite eval --json`.
fn read(task: &Task, stdout: &str) -> Result<Score> {
    let report: Value = serde_json::from_str(stdout).context("trilobite eval --json")?;
    let result = &report["tasks"][&task.name];
    if let Some(why) = result["not_run"].as_str() {
        bail!("{why}");
    }
    let metric = &result["metrics"][&task.metric];
    let value = metric["value"].as_f64();
    let value = value.with_context(|| format!("eval did not measure {}", task.metric))?;
    Ok(Score {
        value: task.shown(value),
        stderr: metric["stderr"].as_f64().map(|error| task.shown(error)),
        n: result["n"].as_u64().unwrap_or(0) as usize,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_tasks_are_defined_with_the_metrics_of_its_cells() {
        let tasks = tasks(&["mmlu_5shot".to_owned(), "wikitext".to_owned()]).unwrap();
        assert_eq!(tasks.len(), 18);
        assert_eq!((tasks[16].title.as_str(), tasks[16].metric.as_str()), ("MMLU", "acc"));
        let folder = crate::root().join("crates/trilobite-eval/tasks");
        for task in &tasks[..15] {
            let text = std::fs::read_to_string(folder.join(format!("{}.toml", task.name))).unwrap();
            let known: Definition = toml::from_str(&text).unwrap();
            assert!(known.metrics.contains(&task.metric), "{}", task.name);
        }
        let models = crate::models::Models::load().unwrap();
        for published in models.model.iter().filter_map(|model| model.published.as_ref()) {
            for key in published.scores.keys() {
                assert!(tasks.iter().any(|task| task.key == *key), "{key}");
            }
        }
        assert!(super::tasks(&["arc_hard".to_owned()]).is_err());
    }

    #[test]
    fn data_that_could_not_be_fetched_are_one_reason_for_all_tasks() {
        let reason = "no answer from data.example".to_owned();
        let said = |text: &str, reason| without_data(anyhow!("{text}"), reason).to_string();
        let expected = "its data could not be fetched: no answer from data.example";
        for task in ["boolq", "piqa"] {
            let missing = format!("data/{task}: there is no such data file; {task} needs it");
            assert_eq!(said(&missing, Some(&reason)), expected);
            assert_eq!(said(&missing, None), missing);
        }
        assert_eq!(said("--data is missing and there is no /x", Some(&reason)), expected);
        assert_eq!(said("out of memory", Some(&reason)), "out of memory");
    }

    #[test]
    fn scores_are_percent() {
        let task = &tasks(&[]).unwrap()[1];
        let json = r#"{"tasks": {"arc_easy": {"n": 20, "metrics":
            {"acc": {"value": 0.25, "stderr": 0.1}, "acc_norm": {"value": 0.5, "stderr": 0.1}}}}}"#;
        let score = read(task, json).unwrap();
        assert_eq!((score.value, score.stderr, score.n), (50.0, Some(10.0), 20));
        assert!(read(task, "{}").is_err());
        let json = r#"{"tasks": {"arc_easy": {"n": 20, "metrics": {}, "not_run": "no judge"}}}"#;
        assert_eq!(read(task, json).unwrap_err().to_string(), "no judge");
    }
}
