//! The chat on the terminal.

use std::process::ExitCode;

use anyhow::Result;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use trilobite_runtime::{Finish, Message, Model, Tokenizer};

use super::run::{Generator, system_message};
use super::template::Template;
use crate::args::Run;
use crate::{interrupt, output};

const PROMPT: &str = "> ";

/// Reads a line, answers it, until end of file. A model without a chat template continues every
/// line by itself.
pub(crate) fn run(
    generator: &mut Generator,
    model: &Model,
    args: &Run,
    template: Option<&Template>,
) -> Result<ExitCode> {
    let tokenizer = model.tokenizer()?;
    if template.is_none() {
        output::say("No chat template: the model continues what you type. Ctrl-D ends.");
    } else {
        output::say("Ctrl-C stops an answer, Ctrl-D ends, /clear forgets the conversation.");
    }
    let mut editor = DefaultEditor::new()?;
    let mut messages = system_message(args);
    loop {
        let line = match editor.readline(PROMPT) {
            Ok(line) => line,
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => return Ok(ExitCode::SUCCESS),
            Err(error) => return Err(error.into()),
        };
        if line.trim().is_empty() {
            continue;
        }
        editor.add_history_entry(&line)?;
        if line.trim() == "/clear" {
            messages = system_message(args);
            continue;
        }
        match template {
            Some(template) => {
                messages.push(Message::new("user", line));
                if let Err(error) = answer(generator, template, tokenizer, &mut messages) {
                    // A conversation that has outgrown its context can be cleared and go on.
                    output::say(&format!("error: {error:#}"));
                    messages.pop();
                }
            }
            None => {
                output::print_text(&line)?;
                let prompt = tokenizer.encode(&line, true, args.parse_special)?;
                let generation = continue_from(generator, &prompt)?;
                output::print("\n")?;
                generator.report(&generation);
            }
        }
    }
}

/// Answers the last message and appends the answer.
fn answer(
    generator: &mut Generator,
    template: &Template,
    tokenizer: &Tokenizer,
    messages: &mut Vec<Message>,
) -> Result<()> {
    let prompt = template.encode(messages, tokenizer)?;
    let generation = continue_from(generator, &prompt)?;
    output::print("\n")?;
    generator.report(&generation);
    let mut ids = generation.ids;
    if generation.finish == Finish::EndOfText {
        ids.pop();
    }
    messages.push(Message::new("assistant", tokenizer.decode(&ids, false)?));
    Ok(())
}

/// Generates after `prompt`, reading only what the session has not read before.
fn continue_from(
    generator: &mut Generator,
    prompt: &[u32],
) -> Result<trilobite_runtime::Generation> {
    let read = &generator.context[..generator.session.position().min(generator.context.len())];
    let shared = read.iter().zip(prompt).take_while(|(a, b)| a == b).count();
    // The last token is read again: its logits are what comes next.
    let shared = shared.min(prompt.len().saturating_sub(1));
    generator.session.truncate(shared);
    generator.context.truncate(shared);
    interrupt::clear();
    generator.print(&prompt[shared..])
}
