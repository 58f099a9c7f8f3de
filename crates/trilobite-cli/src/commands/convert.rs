//! `trilobite convert`: converts a checkpoint into a packed GGUF file.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::json;
use trilobite_convert::{self as engine, HeadScan};
use trilobite_hub::{Cache, Error, Tuned, layouts, resolve, tokenizer_of};

use crate::args::{Convert, Global, LayoutChoice};
use crate::output::{self, Progress, Unit};
use crate::{interrupt, machine, model};

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
    let mut text = format!("{}: {}\n", out.display(), output::bytes(report.file_bytes));
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
    let (cache, of_source) =
        (Cache::from_env(), |error: Error| model::of_model(error.into(), source));
    layouts(&cache, Some(source))
        .and_then(|all| all.ok_or(Error::NotTernary))
        .map_err(of_source)?;
    let found = Tuned::find(&cache, source, &machine::processor()?).map_err(of_source)?;
    let name = source.display();
    found.with_context(|| {
        format!("{name}: no layout is recorded for this machine; `trilobite tune {name}` finds the fastest")
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
