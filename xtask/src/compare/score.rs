//! Scores of `trilobite eval`, task by task.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use super::args::Args;
use super::plan::Plan;
use super::process::{self, Pulls};
use super::row::{Cell, Row};
use super::subject::{Kind, Subject, safe};
use super::tasks::{Score, Task};

/// Fetches the data of the tasks, unless the arguments name a folder. Returns the errors by task,
/// for the cells of these tasks.
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
                let score = one(binary, args, plan, task, model.as_deref(), &folder, row);
                score.map_err(|error| without_data(error, unfetched.get(&task.name))).into()
            }
            (Ok(()), Ok(Kind::Peer(_))) => Cell::NotRun("a peer is not scored".to_owned()),
            (Ok(()), Err(why)) => Cell::NotRun(why.clone()),
        };
        row.scores.insert(task.key.clone(), cell);
    }
}

/// Replaces an error about missing data by the reason why they could not be fetched.
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
    row: &mut Row,
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
    if let Some(seed) = args.shuffle {
        eval.args(["--shuffle", &seed.to_string()]);
    }
    if let Some(more) = &args.eval_args {
        eval.args(shlex::split(more).with_context(|| format!("--eval-args {more:?}"))?);
    }
    row.ran(&task.name, &eval);
    let output = process::run(&mut eval)?;
    read(task, &output.stdout)
}

/// Parses the output of `trilobite eval --json`.
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
        let task = &super::super::tasks::tasks(&[]).unwrap()[1];
        let json = r#"{"tasks": {"arc_easy": {"n": 20, "metrics":
            {"acc": {"value": 0.25, "stderr": 0.1}, "acc_norm": {"value": 0.5, "stderr": 0.1}}}}}"#;
        let score = read(task, json).unwrap();
        assert_eq!((score.value, score.stderr, score.n), (50.0, Some(10.0), 20));
        assert!(read(task, "{}").is_err());
        let json = r#"{"tasks": {"arc_easy": {"n": 20, "metrics": {}, "not_run": "no judge"}}}"#;
        assert_eq!(read(task, json).unwrap_err().to_string(), "no judge");
    }
}
