//! `trilobite tune`: finds the layout of ternary weights that decodes a model fastest.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;
use trilobite_convert::{Layout, Layouts, start_threads};
use trilobite_hub::{Cache, LayoutSpeed, Machine, Speed, Tuned, Tuning};
use trilobite_runtime::{Error, Model, Session, SessionOptions};

use super::bench::spread::{Spread, noun};
use super::bench::{Work, decode_speed};
use crate::args::{Global, at_least, thread_count};
use crate::output::{self, Progress, Unit};
use crate::{interrupt, machine, model};

/// Number of tokens decoded before each measurement.
const WARM_UP: usize = 8;

#[derive(Args)]
#[command(after_help = "\
Examples:
  trilobite tune bitnet-b1.58-2B-4T/
  trilobite tune model.gguf -t 4 -r 5
  trilobite run --repack model.gguf                 uses the recorded layout

Converts the model to every layout that its ternary weights can have, measures how fast each decodes, \
and records the fastest in the cache. All layouts give the same results. A difference within the noise, \
where the ranges of the speeds overlap, keeps the layout that `convert --layout auto` chooses. The files \
of all layouts are on the disk at the same time. They are removed; that of the recorded layout is kept as \
the model's conversion if the model has at least 16 MiB. Other commands that open the same folder wait.

From then on a checkpoint folder is opened in the recorded layout, and so is a GGUF file with --repack. \
`trilobite convert` uses it with --layout tuned only. The record holds for this processor and instruction \
set, and until the model or the converter changes.")]
pub(crate) struct Tune {
    /// Hugging Face folder, GGUF file or name of a pulled model
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Number of tokens to decode per measurement
    #[arg(short, long = "n-predict", value_name = "N", default_value_t = 32,
          value_parser = at_least(1))]
    n: usize,
    /// Number of runs per layout
    #[arg(short, long, value_name = "N", default_value_t = 3, value_parser = at_least(2))]
    runs: usize,
    /// Threads [default: all cores]
    #[arg(short, long, value_parser = thread_count())]
    threads: Option<u16>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Tune, global: &Global) -> Result<ExitCode> {
    // The first signal ends the command after it has removed its files.
    interrupt::listen()?;
    let machine = machine::processor()?;
    start_threads(args.threads.map_or(0, usize::from))?;
    tune(args, global, machine).map_err(|error| model::of_model(error, &args.model))
}

fn tune(args: &Tune, global: &Global, machine: Machine) -> Result<ExitCode> {
    let say = |text: &str| {
        if !global.quiet {
            output::say(text);
        }
    };
    let mut waiting = false;
    let tuning = Tuning::start(&Cache::from_env(), &args.model, &mut |_| {
        if !std::mem::replace(&mut waiting, true) {
            say("waiting for another process that converts it");
        }
        go_on()
    })?;
    let layouts = tuning.layouts().clone();
    check(&layouts, args.n)?;
    let mut trials = Vec::new();
    for (index, &layout) in layouts.possible.iter().enumerate() {
        say(&format!("converting to {layout}, {} of {}", index + 1, layouts.possible.len()));
        let bar = Progress::new(0, Unit::Bytes, global)?;
        let file = tuning.convert(layout, &mut |progress| {
            bar.set(progress.done, progress.total);
            bar.set_message(progress.tensor);
            go_on()
        });
        bar.finish();
        trials.push(Trial { layout, file: file?, speeds: Vec::new() });
    }
    let threads = args.threads.map_or_else(machine::cores, usize::from);
    // The rounds are interleaved, so that a slow phase of the machine affects all layouts. A model
    // is opened anew for each, so that one at a time is in memory.
    for round in 1..=args.runs {
        for trial in &mut trials {
            say(&format!("run {round} of {}, {}", args.runs, trial.layout));
            trial.speeds.push(speed(&trial.file, args.n, threads)?);
            ensure!(!interrupt::seen(), "interrupted");
        }
    }
    let speeds = trials.into_iter().map(Trial::result).collect::<Result<Vec<_>>>()?;
    let choice = choose(&speeds);
    let tuned = Tuned {
        layout: choice.layout,
        auto: layouts.auto,
        head_scan: layouts.head_scan,
        machine,
        threads,
        tokens: args.n,
        runs: args.runs,
        date: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        engine: env!("CARGO_PKG_VERSION").to_owned(),
        speeds,
    };
    let record = tuning.record();
    let kept = tuning.finish(&tuned)?;
    let name = args.model.display().to_string();
    if args.json {
        output::print_json(&json!({
            "model": name,
            "fastest": choice.fastest.name(),
            "reason": choice.reason(tuned.auto),
            "record": record,
            "file": kept,
            "tuned": tuned,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = table(&name, &tuned);
    text += &format!("{}\n", choice.reason(tuned.auto));
    let line = |path: PathBuf| output::line(&path.display().to_string());
    text += &format!("recorded in {}\n", line(record));
    if let Some(kept) = kept {
        text += &format!("converted to {}\n", line(kept));
    }
    output::print_text(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn go_on() -> ControlFlow<()> {
    if interrupt::seen() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Checks that a model decodes, and as many tokens.
fn check(model: &Layouts, tokens: usize) -> Result<()> {
    ensure!(!model.only_embeds, Error::OnlyEmbeds);
    let most = model.context;
    ensure!(
        u64::try_from(tokens).is_ok_and(|tokens| tokens < most),
        "{tokens} tokens and one more were asked for, but the model was made for at most {most}"
    );
    Ok(())
}

/// A file to measure.
struct Trial {
    layout: Layout,
    file: PathBuf,
    speeds: Vec<f64>,
}

impl Trial {
    fn result(self) -> Result<LayoutSpeed> {
        let file_bytes = std::fs::metadata(&self.file)?.len();
        let Spread { median, min, max } = Spread::of(self.speeds);
        let tokens_per_s = Speed { median, min, max };
        Ok(LayoutSpeed { layout: self.layout, file_bytes, tokens_per_s })
    }
}

/// The decoding speed of a file in tokens per second.
fn speed(file: &Path, tokens: usize, threads: usize) -> Result<f64> {
    let model = Arc::new(Model::open(file)?.into_large_pages(machine::cores()));
    let context = tokens.max(WARM_UP) + 1;
    let options = SessionOptions { threads, context, ..SessionOptions::default() };
    let mut session = Session::new(model, options)?;
    decode_speed(&mut session, 0, WARM_UP, &mut Work::default())?;
    decode_speed(&mut session, 0, tokens, &mut Work::default())
}

/// The chosen layout, and the one with the highest median.
#[derive(Debug, PartialEq)]
struct Choice {
    layout: Layout,
    fastest: Layout,
}

/// Chooses the fastest layout. The first, which is that of `auto`, is preferred to a faster one whose
/// range of speeds overlaps with its own.
fn choose(speeds: &[LayoutSpeed]) -> Choice {
    let median = |speed: &&LayoutSpeed| speed.tokens_per_s.median;
    let best = speeds.iter().max_by(|a, b| median(a).total_cmp(&median(b)));
    let (Some(auto), Some(best)) = (speeds.first(), best) else {
        return Choice { layout: Layout::Auto, fastest: Layout::Auto };
    };
    let within_noise = best.tokens_per_s.min <= auto.tokens_per_s.max;
    let chosen = if within_noise { auto } else { best };
    Choice { layout: chosen.layout, fastest: best.layout }
}

impl Choice {
    /// The result in words.
    fn reason(&self, auto: Layout) -> String {
        let Choice { layout, fastest } = self;
        match (layout == fastest, *layout == auto) {
            (true, true) => format!("{layout} is the fastest, and what `auto` chooses"),
            (true, false) => format!("{layout} is the fastest; `auto` chooses {auto}"),
            (false, _) => format!(
                "{layout}, which `auto` chooses, and {fastest} differ by no more than the noise"
            ),
        }
    }
}

/// The speeds, the recorded layout marked.
fn table(name: &str, tuned: &Tuned) -> String {
    let Tuned { machine, threads, .. } = tuned;
    let cpu = machine.cpu.as_deref().unwrap_or(std::env::consts::ARCH);
    let name = output::line(name);
    let mut text = format!("{name}: {threads} {}, {}, {cpu}\n", noun(*threads), machine.isa);
    for LayoutSpeed { layout, file_bytes, tokens_per_s } in &tuned.speeds {
        let mark = if *layout == tuned.layout { '*' } else { ' ' };
        let (name, bytes) = (layout.name(), output::bytes(*file_bytes));
        let Speed { median, min, max } = tokens_per_s;
        text +=
            &format!("{mark} {name:8} {bytes:>10} {median:9.2} tokens/s  ({min:.2} to {max:.2})\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Speeds as (median, minimum, maximum).
    fn chosen(speeds: &[(Layout, [f64; 3])]) -> Choice {
        let speeds = speeds.iter().map(|&(layout, [median, min, max])| LayoutSpeed {
            layout,
            file_bytes: 1,
            tokens_per_s: Speed { median, min, max },
        });
        choose(&speeds.collect::<Vec<_>>())
    }

    #[test]
    fn the_fastest_layout_is_chosen_unless_it_is_within_the_noise_of_auto() {
        use Layout::{I2S, Sparse, T5_3};
        let slow = (I2S, [20.0, 19.0, 21.0]);
        let auto = (Sparse, [30.0, 29.0, 31.0]);
        let both = |layout| Choice { layout, fastest: layout };
        assert_eq!(chosen(&[auto, (T5_3, [33.0, 32.0, 34.0]), slow]), both(T5_3));
        assert_eq!(chosen(&[auto, (T5_3, [28.0, 27.0, 32.0]), slow]), both(Sparse));
        let noise = Choice { layout: Sparse, fastest: T5_3 };
        assert_eq!(chosen(&[auto, (T5_3, [33.0, 30.9, 34.0]), slow]), noise);
        // Noise between others does not matter.
        assert_eq!(chosen(&[slow, (T5_3, [33.0, 28.0, 34.0]), auto]), both(T5_3));
        assert!(noise.reason(Sparse).contains("sparse, which `auto` chooses, and t5_3 differ"));
        assert!(both(T5_3).reason(Sparse).ends_with("t5_3 is the fastest; `auto` chooses sparse"));
    }
}
