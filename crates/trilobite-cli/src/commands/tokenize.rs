//! `trilobite tokenize`: converts text to token ids and back.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::args::{Global, Tokenize};
use crate::{input, model, output};

pub(crate) fn run(args: &Tokenize, global: &Global) -> Result<ExitCode> {
    let tokenizer = model::load_tokenizer(args.model.as_deref(), global)?;
    if let Some(ids) = &args.decode {
        if let Some(id) = ids.iter().find(|id| tokenizer.token(**id).is_none()) {
            let vocab = tokenizer.max_id().map_or(0, |most| u64::from(most) + 1);
            bail!("--decode: token id {id} is not in the vocabulary of {vocab}");
        }
        output::print_text(&format!("{}\n", tokenizer.decode(ids, !args.no_special)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let text;
    let prompts: Vec<&str> = match &args.file {
        Some(path) => {
            text = input::text(path)?;
            text.lines().collect()
        }
        None => args.prompt.iter().map(String::as_str).collect(),
    };
    for (number, prompt) in (1..).zip(prompts) {
        let ids = tokenizer.encode(prompt, !args.no_special, args.parse_special);
        let ids = ids.with_context(|| match &args.file {
            Some(path) => format!("{} line {number}", path.display()),
            None => format!("text {number}"),
        })?;
        let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
        output::print(&format!("{}\n", ids.join(",")))?;
    }
    Ok(ExitCode::SUCCESS)
}
