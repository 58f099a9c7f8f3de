//! Measures the speed of decoding by threads and by tokens in the context, and memory over time.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use super::args::Args;
use super::process;
use super::row::Row;
use super::spread::Spread;
use super::subject::{Kind, Subject};

/// Numbers of tokens in the context before decoding.
const DEPTHS: [usize; 4] = [0, 256, 1024, 4096];

/// Tokens decoded per second, and memory.
#[derive(Clone, Default, Serialize)]
pub(super) struct Scaling {
    /// By number of threads.
    pub(super) threads: Vec<(usize, Spread)>,
    /// By number of tokens in the context.
    pub(super) context: Vec<(usize, Spread)>,
    /// The resident size while text is generated: seconds since the start, and bytes.
    pub(super) memory: Vec<(f64, u64)>,
}

/// Measures all models that the comparison measures. A failure is a note of the row.
pub(super) fn measure(binary: &Path, args: &Args, subjects: &[Subject], rows: &mut [Row]) {
    for (subject, row) in subjects.iter().zip(rows) {
        if let (Ok(Kind::Model(model)), Ok(())) = (&subject.kind, &row.measure) {
            eprintln!("threads and contexts: {}", subject.name);
            match of_model(binary, args, subject, model.as_deref(), row) {
                Ok(scaling) => row.scaling = Some(scaling),
                Err(error) => row.notes.push(format!("Threads and contexts: {error:#}.")),
            }
        }
    }
}

fn of_model(
    binary: &Path,
    args: &Args,
    subject: &Subject,
    model: Option<&Path>,
    row: &mut Row,
) -> Result<Scaling> {
    let (most, context) = (args.threads(), row.context);
    let mut counts: Vec<usize> =
        std::iter::successors(Some(1), |count| Some(2 * count)).take_while(|n| *n < most).collect();
    counts.push(most);
    let list: Vec<String> = counts.iter().map(usize::to_string).collect();
    let tokens = args.decode.to_string();
    let runs = args.rounds.to_string();
    let mut bench = |what: &str, more: &[&str]| -> Result<Vec<(usize, Spread)>> {
        let mut command = Command::new(binary);
        command.arg("bench").args(model).args(["-p", "0", "-n", &tokens, "-r", &runs]);
        command.args(["--json", "-q"]).args(more).args(&subject.args).envs(&subject.env);
        row.ran(what, &command);
        speeds(&process::run(&mut command)?.stdout)
    };
    let mut scaling =
        Scaling { threads: bench("threads", &["-t", &list.join(",")])?, ..Scaling::default() };
    for depth in DEPTHS {
        if context.is_some_and(|context| depth + args.decode > context) {
            break;
        }
        let measured = bench(
            &format!("context-{depth}"),
            &["-d", &depth.to_string(), "-t", &most.to_string()],
        )?;
        scaling.context.extend(measured.into_iter().map(|(_, speed)| (depth, speed)));
    }
    let mut command = Command::new(binary);
    command.arg("run").args(model).args(["-p", "Once upon a time", "--no-chat", "--ignore-eos"]);
    command.args(["--temp", "0", "-q", "-n", &tokens, "-t", &most.to_string()]);
    command.envs(&subject.env);
    row.ran("memory", &command);
    scaling.memory = thinned(&process::memory(&mut command)?);
    Ok(scaling)
}

/// At most about 200 of the samples, and the last. Before its first megabyte the program has not
/// begun.
fn thinned(samples: &[(f64, u64)]) -> Vec<(f64, u64)> {
    let samples: Vec<_> = samples.iter().filter(|(_, bytes)| *bytes > 1_000_000).collect();
    let step = samples.len().div_ceil(200).max(1);
    let last = samples.len().saturating_sub(1);
    let kept = samples.iter().enumerate().filter(|(at, _)| at % step == 0 || *at == last);
    kept.map(|(_, sample)| **sample).collect()
}

/// Parses the output of `trilobite bench --json`: threads and decoded tokens per second.
fn speeds(stdout: &str) -> Result<Vec<(usize, Spread)>> {
    let results: Value = serde_json::from_str(stdout).context("trilobite bench --json")?;
    let number = |value: &Value| value.as_f64().context("bench printed no speed of decoding");
    let results = results.as_array().into_iter().flatten();
    let speed = |result: &Value| {
        let speed = &result["decode"]["tokens_per_s"];
        let threads = result["threads"].as_u64().context("bench printed no number of threads")?;
        let (median, min, max) =
            (number(&speed["median"])?, number(&speed["min"])?, number(&speed["max"])?);
        Ok((threads as usize, Spread { median, min, max, values: Vec::new() }))
    };
    results.map(speed).collect()
}
