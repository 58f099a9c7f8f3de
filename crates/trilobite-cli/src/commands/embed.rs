//! `trilobite embed`: computes embeddings of texts.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use serde_json::Value;
use trilobite_runtime::{Embedder, Embedding, Pooling};

use super::npy;
use crate::args::{self, Compute, Global, choice};
use crate::output::{self, Progress, Unit};
use crate::{input, model};

#[derive(Args)]
#[command(after_help = "\
Examples:
  trilobite embed bitnet-embedding.gguf -p \"The cat sleeps on the sofa.\"
  trilobite embed bitnet-embedding.gguf --prompt-name query -p \"Where does the cat sleep?\"
  trilobite embed bitnet-embedding.gguf --file documents.txt --npy documents.npy

A file has a text in each line; one that ends in .jsonl has a JSON string, or an object with \"text\". \
Prints a line of JSON for each text, in order: {\"index\", \"tokens\", \"embedding\"}. Vectors have the \
Euclidean norm 1, so a scalar product is the cosine of two texts. --pooling none gives a list of \
vectors, one for each token. Names of special tokens in a text are text.")]
pub(crate) struct Embed {
    #[command(flatten)]
    pub(crate) model: args::Model,
    /// A text (may be repeated)
    #[arg(short, long, value_name = "TEXT", group = "source", allow_hyphen_values = true)]
    prompt: Vec<String>,
    /// File with a text in each line [default: standard input]
    #[arg(long, value_name = "F", group = "source")]
    file: Option<PathBuf>,
    /// Name of a prompt of the model to put before every text, such as query or document [default:
    /// the model's, usually none]
    #[arg(long, value_name = "NAME")]
    prompt_name: Option<String>,
    /// How the hidden states of a text become its embedding [default: the model's]
    #[arg(long, value_parser = choice(Pooling::ALL, |p| p.name(), |p| p.summary()))]
    pooling: Option<Pooling>,
    /// Write the vectors to this file, as an f32 array with a row for each
    #[arg(long, value_name = "FILE.npy")]
    npy: Option<PathBuf>,
    /// Print JSON lines, the default
    #[arg(long, conflicts_with = "npy")]
    json: bool,
    /// Maximum number of tokens of a text [default: the model's]
    #[arg(long, value_name = "N", value_parser = args::at_least(1))]
    ctx: Option<usize>,
    #[command(flatten)]
    compute: Compute,
}

pub(crate) fn run(args: &Embed, global: &Global) -> Result<ExitCode> {
    let Texts { source, list } = texts(args)?;
    let model = model::load(&args.model, args.compute.threads, global)?;
    args.npy.iter().try_for_each(|path| model::refuse_target(&args.model, path))?;
    model::tokenizer(&model, &args.model, global)?;
    let prompt = model.prompt(args.prompt_name.as_deref())?;
    let context = args.ctx.unwrap_or(model.config().context);
    let options = model::session_options(&model, &args.compute, Some(context))?;
    let mut embedder = Embedder::new(Arc::clone(&model), options, args.pooling)?;
    let each_token = embedder.pooling() == Pooling::None;
    let mut tokens = Vec::new();
    for (number, text) in &list {
        let place = || format!("{source} {number}");
        let ids = model.encode_to_embed(prompt, text).with_context(place)?;
        let count = ids.len();
        ensure!(
            (1..=context).contains(&count),
            "{}: {}, expected 1 to {context}",
            place(),
            output::tokens(count)
        );
        tokens.push(ids);
    }
    let bar = Progress::new(list.len() as u64, Unit::Items, global)?;
    let mut each = |write: &mut dyn FnMut(usize, Embedding) -> Result<()>| -> Result<()> {
        let mut done = 0;
        while done < tokens.len() {
            for embedding in embedder.embed_first(&tokens[done..])? {
                write(done, embedding)?;
                done += 1;
            }
            bar.set(done as u64, tokens.len() as u64);
        }
        Ok(())
    };
    match &args.npy {
        None => each(&mut |index, embedding| {
            let count = tokens[index].len();
            let embedding = match each_token {
                true => serde_json::to_string(&embedding.vectors().collect::<Vec<_>>())?,
                false => serde_json::to_string(&embedding.values)?,
            };
            output::print(&format!(
                "{{\"index\":{index},\"tokens\":{count},\"embedding\":{embedding}}}\n"
            ))
        })?,
        Some(path) => {
            let rows = match each_token {
                true => tokens.iter().map(Vec::len).sum(),
                false => tokens.len(),
            };
            let width = model.config().hidden;
            output::write_result(path, |out| {
                out.write_all(&npy::header(rows, width))?;
                each(&mut |_, embedding| {
                    let bytes = embedding.values.iter().flat_map(|x| x.to_le_bytes());
                    Ok(out.write_all(&bytes.collect::<Vec<_>>())?)
                })
            })?;
            if !global.quiet {
                output::say(&format!("{}: f32 [{rows}, {width}]", path.display()));
            }
        }
    }
    bar.finish();
    Ok(ExitCode::SUCCESS)
}

/// Texts to embed, and their source.
struct Texts {
    /// The unit of the numbers: lines of a file, or texts of the arguments.
    source: String,
    /// The texts with their numbers.
    list: Vec<(usize, String)>,
}

/// The texts of the arguments, the file, or standard input.
fn texts(args: &Embed) -> Result<Texts> {
    if !args.prompt.is_empty() {
        let list = (1..).zip(args.prompt.iter().cloned()).collect();
        return Ok(Texts { source: "text".to_owned(), list });
    }
    let (name, text) = match &args.file {
        Some(path) => (path.display().to_string(), input::text(path)?),
        None => ("stdin".to_owned(), input::text_from(std::io::stdin()).context("stdin")?),
    };
    let source = format!("{name} line");
    let json = args.file.as_deref().is_some_and(|path| path.extension() == Some("jsonl".as_ref()));
    let lines = (1..).zip(text.lines());
    let list = match json {
        false => lines.map(|(number, line)| (number, line.to_owned())).collect(),
        true => lines
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(number, line)| {
                Ok((number, item(line).with_context(|| format!("{source} {number}"))?))
            })
            .collect::<Result<_>>()?,
    };
    Ok(Texts { source, list })
}

/// The text of a line of JSON.
fn item(line: &str) -> Result<String> {
    let value: Value = serde_json::from_str(line)?;
    let text = value.as_str().or_else(|| value.get("text")?.as_str());
    text.map(str::to_owned).ok_or_else(|| anyhow!("neither a string nor an object with \"text\""))
}
