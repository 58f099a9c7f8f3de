//! `trilobite perplexity`: measures the perplexity of a text.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use serde_json::json;
use trilobite_runtime::Perplexity as Sum;

use crate::args::{Global, Perplexity};
use crate::output::{self, Progress, Unit};
use crate::{input, model};

/// Default length of a window in tokens.
const DEFAULT_WINDOW: usize = 2048;

pub(crate) fn run(args: &Perplexity, global: &Global) -> Result<ExitCode> {
    let model = model::load(&args.model, global)?;
    let text = input::text(&args.file)?;
    let tokenizer = model::tokenizer(&model, global)?;
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
    let stride = args.stride.unwrap_or(span);
    ensure!(
        (1..=span).contains(&stride),
        "--stride is {stride}, expected 1..={span}: a window's tokens"
    );

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
        "{} holds {} tokens, too few to predict one",
        args.file.display(),
        tokens.len()
    );
    let bits_per_byte = sum.negative_log_likelihood / std::f64::consts::LN_2 / text.len() as f64;
    let method = format!(
        "windows of {context} tokens{}, one every {stride}; every token scored once",
        if bos.is_empty() { "" } else { " that begin with the beginning-of-text token" }
    );
    if args.json {
        output::print_json(&json!({
            "model": model::name(&args.model),
            "file": args.file.display().to_string(),
            "perplexity": sum.value(),
            "mean_negative_log_likelihood": sum.negative_log_likelihood / sum.tokens as f64,
            "bits_per_byte": bits_per_byte,
            "tokens": sum.tokens,
            "ctx": context,
            "stride": stride,
            "method": method,
        }))?;
    } else {
        output::print(&format!(
            "perplexity {:.4} over {} tokens ({bits_per_byte:.4} bits per byte)\n{method}\n",
            sum.value(),
            sum.tokens
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
