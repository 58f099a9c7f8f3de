//! Measures memory and speed, run by run and row by row.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use serde::Serialize;
use serde_json::{Map, Value};

use super::args::Args;
use super::plan::{Pass, Plan, TestKind};
use super::process::{self, OTHERS, Output};
use super::row::{Cell, Row};
use super::spread::Spread;
use super::subject::{Kind, Subject};

/// Maximum number of repetitions of a run that other processes disturbed.
const REPEATS: usize = 2;

/// The results of one run of a row.
#[derive(Default)]
struct Run {
    prefill: Option<f64>,
    decode: Option<f64>,
    joules: Option<f64>,
    bandwidth: Option<f64>,
    peak: Option<u64>,
    facts: Map<String, Value>,
}

/// The results of all rounds of a pass for a row.
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

/// Runs the passes one after another. In a round of a pass every row runs once, and each round
/// begins with another row, so a slow phase of the machine affects all rows.
pub(super) fn interleaved(
    binary: &Path,
    args: &Args,
    plan: &Plan,
    subjects: &[Subject],
    rows: &mut [Row],
) -> Machine {
    let mut all: Vec<Vec<Runs>> = subjects.iter().map(|_| Vec::new()).collect();
    let mut machine = Machine::default();
    for pass in &plan.passes {
        for runs in &mut all {
            runs.push(Runs::default());
        }
        let takes_part = |at: &usize| rows[*at].measure.is_ok() && pass.has(&rows[*at].name);
        let chosen: Vec<usize> = (0..rows.len()).filter(takes_part).collect();
        for round in 0..args.rounds {
            for turn in 0..chosen.len() {
                let at = chosen[(turn + round) % chosen.len()];
                let Some(runs) = all[at].last_mut().filter(|runs| runs.failure.is_none()) else {
                    continue;
                };
                let tests: Vec<_> = pass.tests().map(|test| test.name()).collect();
                let (name, tests) = (&subjects[at].name, tests.join(" "));
                eprintln!("round {} of {}, {tests}: {name}", round + 1, args.rounds);
                let run = command(binary, args, pass, &subjects[at]).and_then(|mut command| {
                    rows[at].ran(&tests, &command);
                    quiet_run(&mut command, args, &subjects[at], &mut machine)
                });
                match run {
                    Ok((run, others)) => {
                        runs.others = runs.others.max(others);
                        runs.runs.push(run);
                    }
                    Err(error) => runs.failure = Some(format!("{error:#}")),
                }
            }
        }
    }
    // The bandwidth depends on the number of threads.
    let most = plan.passes.iter().map(|pass| pass.threads).max();
    let mut bandwidths = Vec::new();
    for ((row, passes), subject) in rows.iter_mut().zip(&all).zip(subjects) {
        for (runs, pass) in passes.iter().zip(&plan.passes) {
            let runs = runs.runs.iter().filter(|_| Some(pass.threads) == most);
            bandwidths.extend(runs.filter_map(|run| run.bandwidth));
        }
        fill(row, passes, subject, args, plan);
    }
    machine.bandwidth_bytes_per_s = Spread::of(&bandwidths);
    machine
}

/// Puts the medians into a row.
fn fill(row: &mut Row, passes: &[Runs], subject: &Subject, args: &Args, plan: &Plan) {
    let measured = row.measure.clone();
    let spread = |at: usize, of: &dyn Fn(&Run) -> Option<f64>, none: &str| {
        let (runs, pass): (&Runs, &Pass) = (&passes[at], &plan.passes[at]);
        let values: Vec<f64> = runs.runs.iter().filter_map(of).collect();
        match (&measured, &runs.failure, Spread::of(&values)) {
            (Err(why), _, _) | (_, Some(why), _) => Cell::NotRun(why.clone()),
            (.., Some(spread)) => Cell::Value(spread),
            (.., None) if !pass.has(&subject.name) => {
                Cell::NotRun("the file of rows does not name it for this test".to_owned())
            }
            (.., None) => Cell::NotRun(none.to_owned()),
        }
    };
    for (at, pass) in plan.passes.iter().enumerate() {
        for test in pass.tests() {
            let of = |run: &Run| match test.kind {
                TestKind::Prefill => run.prefill,
                TestKind::Decode => run.decode,
            };
            row.speeds.insert(test.name(), spread(at, &of, "the engine does not state its speed"));
        }
    }
    let none = match subject.kind {
        Ok(Kind::Peer(_)) => "the peer does not measure energy",
        _ => "the kernel shows no energy counters (RAPL) to this user",
    };
    let decoding = plan.passes.iter().position(|pass| pass.decode > 0);
    row.joules_per_token = match decoding {
        Some(at) => spread(at, &|run| run.joules, none),
        None => Cell::NotRun("no decoding was asked for".to_owned()),
    };
    let runs = || passes.iter().flat_map(|runs| &runs.runs);
    if let Some(run) = runs().rfind(|run| !run.facts.is_empty()) {
        row.facts = run.facts.clone();
    }
    let why = measured.err().or_else(|| passes.iter().find_map(|runs| runs.failure.clone()));
    row.peak_resident_bytes = match (runs().filter_map(|run| run.peak).max(), why) {
        (Some(peak), _) => Cell::Value(peak),
        (None, Some(why)) => Cell::NotRun(why),
        (None, None) if args.wrap.is_some() => {
            Cell::NotRun("the command of --wrap stands before the peer's process".to_owned())
        }
        (None, None) => Cell::NotRun("the system does not show it".to_owned()),
    };
    let others = passes.iter().map(|runs| runs.others).fold(0.0, f64::max);
    if others > OTHERS {
        row.notes.push(format!(
            "Other processes took up to {:.0} % of the processors during its runs.",
            100.0 * others
        ));
    }
}

/// Runs a row once, and again if other processes disturbed the run.
fn quiet_run(
    command: &mut Command,
    args: &Args,
    subject: &Subject,
    machine: &mut Machine,
) -> Result<(Run, f64)> {
    let mut best: Option<(Run, f64)> = None;
    for _ in 0..=REPEATS {
        let (run, others) = one_run(command, args, subject, machine)?;
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
    command: &mut Command,
    args: &Args,
    subject: &Subject,
    machine: &mut Machine,
) -> Result<(Run, f64)> {
    let kind = subject.kind.as_ref().map_err(|why| anyhow!("{why}"))?;
    let Output { stdout, peak_resident_bytes, others, .. } = process::run(command)?;
    // A command that keeps the machine quiet may wait while other processes work.
    let others = others.filter(|_| args.wrap.is_none()).unwrap_or(0.0);
    let run = match kind {
        Kind::Model(_) => of_trilobite(&stdout, machine)?,
        Kind::Peer(_) => of_peer(&stdout, peak_resident_bytes.filter(|_| args.wrap.is_none()))?,
    };
    Ok((run, others))
}

/// The command of a run.
fn command(binary: &Path, args: &Args, pass: &Pass, subject: &Subject) -> Result<Command> {
    let mut words: Vec<String> = Vec::new();
    if let Some(wrap) = &args.wrap {
        words.extend(shlex::split(wrap).with_context(|| format!("--wrap {wrap:?}"))?);
    }
    let kind = subject.kind.as_ref().map_err(|why| anyhow!("{why}"))?;
    let sizes = [("-p", pass.prompt), ("-n", pass.decode), ("-t", pass.threads), ("-r", 1)];
    let sizes = sizes.iter().flat_map(|(flag, number)| [(*flag).to_owned(), number.to_string()]);
    match kind {
        Kind::Model(model) => {
            words.extend([binary.display().to_string(), "bench".into()]);
            words.extend(model.iter().map(|path| path.display().to_string()));
            words.extend(sizes);
            words.extend(["--json".into(), "-q".into()]);
            words.extend(subject.args.iter().cloned());
        }
        Kind::Peer(command) => {
            words.extend(command.iter().cloned());
            words.extend(sizes);
            words.extend(["-o".into(), "json".into()]);
        }
    }
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).envs(&subject.env);
    Ok(command)
}

/// The keys of `trilobite bench --json` about decoding that reports contain.
const FACTS: [&str; 4] =
    ["bytes_per_token", "bandwidth_bytes_per_s", "head_rows_per_token", "live_fraction"];

/// Parses the output of `trilobite bench --json`.
fn of_trilobite(stdout: &str, machine: &mut Machine) -> Result<Run> {
    let results: Value = serde_json::from_str(stdout).context("trilobite bench --json")?;
    let result = &results[0];
    let median = |value: &Value| value["median"].as_f64();
    machine.isa = result["isa"].as_str().map(str::to_owned);
    let mut facts = Map::new();
    for (part, names) in [(result, &["isa", "layout"][..]), (&result["decode"], &FACTS)] {
        let known = names.iter().filter(|name| !part[**name].is_null());
        facts.extend(known.map(|name| ((*name).to_owned(), part[*name].clone())));
    }
    Ok(Run {
        prefill: median(&result["prefill"][0]["tokens_per_s"]),
        decode: median(&result["decode"]["tokens_per_s"]),
        joules: median(&result["decode"]["joules_per_token"]),
        bandwidth: result["decode"]["bandwidth_bytes_per_s"].as_f64(),
        peak: result["peak_resident_bytes"].as_u64(),
        facts,
    })
}

/// Parses the output of `llama-bench -o json`.
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
    }
}
