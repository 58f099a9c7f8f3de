//! `trilobite eval`: runs benchmark tasks.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use trilobite_eval::{Engine, JudgeServer, Listed, Outcome, Place, Prompting, Selection, Task};
use trilobite_hub::Cache;

use crate::args::{self, DEFAULT_KEY, Eval, Global};
use crate::output::{self, Progress, Unit};
use crate::usage::WrongUsage;
use crate::{interrupt, machine, model, suggest};

/// The name of the report in the folder of the results.
const RESULTS: &str = "results.json";

pub(crate) fn run(args: &Eval, global: &Global) -> Result<ExitCode> {
    let tasks = tasks(args)?;
    let folder = args.output.clone().unwrap_or_else(|| default_output(args));
    let judge = judge(args)?;
    let place = |data| Place {
        data,
        any_data: args.any_data,
        untrusted_code: args.run_untrusted_code,
        sandbox_allow_missing: &args.sandbox_allow_missing,
        python: args.python.as_deref(),
        judge: judge.as_ref(),
        log_samples: args.log_samples,
        output: &folder,
    };
    if args.list {
        return list(
            &tasks,
            place(&args.data.clone().map_or_else(|| Cache::from_env().data(), Ok)?),
            args,
        );
    }
    let mut report = Map::new();
    let mut outcomes = Vec::new();
    if !args.merge.is_empty() {
        for task in &tasks {
            let outcome = trilobite_eval::merge(task, &args.merge, &folder, args.partial)?;
            if let Some(missing) = outcome.missing.as_ref().filter(|_| !global.quiet) {
                output::say(&format!("{}: {missing}", task.name));
            }
            outcomes.push(outcome);
        }
    } else if let Some(answers) = &args.answers {
        let [task] = &tasks[..] else {
            bail!(WrongUsage("--answers belongs to one task".to_owned()));
        };
        let data = &data(args, &tasks)?;
        outcomes.push(trilobite_eval::grade_answers(task, place(data), answers)?);
    } else {
        let data = &data(args, &tasks)?;
        let model = model::load_to_decode(&args.model, args.compute.threads, global)?;
        // Print the tokenizer's assumptions before scoring anything.
        model::tokenizer(&model, &args.model, global)?;
        let session = model::session(&model, &args.compute, args.ctx)?;
        // Finished items are kept and reported after a signal.
        interrupt::listen()?;
        let mut engine = Engine::new(session, &name(args), prompting(args));
        engine.score_whole(args.whole);
        engine.generate_at_once(args.at_once);
        for task in &tasks {
            outcomes.push(one(&mut engine, task, place(data), args, global)?);
        }
        report.insert("model".into(), model::name(&args.model).into());
        report.insert("model_sha256".into(), engine.model_sha256().into());
        report.insert("settings".into(), json!(engine.settings()));
    }
    report.insert("engine".into(), concat!("trilobite ", env!("CARGO_PKG_VERSION")).into());
    report.insert("machine".into(), machine::describe());
    let command = std::env::args_os().map(|part| part.to_string_lossy().into_owned());
    report.insert("command".into(), command.collect());
    report.insert("date".into(), jiff::Timestamp::now().to_string().into());
    let results = tasks.iter().zip(&outcomes);
    let results = results.map(|(task, outcome)| (task.name.clone(), outcome.report(task)));
    report.insert("tasks".into(), Value::Object(results.collect()));
    let report = Value::Object(report);
    for (task, Outcome { cut, n, .. }) in tasks.iter().zip(&outcomes) {
        if *cut > 0 && !global.quiet {
            output::say(&format!(
                "note: {}: the context is too short for {cut} of {n} items, the first tokens of whose \
                 prompts were left out",
                task.name
            ));
        }
    }
    write_results(&folder.join(RESULTS), &report)?;
    if args.json {
        output::print_json(&report)?;
    } else {
        output::print_text(&table(&tasks, &outcomes))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The requested tasks, each once. `--list` without names means all tasks.
fn tasks(args: &Eval) -> Result<Vec<Task>> {
    let all = Task::names();
    let names = if args.tasks.is_empty() { &all } else { &args.tasks };
    let mut seen = BTreeSet::new();
    let mut tasks = Vec::new();
    for name in names {
        let task = match args::is_task_file(name) {
            true => Task::open(Path::new(name))?,
            false => suggest::task(name)?,
        };
        if !seen.insert(task.name.clone()) {
            bail!(WrongUsage(format!("--tasks names {} twice", task.name)));
        }
        tasks.push(match args.shots {
            Some(shots) if numbered(&task) && task.shots != shots => {
                bail!(WrongUsage(format!(
                    "{name} has {} examples before each item, --shots says {shots}",
                    task.shots
                )))
            }
            Some(shots) => task.with_shots(shots)?,
            None => task,
        });
    }
    Ok(tasks)
}

/// Whether the number of examples is part of a task's name.
fn numbered(task: &Task) -> bool {
    !task.is_own() && task.name.ends_with("shot")
}

fn prompting(args: &Eval) -> Prompting {
    Prompting {
        bos: !args.no_bos,
        chat: !args.no_chat,
        turns: args.turns.unwrap_or(args.apply_chat_template),
        apply_chat_template: args.apply_chat_template,
        system: args.system.clone(),
    }
}

/// Prints descriptions of the tasks.
fn list(tasks: &[Task], place: Place<'_>, args: &Eval) -> Result<ExitCode> {
    let listed: Vec<Listed> = tasks.iter().map(|task| trilobite_eval::list(task, place)).collect();
    if args.json {
        output::print_json(&json!(listed))?;
        return Ok(ExitCode::SUCCESS);
    }
    let widest = listed.iter().map(|task| task.metrics.join(", ").len()).max().unwrap_or(0);
    let mut text = format!(
        "{:16} {:12} {:>5} {:>6}  {:widest$}  {}\n",
        "task", "kind", "shots", "items", "metrics", "data"
    );
    for Listed { name, kind, shots, metrics, items, fault, data, .. } in &listed {
        let items = items.map_or_else(|| "-".to_owned(), |items| items.to_string());
        let sources: BTreeSet<&str> = data
            .iter()
            .map(|file| file.repository.as_ref().unwrap_or(&file.file).as_str())
            .collect();
        let sources = sources.into_iter().collect::<Vec<_>>().join(", ");
        let metrics = metrics.join(", ");
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{name:16} {kind:12} {shots:5} {items:>6}  {metrics:widest$}  {sources}"
        );
        if let Some(fault) = fault {
            output::say(&format!("{name}: {fault}"));
        }
    }
    output::print_text(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the report atomically, so that the previous one stays until the new one is complete.
fn write_results(path: &Path, report: &Value) -> Result<()> {
    let partial = path.with_extension("json.partial");
    std::fs::write(&partial, format!("{report:#}\n"))
        .and_then(|()| std::fs::rename(&partial, path))
        .inspect_err(|_| {
            let _ = std::fs::remove_file(&partial);
        })
        .with_context(|| path.display().to_string())
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
    let selection = Selection { shuffle: args.shuffle, limit: args.limit, shard: args.shard };
    let outcome = trilobite_eval::run(engine, task, place, selection, &mut |at| {
        bar.set(at.done as u64, at.total as u64);
        if interrupt::seen() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish();
    Ok(outcome?)
}

/// The folder of the data sets. Tasks defined in files have their data next to the definition.
fn data(args: &Eval, tasks: &[Task]) -> Result<PathBuf> {
    if let Some(data) = &args.data {
        return Ok(data.clone());
    }
    let folder = Cache::from_env().data()?;
    let fetched = tasks.iter().filter(|task| !task.is_own()).map(|task| task.name.as_str());
    let fetched: Vec<&str> = fetched.collect();
    if !folder.exists() && !fetched.is_empty() {
        let tasks = fetched.join(",");
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

/// The name of the model, taken from its file.
fn name(args: &Eval) -> String {
    let name = args.model.model.as_deref().and_then(Path::file_stem);
    name.map_or_else(|| "tinystories".into(), |name| name.to_string_lossy().into_owned())
}

/// The server that rates the answers to MT-bench.
fn judge(args: &Eval) -> Result<Option<JudgeServer>> {
    let Some(url) = args.judge_url.clone() else { return Ok(None) };
    let key = match (std::env::var(&args.judge_key_env), args.judge_key_env == DEFAULT_KEY) {
        (Ok(key), _) => Some(key),
        // A server of the user's own may need no key.
        (Err(std::env::VarError::NotPresent), true) => None,
        (Err(error), _) => bail!("--judge-key-env {}: {error}", args.judge_key_env),
    };
    Ok(Some(JudgeServer { url, model: args.judge_model.clone(), key }))
}

/// A table with a line for each metric of each task and each group.
fn table(tasks: &[Task], outcomes: &[Outcome]) -> String {
    let mut text =
        format!("{:22} {:>6}  {:24} {:>9}  {:>7}\n", "task", "n", "metric", "value", "stderr");
    for (task, outcome) in tasks.iter().zip(outcomes) {
        let measured = &outcome.measured;
        if let Some(reason) = measured.not_run {
            let (name, n, metric) = (&task.name, outcome.n, &task.metrics[0]);
            let _ =
                writeln!(text, "{name:22} {n:6}  {metric:24}   not run  {reason} (--judge-url)");
        }
        let groups = measured.groups.iter();
        let groups = groups.map(|(name, group)| (format!("  {name}"), group.n, &group.metrics));
        let whole = [(task.name.clone(), outcome.n, &measured.metrics)];
        for (task, n, metrics) in whole.into_iter().chain(groups) {
            for (name, metric) in metrics {
                let error = metric.stderr.map_or_else(String::new, |error| format!("{error:7.4}"));
                let value = metric.value;
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{task:22} {n:6}  {name:24} {value:9.4}  {error}");
            }
        }
    }
    text
}
