//! `trilobite convert`: converts a checkpoint into a packed GGUF file.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use serde_json::json;
use trilobite_convert::{self as engine, Head, HeadScan, Layout, Quantize, Type};
use trilobite_hub::{Cache, Error, Tuned, layouts, resolve, tokenizer_of};

use crate::args::{Global, Threads, choice};
use crate::output::{self, Progress, Unit};
use crate::{interrupt, machine, model};

/// The layout of a conversion.
#[derive(Clone, Copy)]
enum LayoutChoice {
    Named(Layout),
    Tuned,
}

/// A parser for layouts, and for the one that is recorded for the model.
fn layout_choices() -> impl TypedValueParser<Value = LayoutChoice> {
    const TUNED: &str = "tuned";
    let named =
        Layout::ALL.iter().map(|layout| PossibleValue::new(layout.name()).help(layout.summary()));
    let tuned = "The one that `trilobite tune` found fastest for this source on this machine";
    let all = named.chain([PossibleValue::new(TUNED).help(tuned)]);
    PossibleValuesParser::new(all).try_map(|name| match &*name {
        TUNED => Ok(LayoutChoice::Tuned),
        name => name.parse().map(LayoutChoice::Named),
    })
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  trilobite convert bitnet-b1.58-2B-4T/ -o 2b.gguf
  trilobite convert Llama-3.2-1B/ --type q8_0
  trilobite convert Falcon-E-1B-prequantized/ --quantize absmean")]
pub(crate) struct Convert {
    /// Hugging Face folder, GGUF file or name of a pulled model
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// File to write [default: the source's name with .gguf]
    #[arg(short, long, value_name = "OUT.gguf")]
    output: Option<PathBuf>,
    /// Layout of the ternary weights; `auto` depends on the model only
    #[arg(long, default_value = Layout::Auto.name(), value_parser = layout_choices())]
    layout: LayoutChoice,
    /// Type of a dense model's matrices [default: as in the source]; norms and biases are F32
    #[arg(long = "type", value_parser = choice(Type::ALL, Type::name, Type::summary))]
    ty: Option<Type>,
    /// Type of the embedding and the head; a chosen one can lose precision
    #[arg(long, default_value_t, value_parser = choice(Head::ALL, Head::name, Head::summary))]
    head: Head,
    /// A coarse copy of the head for faster greedy, top-k, top-p and min-p decoding, with the same results;
    /// files with one cannot be read by bitnet.cpp
    #[arg(long, value_name = "SCAN", default_value_t,
          value_parser = choice(HeadScan::ALL, HeadScan::name, HeadScan::summary))]
    head_scan: HeadScan,
    /// Quantize a dense model to ternary weights. This destroys the model unless its weights are
    /// master weights of a BitNet model, or ternary weights stored as floats
    #[arg(long, value_parser = choice(Quantize::ALL, Quantize::name, Quantize::summary))]
    quantize: Option<Quantize>,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    threads: Threads,
}

pub(crate) fn run(args: &Convert, global: &Global) -> Result<ExitCode> {
    let start = Instant::now();
    let source = resolve(&Cache::from_env(), &args.source)
        .with_context(|| args.source.display().to_string())?;
    let out = match &args.output {
        Some(path) => path.clone(),
        None => default_output(&source)?,
    };
    let &Convert { ty, head, mut head_scan, quantize, .. } = args;
    let layout = match args.layout {
        LayoutChoice::Named(layout) => layout,
        LayoutChoice::Tuned => {
            let tuned = tuned(&args.source)?.options();
            if head_scan == HeadScan::Auto {
                head_scan = tuned.head_scan;
            }
            tuned.layout
        }
    };
    let options = engine::Options { layout, ty, head, head_scan, quantize };
    // An interrupted conversion removes its temporary file.
    interrupt::listen()?;
    args.threads.limit_conversion()?;
    let in_source = |error| model::of_model(error, &source);
    let checkpoint = engine::Checkpoint::open(&source).map_err(|error| in_source(error.into()))?;
    // An invalid tokenizer is an error now instead of when the file is run.
    tokenizer_of(&checkpoint).map_err(|error| in_source(error.into()))?;
    let bar = Progress::new(0, Unit::Bytes, global)?;
    let report = engine::convert_file(&checkpoint, &options, &out, args.force, &mut |progress| {
        bar.set(progress.done, progress.total);
        bar.set_message(progress.tensor);
        if interrupt::seen() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish();
    let report = match report {
        Err(engine::Error::Interrupted) => bail!(
            "interrupted; nothing was written to {}, and the same command begins anew",
            out.display()
        ),
        Err(error) if of_output(&error) => return Err(error.into()),
        report => report.map_err(|error| in_source(error.into()))?,
    };
    let seconds = start.elapsed().as_secs_f64();
    if args.json {
        let types = report.types.iter().map(|t| {
            json!({"type": t.ty.name(), "tensors": t.tensors, "weights": t.weights,
                   "bytes": t.bytes})
        });
        output::print_json(&json!({
            "output": out.display().to_string(),
            "file_bytes": report.file_bytes,
            "sha256": report.sha256,
            "types": types.collect::<Vec<_>>(),
            "ternary_bits_per_weight": report.ternary_bits_per_weight,
            "bits_per_weight": report.bits_per_weight,
            "notes": report.notes,
            "seconds": seconds,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if global.quiet {
        return Ok(ExitCode::SUCCESS);
    }
    let name = output::line(&out.display().to_string());
    let mut text = format!("{name}: {}\n", output::bytes(report.file_bytes));
    for t in &report.types {
        let (name, bytes) = (t.ty.name(), output::bytes(t.bytes));
        text +=
            &format!("  {name:6} {:5} tensors {:>13} weights {bytes:>10}\n", t.tensors, t.weights);
    }
    if let Some(bits) = report.ternary_bits_per_weight {
        text += &format!("  {bits:.4} bits per ternary weight, ");
    }
    text += &format!("{:.4} bits per weight overall\n", report.bits_per_weight);
    text += &format!("  sha256 {}\n", report.sha256);
    if report.ternary_bits_per_weight.is_some() {
        text += "  every ternary tensor read back and equal to its source\n";
    }
    for note in &report.notes {
        text += &format!("  note: {}\n", output::line(note));
    }
    output::print_text(&text)?;
    output::say(&format!("converted in {seconds:.1} s"));
    Ok(ExitCode::SUCCESS)
}

/// The recorded layout of a source.
fn tuned(source: &Path) -> Result<Tuned> {
    let found = layouts(&Cache::from_env(), Some(source), &machine::processor()?);
    let found = found.and_then(|found| {
        let (layouts, tuned) = found.ok_or(Error::NotTernary)?;
        match layouts.possible[..] {
            [only] => Err(Error::OneLayout(only)),
            _ => Ok(tuned),
        }
    });
    let found = found.map_err(|error| model::of_model(error.into(), source))?;
    let name = source.display().to_string();
    found.with_context(|| {
        let word = output::word(&name);
        format!("{name}: no layout is recorded for this machine; `trilobite tune {word}` finds the fastest")
    })
}

/// Whether an error of a conversion has another place than the source.
fn of_output(error: &engine::Error) -> bool {
    use engine::Error::{Exists, Output, OutputPath, ReadBack, Threads, Verify, Write};
    matches!(
        error,
        Exists(_)
            | Output { .. }
            | OutputPath { .. }
            | ReadBack { .. }
            | Threads(_)
            | Verify { .. }
            | Write(_)
    )
}

/// The name of the source with `.gguf`, in the current folder.
fn default_output(source: &Path) -> Result<PathBuf> {
    let real = source.canonicalize().with_context(|| source.display().to_string())?;
    let stem = if real.is_dir() { real.file_name() } else { real.file_stem() };
    let mut name = stem.context("the source has no name; give -o")?.to_owned();
    name.push(".gguf");
    Ok(name.into())
}
