//! `trilobite score`: computes log-likelihoods of continuations.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};
use trilobite_runtime::{Model, Request, Scorer};

use crate::args::{Global, Score};
use crate::output::{self, Progress, Unit};
use crate::{input, model};

pub(crate) fn run(args: &Score, global: &Global) -> Result<ExitCode> {
    let model = model::load(&args.model, global)?;
    let source = args.input.as_ref().map_or_else(|| "stdin".into(), |f| f.display().to_string());
    let input: Box<dyn BufRead> = match &args.input {
        Some(path) => Box::new(BufReader::new(File::open(path).with_context(|| source.clone())?)),
        None => Box::new(BufReader::new(std::io::stdin())),
    };
    let lines: Vec<String> =
        input.lines().collect::<std::io::Result<_>>().with_context(|| source.clone())?;
    let mut scorer = Scorer::new(model::session(&model, &args.compute, args.ctx)?);
    let total = lines.len() as u64;
    let bar = Progress::new(total, Unit::Items, global)?;
    let mut score_all = |write: &mut dyn FnMut(&str) -> Result<()>| -> Result<()> {
        for (index, line) in lines.iter().enumerate() {
            bar.set(index as u64, total);
            let line = if index == 0 { input::without_mark(line) } else { line };
            if line.trim().is_empty() {
                continue;
            }
            let scored = score(&model, &mut scorer, line, args, global)
                .with_context(|| format!("{source} line {}", index + 1))?;
            write(&output::json(&format!("{scored}\n")))?;
        }
        Ok(())
    };
    match &args.output {
        Some(path) => {
            output::write_result(path, |out| {
                score_all(&mut |line| Ok(out.write_all(line.as_bytes())?))
            })?;
        }
        None => score_all(&mut output::print)?,
    }
    bar.finish();
    Ok(ExitCode::SUCCESS)
}

fn score(
    model: &Model,
    scorer: &mut Scorer,
    line: &str,
    args: &Score,
    global: &Global,
) -> Result<Value> {
    let mut item: Map<String, Value> = serde_json::from_str(line)?;
    let (request, bytes) =
        if item.contains_key("context_ids") || item.contains_key("continuation_ids") {
            let continuation = ids(&item, "continuation_ids")?;
            // The text of literal ids needs a tokenizer.
            let bytes = match model.tokenizer() {
                Ok(tokenizer) => Some(tokenizer.decode(&continuation, true)?.len()),
                Err(_) => None,
            };
            (Request { context: ids(&item, "context_ids")?, continuation }, bytes)
        } else {
            let (context, continuation) = (text(&item, "context")?, text(&item, "continuation")?);
            let bytes = Some(continuation.len());
            // Prints the tokenizer's assumptions.
            model::tokenizer(model, global)?;
            (Request::encode(model, context, continuation, !args.no_bos)?, bytes)
        };
    let score = scorer.score(&request)?;
    item.insert("logprob".into(), score.logprob.into());
    item.insert("greedy".into(), score.greedy.into());
    item.insert("tokens".into(), request.continuation.len().into());
    item.insert("bytes".into(), bytes.into());
    Ok(Value::Object(item))
}

fn text<'a>(item: &'a Map<String, Value>, key: &str) -> Result<&'a str> {
    item.get(key).and_then(Value::as_str).with_context(|| format!("{key:?} is not a string"))
}

fn ids(item: &Map<String, Value>, key: &str) -> Result<Vec<u32>> {
    let Some(array) = item.get(key).and_then(Value::as_array) else {
        bail!("{key:?} is not an array of token ids");
    };
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    array.iter().map(id).collect::<Option<_>>().with_context(|| format!("{key:?}: not a token id"))
}
