//! `cargo xtask compare`: compares models and engines, and writes tables and plots.
//!
//! Every number is the output of a program (`trilobite bench`, `perplexity`, `eval`, `inspect` or a
//! peer), or a published figure from models.toml, which is marked as such. A cell without a number
//! states the reason.

mod args;
mod check;
mod machine;
mod measure;
mod perplexity;
mod plan;
mod plots;
mod prepare;
mod process;
mod ratios;
mod report;
mod row;
mod scaling;
mod score;
mod spread;
mod subject;
mod svg;
mod synthetic;
mod tasks;
#[cfg(test)]
#[cfg(unix)]
mod tests;

use anyhow::{Context, Result, ensure};

pub(crate) use self::args::Args;
use self::check::Text;
use self::plan::Plan;
use self::row::Row;

pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(args.rounds > 0, "--rounds is 0, expected at least 1");
    let plan = Plan::of(args)?;
    let binary = crate::trilobite::binary(args.trilobite.as_deref())?;
    let text = Text::of(args)?;
    std::fs::create_dir_all(&args.output).with_context(|| args.output.display().to_string())?;

    let subjects = prepare::prepare(&binary, args, &plan)?;
    let mut rows: Vec<Row> = Vec::new();
    for subject in &subjects {
        if let Err(why) = &subject.kind {
            // Without a network all models fail for the same reason, which is printed once.
            let said = rows.iter().any(|row| row.measure.as_ref() == Err(why));
            eprintln!("{}: {}", subject.name, if said { "the same" } else { why });
        }
        rows.push(check::checked(&binary, subject, &text));
    }
    let measured = measure::interleaved(&binary, args, &plan, &subjects, &mut rows);
    if args.scaling {
        scaling::measure(&binary, args, &subjects, &mut rows);
    }
    let to_score = rows.iter().any(|row| row.score.is_ok());
    let unfetched = score::fetch(&binary, args, if to_score { &plan.tasks } else { &[] });
    for (row, subject) in rows.iter_mut().zip(&subjects) {
        score::row(&binary, args, &plan, subject, row, &unfetched);
    }
    let machine = machine::fingerprint(&binary, args, &measured)?;
    report::write(args, &text, &plan, &rows, machine)
}
