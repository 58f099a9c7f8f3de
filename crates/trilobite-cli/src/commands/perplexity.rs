//! `trilobite perplexity`: measures the perplexity of a text.

use std::process::ExitCode;

use anyhow::{Error, Result, ensure};
use serde_json::json;
use trilobite_runtime::{Perplexity as Sum, Tokenizer};

use crate::args::{Global, Perplexity};
use crate::output::{self, Progress, Unit};
use crate::usage::WrongUsage;
use crate::{input, model};

/// Default length of a window in tokens.
const DEFAULT_WINDOW: usize = 2048;

pub(crate) fn run(args: &Perplexity, global: &Global) -> Result<ExitCode> {
    if let (Some(context), Some(stride)) = (args.ctx, args.stride) {
        check_stride(stride, context).map_err(WrongUsage)?;
    }
    let model = model::load(&args.model, args.compute.threads, global)?;
    let text = input::text(&args.file)?;
    let tokenizer = model::tokenizer(&model, &args.model, global)?;
    let bos = tokenizer.encode("", true, false)?;
    let tokens = tokenizer.encode(&text, false, false)?;
    let context = args.ctx.unwrap_or_else(|| model.config().context.min(DEFAULT_WINDOW));
    ensure!(
        context > bos.len() + 1,
        "--ctx is {context}, expected at least {}: a window needs something to predict",
        bos.len() + 2
    );
    let mut session = model::session(&model, &args.compute, Some(context))?;
    let span = context - bos.len();
    let stride = args.stride.unwrap_or(context);
    check_stride(stride, context).map_err(Error::msg)?;
    // Windows touch at most. A window without a beginning-of-text token does not score its first
    // token, so the window before it does.
    let stride = stride.min(context - bos.len().max(1));

    let bar = Progress::new(tokens.len() as u64, Unit::Items, global)?;
    let mut sum = Sum::default();
    let mut scored = 0;
    for start in (0..tokens.len()).step_by(stride) {
        let end = tokens.len().min(start + span);
        let window = [&bos, &tokens[start..end]].concat();
        sum.add_window(&mut session, &window, bos.len() + scored - start)?;
        scored = end;
        bar.set(end as u64, tokens.len() as u64);
        bar.set_message(&format!("perplexity {:.4}", sum.value()));
        if end == tokens.len() {
            break;
        }
    }
    bar.finish();
    ensure!(
        sum.tokens > 0,
        "{} holds {}, too few to predict one",
        args.file.display(),
        output::tokens(tokens.len())
    );
    let (begin, scored) = match bos.is_empty() {
        true => ("", "every token but the first"),
        false => (" that begin with the beginning-of-text token", "every token"),
    };
    let method =
        format!("windows of {context} tokens{begin}, one every {stride}; {scored} scored once");
    let unscored = if bos.is_empty() { first_bytes(tokenizer, tokens[0], &text)? } else { 0 };
    let bytes = text.len() - unscored;
    let bits_per_byte = sum.negative_log_likelihood / std::f64::consts::LN_2 / bytes as f64;
    if args.json {
        output::print_json(&json!({
            "model": model::name(&args.model),
            "file": args.file.display().to_string(),
            "perplexity": sum.value(),
            "mean_negative_log_likelihood": sum.negative_log_likelihood / sum.tokens as f64,
            "bits_per_byte": bits_per_byte,
            "tokens": sum.tokens,
            "bytes": bytes,
            "ctx": context,
            "stride": stride,
            "method": method,
        }))?;
    } else {
        output::print(&format!(
            "perplexity {:.4} over {} ({bits_per_byte:.4} bits per byte)\n{method}\n",
            sum.value(),
            output::tokens(sum.tokens)
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Checks the distance between two windows.
fn check_stride(stride: usize, context: usize) -> Result<(), String> {
    match (1..=context).contains(&stride) {
        true => Ok(()),
        false => Err(format!("--stride is {stride}, expected 1..={context}: at most --ctx")),
    }
}

/// Bytes of the text that its first token stands for.
fn first_bytes(tokenizer: &Tokenizer, token: u32, text: &str) -> Result<usize> {
    let bytes = tokenizer.bytes(token)?;
    // SentencePiece writes a space before the text.
    let added = bytes.starts_with(b" ") && !text.starts_with(' ');
    Ok((bytes.len() - usize::from(added)).min(text.len() - 1))
}
