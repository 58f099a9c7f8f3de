//! Perplexity, memory and speed: what the engines say, run by run and row by row.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;

use super::process::{self, OTHERS, Output};
use super::subject::{Kind, Subject};
use super::{Args, Cell, Row};

/// Runs that others disturbed are repeated, but not more often than this.
const REPEATS: usize = 2;

/// Median, least and largest of several runs.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) values: Vec<f64>,
}

impl Spread {
    pub(super) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            1 => sorted[middle],
            _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
        };
        Some(Spread { median, min, max, values: values.to_vec() })
    }
}

/// What one run of a row gave.
#[derive(Default)]
struct Run {
    prefill: Option<f64>,
    decode: Option<f64>,
    joules: Option<f64>,
    bandwidth: Option<f64>,
    peak: Option<u64>,
}

/// What all rounds gave of a row.
#[derive(Default)]
struct Runs {
    runs: Vec<Run>,
    others: f64,
    failure: Option<String>,
}

/// The bandwidth and the instruction set that the measured runs report.
#[derive(Clone, Default, Serialize)]
pub(super) struct Machine {
    pub(super) bandwidth_bytes_per_s: Option<Spread>,
    pub(super) isa: Option<String>,
}

/// Every row once a round, each time another one first, so that a slow moment of the machine falls on
/// all of them.
pub(super) fn interleaved(
    binary: &Path,
    args: &Args,
    subjects: &[Subject],
    rows: &mut [Row],
) -> Machine {
    let mut all: Vec<Runs> = subjects.iter().map(|_| Runs::default()).collect();
    let mut machine = Machine::default();
    let chosen: Vec<usize> = (0..rows.len()).filter(|&at| rows[at].measure.is_ok()).collect();
    for round in 0..args.rounds {
        for turn in 0..chosen.len() {
            let at = chosen[(turn + round) % chosen.len()];
            if all[at].failure.is_some() {
                continue;
            }
            eprintln!("round {} of {}: {}", round + 1, args.rounds, subjects[at].name);
            match quiet_run(binary, args, &subjects[at], &mut machine) {
                Ok((run, others)) => {
                    all[at].others = all[at].others.max(others);
                    all[at].runs.push(run);
                }
                Err(error) => all[at].failure = Some(format!("{error:#}")),
            }
        }
    }
    let mut bandwidths = Vec::new();
    for ((row, runs), subject) in rows.iter_mut().zip(&all).zip(subjects) {
        bandwidths.extend(runs.runs.iter().filter_map(|run| run.bandwidth));
        fill(row, runs, subject, args);
    }
    machine.bandwidth_bytes_per_s = Spread::of(&bandwidths);
    machine
}

/// Puts the medians into a row.
fn fill(row: &mut Row, runs: &Runs, subject: &Subject, args: &Args) {
    let why = match (&row.measure, &runs.failure) {
        (Err(why), _) | (Ok(()), Some(why)) => Some(why.clone()),
        _ => None,
    };
    let spread = |of: &dyn Fn(&Run) -> Option<f64>, none: &str| {
        let values: Vec<f64> = runs.runs.iter().filter_map(of).collect();
        match (&why, Spread::of(&values)) {
            (Some(why), _) => Cell::NotRun(why.clone()),
            (None, Some(spread)) => Cell::Value(spread),
            (None, None) => Cell::NotRun(none.to_owned()),
        }
    };
    row.prefill = spread(&|run| run.prefill, "asked for with --prompt 0");
    row.decode = spread(&|run| run.decode, "asked for with --decode 0");
    let none = match subject.kind {
        Kind::Model(_) => "the kernel shows no energy counters (RAPL) to this user",
        Kind::Peer(_) => "the peer does not measure energy",
    };
    row.joules_per_token = spread(&|run| run.joules, none);
    let peak = runs.runs.iter().filter_map(|run| run.peak).max();
    row.peak_resident_bytes = match (why, peak) {
        (Some(why), _) => Cell::NotRun(why),
        (None, Some(peak)) => Cell::Value(peak),
        (None, None) if args.wrap.is_some() => {
            Cell::NotRun("the command of --wrap stands before the peer's process".to_owned())
        }
        (None, None) => Cell::NotRun("the system does not show it".to_owned()),
    };
    if runs.others > OTHERS && args.rounds > 0 {
        row.notes.push(format!(
            "Other processes took up to {:.0} % of the processors during its runs.",
            100.0 * runs.others
        ));
    }
}

/// One run, repeated while others disturb it.
fn quiet_run(
    binary: &Path,
    args: &Args,
    subject: &Subject,
    machine: &mut Machine,
) -> Result<(Run, f64)> {
    let mut best: Option<(Run, f64)> = None;
    for _ in 0..=REPEATS {
        let (run, others) = one_run(binary, args, subject, machine)?;
        if best.as_ref().is_none_or(|(_, least)| others < *least) {
            best = Some((run, others));
        }
        if others <= OTHERS {
            break;
        }
    }
    best.context("no run")
}

fn one_run(
    binary: &Path,
    args: &Args,
    subject: &Subject,
    machine: &mut Machine,
) -> Result<(Run, f64)> {
    let mut words: Vec<String> = Vec::new();
    if let Some(wrap) = &args.wrap {
        words.extend(shlex::split(wrap).with_context(|| format!("--wrap {wrap:?}"))?);
    }
    let sizes = ["-p", &args.prompt.to_string(), "-n", &args.decode.to_string()].map(str::to_owned);
    let threads = ["-t".to_owned(), args.threads().to_string(), "-r".into(), "1".into()];
    match &subject.kind {
        Kind::Model(model) => {
            words.extend([binary.display().to_string(), "bench".into()]);
            words.extend(model.iter().map(|path| path.display().to_string()));
            words.extend(sizes.into_iter().chain(threads));
            words.extend(["--json".into(), "-q".into()]);
        }
        Kind::Peer(command) => {
            words.extend(command.iter().cloned());
            words.extend(sizes.into_iter().chain(threads));
            words.extend(["-o".into(), "json".into()]);
        }
    }
    let Output { stdout, peak_resident_bytes, others, .. } =
        process::run(Command::new(&words[0]).args(&words[1..]))?;
    // While a command that keeps the machine quiet waits for its turn, others work.
    let others = others.filter(|_| args.wrap.is_none()).unwrap_or(0.0);
    let run = match &subject.kind {
        Kind::Model(_) => of_trilobite(&stdout, machine)?,
        Kind::Peer(_) => of_peer(&stdout, peak_resident_bytes.filter(|_| args.wrap.is_none()))?,
    };
    Ok((run, others))
}

/// Reads `trilobite bench --json`.
fn of_trilobite(stdout: &str, machine: &mut Machine) -> Result<Run> {
    let results: Value = serde_json::from_str(stdout).context("trilobite bench --json")?;
    let result = &results[0];
    let median = |value: &Value| value["median"].as_f64();
    machine.isa = result["isa"].as_str().map(str::to_owned);
    Ok(Run {
        prefill: median(&result["prefill"][0]["tokens_per_s"]),
        decode: median(&result["decode"]["tokens_per_s"]),
        joules: median(&result["decode"]["joules_per_token"]),
        bandwidth: result["decode"]["bandwidth_bytes_per_s"].as_f64(),
        peak: result["peak_resident_bytes"].as_u64(),
    })
}

/// Reads `llama-bench -o json`.
fn of_peer(stdout: &str, peak: Option<u64>) -> Result<Run> {
    let start = stdout.find('[').context("it printed no JSON array")?;
    let results: Vec<Value> = serde_json::from_str(&stdout[start..]).context("its -o json")?;
    let mut run = Run { peak, ..Run::default() };
    for result in &results {
        let speed = result["avg_ts"].as_f64();
        let count = |name: &str| result[name].as_u64().unwrap_or(0);
        match (count("n_prompt"), count("n_gen")) {
            (0, 0) => bail!("its -o json names neither n_prompt nor n_gen"),
            (_, 0) => run.prefill = speed,
            (0, _) => run.decode = speed,
            _ => {}
        }
    }
    Ok(run)
}

/// A model's perplexity.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Perplexity {
    pub(super) value: f64,
    pub(super) bits_per_byte: Option<f64>,
    pub(super) method: String,
    /// What it has to be, where that is known.
    pub(super) expected: Option<f64>,
}

/// `trilobite perplexity`.
pub(super) fn perplexity(
    binary: &Path,
    model: Option<&Path>,
    text: &Path,
    context: usize,
) -> Result<Perplexity> {
    let mut command = Command::new(binary);
    command.arg("perplexity").args(model).arg("--file").arg(text);
    command.args(["--ctx", &context.to_string(), "--json", "-q"]);
    stated_perplexity(&process::run(&mut command)?.stdout)
}

fn stated_perplexity(stdout: &str) -> Result<Perplexity> {
    let result: Value = serde_json::from_str(stdout).context("the perplexity as JSON")?;
    Ok(Perplexity {
        value: result["perplexity"].as_f64().context("no perplexity was stated")?,
        bits_per_byte: result["bits_per_byte"].as_f64(),
        method: result["method"].as_str().unwrap_or("not stated").to_owned(),
        expected: None,
    })
}

/// The perplexity of a peer: by `llama-perplexity` beside its program, or by the program itself with
/// `--perplexity FILE --ctx N`.
pub(super) fn peer_perplexity(
    command: &[String],
    text: &Path,
    context: usize,
) -> Result<Perplexity> {
    let program = Path::new(&command[0]);
    let beside = program.with_file_name("llama-perplexity");
    let context = context.to_string();
    if beside.exists() {
        let model = command.iter().position(|word| word == "-m" || word == "--model");
        let model =
            model.and_then(|at| command.get(at + 1)).context("the command has no -m FILE")?;
        let mut check = Command::new(&beside);
        check.args(["-m", model, "-c", &context, "-f"]).arg(text);
        let Output { stdout, stderr, .. } = process::run(&mut check)?;
        let value = final_estimate(&format!("{stdout}\n{stderr}"));
        let value = value.context("llama-perplexity stated no final estimate")?;
        let method = format!("llama-perplexity, the second halves of windows of {context} tokens");
        return Ok(Perplexity { value, bits_per_byte: None, method, expected: None });
    }
    let mut check = Command::new(program);
    check.args(&command[1..]).arg("--perplexity").arg(text).args(["--ctx", &context]);
    let output = process::run(&mut check).with_context(|| {
        format!(
            "the peer offers no way to check: no {}, and it knows no --perplexity",
            beside.display()
        )
    })?;
    stated_perplexity(&output.stdout)
}

/// The number in "Final estimate: PPL = 9.27 +/- 0.1".
fn final_estimate(text: &str) -> Option<f64> {
    let (_, rest) = text.split_once("Final estimate: PPL = ")?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_engines_print_is_read() {
        let json = r#"warning: something
[ {"n_prompt": 512, "n_gen": 0, "avg_ts": 94.5}, {"n_prompt": 0, "n_gen": 64, "avg_ts": 28.1} ]"#;
        let run = of_peer(json, Some(7)).unwrap();
        assert_eq!((run.prefill, run.decode, run.peak), (Some(94.5), Some(28.1), Some(7)));
        assert!(of_peer("[{}]", None).is_err() && of_peer("no", None).is_err());

        let json = r#"[{"isa": "avx2", "prefill": [{"tokens": 512, "tokens_per_s": {"median": 5.0}}],
            "decode": {"tokens_per_s": {"median": 4.0}, "joules_per_token": null,
            "bandwidth_bytes_per_s": 3e10}, "peak_resident_bytes": 9}]"#;
        let mut machine = Machine::default();
        let run = of_trilobite(json, &mut machine).unwrap();
        assert_eq!((run.prefill, run.decode, run.joules), (Some(5.0), Some(4.0), None));
        assert_eq!(
            (run.bandwidth, run.peak, machine.isa.as_deref()),
            (Some(3e10), Some(9), Some("avx2"))
        );

        assert_eq!(final_estimate("x\nFinal estimate: PPL = 9.2657 +/- 0.1\n"), Some(9.2657));
    }

    #[test]
    fn the_middle_of_an_even_number_is_a_mean() {
        let spread = Spread::of(&[4.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (2.5, 1.0, 4.0));
        assert!(Spread::of(&[]).is_none());
    }
}
