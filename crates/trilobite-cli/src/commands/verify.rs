//! `trilobite verify`: proves on this machine that a model computes what its reference computes.

mod identity;
mod recorded;
mod reference;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;
use trilobite_kernels::Kernels;
use trilobite_runtime::Model;

use self::identity::Way;
use crate::args::{self, Global};
use crate::{machine, model, output};

/// Maximum number of tokens that the checks run: enough for the kernels of many tokens.
const TOKENS: usize = 40;
/// The text of the tokens.
const TEXT: &str = "A trilobite was an animal of the sea, and lived 521 to 252 million years ago. Its name \
    means \"three lobes\": one in the middle of its shell, and one on each side. What did it eat? Mostly mud.";

#[derive(Args)]
#[command(after_help = "\
Examples:
  trilobite verify model.gguf
  trilobite verify bitnet-b1.58-2B-4T/ --json
  trilobite verify model.gguf --recorded golden/

Prints a line for each check, and exits with 0 if all pass and with 1 if one fails:
  instruction sets  every instruction set of this machine gives the same logits, to the last bit
  divisions         so do other numbers of threads, other divisions of the tokens, and --plain
  largest logits    the searches of greedy, top-k and min-p decoding find what the whole head gives
  reference         every layer computes what plain loops in double precision compute
  recorded outputs  logits, greedy tokens or embeddings that a reference implementation has recorded

Recorded outputs are those of the folder --recorded, or of a folder `golden` in the checkpoint's folder or \
beside the file: prompts.json, logits_NAME.npy and greedy.json, or texts.json and embeddings.npy. The other \
checks need the model alone; those that compute 40 tokens with every way of computing take a minute for two \
billion weights.")]
pub(crate) struct Verify {
    #[command(flatten)]
    model: args::Model,
    /// Folder with recorded outputs of a reference implementation
    #[arg(long, value_name = "DIR")]
    recorded: Option<PathBuf>,
    /// Threads [default: all cores]
    #[arg(short, long, value_parser = args::thread_count())]
    threads: Option<u16>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The result of a check, with what was found.
enum Outcome {
    Passed(String),
    Failed(String),
    /// There is nothing to check.
    Skipped(String),
}

/// What all checks run, and what it gives.
struct Subject {
    model: Arc<Model>,
    tokens: Vec<u32>,
    threads: usize,
    /// The outputs after each token, computed at once with the kernels that this machine uses.
    outputs: Vec<Vec<f32>>,
}

impl Subject {
    fn new(model: Arc<Model>, threads: usize) -> Result<Self> {
        let config = model.config();
        let count = TOKENS.min(config.context);
        ensure!(count > 0, "the model has a context of no tokens");
        let encoded = model.tokenizer().and_then(|tokenizer| tokenizer.encode(TEXT, true, false));
        let mut tokens = encoded.unwrap_or_default();
        // A model without a tokenizer, or one that knows whole sentences.
        let others = (0u64..).map(|i| (i * 2_654_435_761 % config.vocab as u64) as u32);
        tokens.extend(others.take(count.saturating_sub(tokens.len())));
        tokens.truncate(count);
        let outputs = identity::outputs(&model, &Way::at_once(&tokens, threads)?, &tokens)?;
        Ok(Self { model, tokens, threads, outputs })
    }

    /// How the outputs are computed.
    fn way(&self) -> Result<Way> {
        Way::at_once(&self.tokens, self.threads)
    }
}

pub(crate) fn run(args: &Verify, global: &Global) -> Result<ExitCode> {
    let recorded = recorded::folder(args.recorded.as_deref(), args.model.model.as_deref())?;
    let model = model::load(&args.model, args.threads, global)?;
    let name = model::name(&args.model);
    let threads = args.threads.map_or_else(machine::cores, usize::from);
    let subject = Subject::new(model, threads)?;

    type Check<'a> = Box<dyn Fn() -> Result<Outcome> + 'a>;
    let checks: [(&str, Check<'_>); 5] = [
        ("instruction sets", Box::new(|| identity::instruction_sets(&subject))),
        ("divisions", Box::new(|| identity::divisions(&subject))),
        ("largest logits", Box::new(|| identity::largest(&subject))),
        ("reference", Box::new(|| reference::layers(&subject))),
        ("recorded outputs", Box::new(|| recorded::compare(&subject, recorded.as_ref()))),
    ];
    let (mut failures, mut report) = (Vec::new(), Vec::new());
    for (check, run) in checks {
        let (status, detail) = match run()? {
            Outcome::Passed(detail) => ("ok", detail),
            Outcome::Failed(detail) => ("FAILED", detail),
            Outcome::Skipped(detail) => ("-", detail),
        };
        if status == "FAILED" {
            failures.push(check);
        }
        match args.json {
            true => report.push(json!({
                "check": check,
                "passed": match status { "ok" => Some(true), "FAILED" => Some(false), _ => None },
                "detail": detail,
            })),
            false => output::print(&format!("{status:<6}  {check:<16}  {detail}\n"))?,
        }
    }
    let passed = failures.is_empty();
    if args.json {
        output::print_json(&json!({
            "model": name,
            "isa": Kernels::detect()?.isa.name(),
            "threads": threads,
            "passed": passed,
            "checks": report,
        }))?;
    } else {
        let verdict = match passed {
            true => "computes what its reference computes".to_owned(),
            false => format!("differs from its reference: {}", failures.join(", ")),
        };
        output::print(&format!("{name} {verdict}\n"))?;
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
