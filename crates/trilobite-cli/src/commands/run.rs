//! `trilobite run`: an answer to one prompt, or a chat.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use trilobite_runtime::{Drafted, Finish, Message, Model};

use super::chat;
use super::generator::Generator;
use super::template::Template;
use crate::args::{Global, Run};
use crate::usage::WrongUsage;
use crate::{input, interrupt, model, output};

pub(crate) fn run(args: &Run, global: &Global) -> Result<ExitCode> {
    let terminal = std::io::stdin().is_terminal();
    let has_prompt = args.prompt.is_some() || args.prompt_file.is_some() || args.tokens.is_some();
    let wants_chat = args.chat || args.system.is_some() || args.chat_template.is_some();
    if args.tokens.is_some() && wants_chat {
        let why = "--tokens are used literally and cannot be put into a chat template";
        bail!(WrongUsage(why.to_owned()));
    }
    // An interrupted conversion removes its temporary file.
    interrupt::listen()?;
    let model = model::load_to_decode(&args.model, args.compute.threads, global)?;
    let template = match args.tokens {
        Some(_) => None,
        None => {
            model::tokenizer(&model, &args.model, global)?;
            Template::choose(&model, args)?
        }
    };
    let mut generator = Generator::new(&model, args, global, template.as_ref())?;
    if !has_prompt && terminal {
        let status = chat::run(&mut generator, &model, args, global, template.as_ref())?;
        generator.save_cache()?;
        return Ok(status);
    }

    let (prompt, text) = match &args.tokens {
        Some(ids) => (ids.clone(), None),
        None => {
            let text = prompt_text(args)?;
            (prompt_ids(&text, &model, args, template.as_ref())?, Some(text))
        }
    };
    generator.check(&prompt).map_err(|error| match args.tokens {
        Some(_) => anyhow::Error::from(error).context("--tokens"),
        None => error.into(),
    })?;
    // Print the seed before the prompt, whose line the answer continues.
    if let Some(seed) = generator.unshown_seed() {
        output::say(&format!("seed {seed}"));
    }
    if args.echo {
        let echo = match (args.ids, text) {
            (true, _) => join(&prompt) + " ",
            (false, Some(text)) if template.is_none() => text,
            (false, _) => model.tokenizer()?.decode(&prompt, true)?,
        };
        output::print_text(&echo)?;
    }
    let generation = generator.generate(&prompt, output::print_text)?;
    if args.ids {
        output::print(&join(&generation.ids))?;
    }
    output::print("\n")?;
    if !global.quiet {
        output::say(&generator.summary(&generation));
    }
    if global.verbose {
        let Drafted { drafted, accepted } = generation.drafted;
        output::say(&format!("{accepted} of {drafted} drafted tokens were right"));
    }
    generator.save_cache()?;
    Ok(match (generation.finish, interrupt::exit_status()) {
        (Finish::Interrupted, Some(status)) => status.into(),
        _ => ExitCode::SUCCESS,
    })
}

fn join(ids: &[u32]) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}

/// The text of the prompt. A line end at the end of a file or stream is removed.
fn prompt_text(args: &Run) -> Result<String> {
    let mut text = match (&args.prompt, &args.prompt_file) {
        (Some(text), _) => return Ok(text.clone()),
        (None, Some(path)) => input::text(path)?,
        (None, None) => input::text_from(std::io::stdin()).context("stdin")?,
    };
    if let Some(rest) = text.strip_suffix('\n') {
        text.truncate(rest.strip_suffix('\r').unwrap_or(rest).len());
    }
    Ok(text)
}

/// The token ids of the prompt. If there is a template, the prompt is a message of a chat.
fn prompt_ids(
    text: &str,
    model: &Model,
    args: &Run,
    template: Option<&Template>,
) -> Result<Vec<u32>> {
    let tokenizer = model.tokenizer()?;
    let Some(template) = template else {
        return Ok(tokenizer.encode(text, true, args.parse_special)?);
    };
    let system = args.system.iter().map(|text| Message::new("system", text));
    let messages: Vec<_> = system.chain([Message::new("user", text)]).collect();
    template.encode(&messages, tokenizer)
}
