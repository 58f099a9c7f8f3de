//! `trilobite eval`: benchmark tasks.

use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};
use trilobite_eval::{Engine, JudgeServer, Outcome, Place, Task};
use trilobite_hub::Cache;

use crate::args::{DEFAULT_KEY, Eval, Global};
use crate::output::{self, Progress, Unit};
use crate::{interrupt, machine, model, suggest};

pub(crate) fn run(args: &Eval, global: &Global) -> Result<ExitCode> {
    let tasks: Vec<Task> =
        args.tasks.iter().map(|name| suggest::task(name)).collect::<Result<_>>()?;
    let folder = args.output.clone().unwrap_or_else(|| default_output(args));
    let mut report = Map::new();
    let mut outcomes = Vec::new();
    let judge = judge(args)?;
    let place = |data| Place {
        data,
        any_data: args.any_data,
        untrusted_code: args.run_untrusted_code,
        sandbox_allow_missing: &args.sandbox_allow_missing,
        python: args.python.as_deref(),
        judge: judge.as_ref(),
        output: &folder,
    };
    if !args.merge.is_empty() {
        for task in &tasks {
            let outcome = trilobite_eval::merge(task, &args.merge, &folder, args.partial)?;
            if let Some(missing) = outcome.missing.as_ref().filter(|_| !global.quiet) {
                output::say(&format!("{}: {missing}", task.name));
            }
            outcomes.push(outcome);
        }
    } else if let Some(answers) = &args.answers {
        let [task] = &tasks[..] else { bail!("--answers belongs to one task") };
        let data = &data(args)?;
        outcomes.push(trilobite_eval::grade_answers(task, place(data), answers)?);
    } else {
        let data = &data(args)?;
        let model = model::load_to_decode(&args.model, global)?;
        // What the token ids rest on is told before anything is scored.
        model::tokenizer(&model, global)?;
        let session = model::session(&model, &args.compute, args.ctx)?;
        // What was done is kept, and told.
        interrupt::listen()?;
        let mut engine = Engine::new(session, &name(args), !args.no_bos, !args.no_chat, args.turns);
        engine.score_whole(args.whole);
        for task in &tasks {
            outcomes.push(one(&mut engine, task, place(data), args, global)?);
        }
        report.insert("model".into(), model::name(&args.model).into());
        report.insert("model_sha256".into(), engine.model_sha256().into());
        report.insert("settings".into(), json!(engine.settings()));
    }
    if args.json {
        report.insert("engine".into(), concat!("trilobite ", env!("CARGO_PKG_VERSION")).into());
        report.insert("machine".into(), machine::describe());
        let results = tasks.iter().zip(&outcomes).map(|(task, outcome)| {
            let mut result = json!({
                "n": outcome.n,
                "metrics": outcome.metrics,
                "items": outcome.items.display().to_string(),
            });
            if let Some(reason) = outcome.not_run {
                result["not_run"] = reason.into();
            }
            (task.name.clone(), result)
        });
        report.insert("tasks".into(), Value::Object(results.collect()));
        output::print_json(&Value::Object(report))?;
    } else {
        output::print_text(&table(&tasks, &outcomes))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn one(
    engine: &mut Engine,
    task: &Task,
    place: Place<'_>,
    args: &Eval,
    global: &Global,
) -> Result<Outcome> {
    let bar = Progress::new(0, Unit::Items, global)?;
    bar.set_message(&task.title);
    let outcome = trilobite_eval::run(engine, task, place, args.limit, args.shard, &mut |at| {
        bar.set(at.done as u64, at.total as u64);
        if interrupt::seen() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish();
    Ok(outcome?)
}

/// The folder of the data sets.
fn data(args: &Eval) -> Result<PathBuf> {
    if let Some(data) = &args.data {
        return Ok(data.clone());
    }
    let folder = Cache::from_env().data()?;
    if !folder.exists() {
        let tasks = args.tasks.join(",");
        bail!(
            "--data is missing and there is no {}; `trilobite pull --data {tasks}` fetches it",
            folder.display()
        );
    }
    Ok(folder)
}

/// `eval-` and the model's name, in the current folder.
fn default_output(args: &Eval) -> PathBuf {
    PathBuf::from(format!("eval-{}", name(args)))
}

/// The model's name: that of its file.
fn name(args: &Eval) -> String {
    let name = args.model.model.as_deref().and_then(Path::file_stem);
    name.map_or_else(|| "tinystories".into(), |name| name.to_string_lossy().into_owned())
}

/// Who rates the answers of MT-bench.
fn judge(args: &Eval) -> Result<Option<JudgeServer>> {
    let Some(url) = args.judge_url.clone() else { return Ok(None) };
    let key = match (std::env::var(&args.judge_key_env), args.judge_key_env == DEFAULT_KEY) {
        (Ok(key), _) => Some(key),
        // A judge of one's own may want none.
        (Err(std::env::VarError::NotPresent), true) => None,
        (Err(error), _) => bail!("--judge-key-env {}: {error}", args.judge_key_env),
    };
    Ok(Some(JudgeServer { url, model: args.judge_model.clone(), key }))
}

/// A line for each metric of each task.
fn table(tasks: &[Task], outcomes: &[Outcome]) -> String {
    let mut text =
        format!("{:22} {:>6}  {:24} {:>9}  {:>7}\n", "task", "n", "metric", "value", "stderr");
    for (task, outcome) in tasks.iter().zip(outcomes) {
        if let Some(reason) = outcome.not_run {
            let (name, n, metric) = (&task.name, outcome.n, &task.metrics[0]);
            let _ = writeln!(text, "{name:22} {n:6}  {metric:24}   not run  {reason}");
        }
        for (name, metric) in &outcome.metrics {
            let error = metric.stderr.map_or_else(String::new, |error| format!("{error:7.4}"));
            let (task, n, value) = (&task.name, outcome.n, metric.value);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{task:22} {n:6}  {name:24} {value:9.4}  {error}");
        }
    }
    text
}
