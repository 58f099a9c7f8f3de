//! `cargo xtask compare`: models and engines beside each other, from the file to the plots.
//!
//! Every number comes from a program that was run (`trilobite bench`, `perplexity`, `eval`, `inspect`,
//! or a peer) or from models.toml, and then it is marked as published. A cell without a number says
//! why.

mod check;
mod machine;
mod measure;
mod perplexity;
mod plan;
mod plots;
mod process;
mod report;
mod row;
mod score;
mod subject;
mod svg;
mod synthetic;
#[cfg(test)]
#[cfg(unix)]
mod tests;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use self::check::Text;
use self::plan::Plan;
use self::row::Row;

/// Compares models, and other engines, in memory, speed and scores.
///
/// A MODEL is a name of models/models.toml (it is fetched if it is not there), a GGUF file, a
/// checkpoint folder (it is converted), or `tinystories`, the built-in one; NAME=MODEL names its row.
/// The default is everything that is there: the built-in model, its dense twin, and what was pulled.
/// What is fetched is pinned by models/models.lock.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Models
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    /// The comparison of the technical report of BitNet b1.58 2B4T: its models, all items of its tasks
    #[arg(long, conflicts_with_all = ["synthetic", "rows"])]
    published: bool,
    /// Memory and speed of the same models with random weights, which need no network. MODEL then
    /// chooses among all models of models/models.toml with a shape
    #[arg(long, conflicts_with_all = ["rows", "tasks", "data", "limit", "eval_args"])]
    synthetic: bool,
    /// Rows, tests and goals of a file, such as benches/peers/2b4t.toml: speed only
    #[arg(long, value_name = "FILE", conflicts_with_all = ["models", "peers", "tasks",
          "data", "limit", "eval_args", "prompt", "decode", "threads"])]
    rows: Option<PathBuf>,
    /// Only the tests of --rows whose name contains this, such as tg64-2
    #[arg(long, value_name = "TEXT", requires = "rows")]
    only: Option<String>,
    /// Another engine with its model: COMMAND takes llama-bench's -p, -n, -t, -r and -o json
    #[arg(long = "peer", value_name = "NAME=COMMAND")]
    peers: Vec<String>,
    /// Tasks to score [default: those whose answers are chosen; all 16 with --published]
    #[arg(long, value_name = "TASK,TASK", value_delimiter = ',')]
    tasks: Option<Vec<String>>,
    /// Folder of the data sets [default: where `trilobite pull --data` puts them]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Only the first N items of each task; 0 is all [default: 100; all with --published]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// More arguments of `trilobite eval`, such as --run-untrusted-code
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    eval_args: Option<String>,
    /// Text for the perplexity that is checked first [default: models/tinystories/story.txt]
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Tokens in a window of the perplexity [default: 128 for the default text, else 512]
    #[arg(long, value_name = "N")]
    ctx: Option<usize>,
    /// Tokens of the prompt that is read
    #[arg(short, long, value_name = "N", default_value_t = 512)]
    prompt: usize,
    /// Tokens that are decoded
    #[arg(short = 'n', long, value_name = "N", default_value_t = 128)]
    decode: usize,
    /// Interleaved rounds
    #[arg(short, long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Threads [default: all cores]
    #[arg(short, long, value_name = "N")]
    threads: Option<usize>,
    /// Folder of the report
    #[arg(short, long, value_name = "DIR", default_value = "target/compare")]
    output: PathBuf,
    /// Local mirror that models are copied from
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Fetch nothing
    #[arg(long)]
    no_fetch: bool,
    /// Command put before every measured one, such as one that keeps the machine quiet
    #[arg(long, value_name = "COMMAND")]
    wrap: Option<String>,
    /// The binary to use [default: a release build of this checkout]
    #[arg(long, value_name = "FILE")]
    trilobite: Option<PathBuf>,
}

impl Args {
    fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or_else(cores)
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(args.rounds > 0, "--rounds is 0, expected at least 1");
    let plan = Plan::of(args)?;
    let binary = crate::trilobite::binary(args.trilobite.as_deref())?;
    let text = Text::of(args)?;
    std::fs::create_dir_all(&args.output).with_context(|| args.output.display().to_string())?;

    let subjects = subject::prepare(&binary, args, &plan)?;
    let mut rows: Vec<Row> = Vec::new();
    for subject in &subjects {
        if let Err(why) = &subject.kind {
            // Without a network all models have the same fate, which is told once.
            let said = rows.iter().any(|row| row.measure.as_ref() == Err(why));
            eprintln!("{}: {}", subject.name, if said { "the same" } else { why });
        }
        rows.push(check::checked(&binary, subject, &text));
    }
    let measured = measure::interleaved(&binary, args, &plan, &subjects, &mut rows);
    let to_score = rows.iter().any(|row| row.score.is_ok());
    let unfetched = score::fetch(&binary, args, if to_score { &plan.tasks } else { &[] });
    for (row, subject) in rows.iter_mut().zip(&subjects) {
        score::row(&binary, args, &plan, subject, row, &unfetched);
    }
    let machine = machine::fingerprint(&binary, args, &measured)?;
    report::write(args, &text, &plan, &rows, machine)
}
