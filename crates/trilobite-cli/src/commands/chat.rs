//! The chat on the terminal.

use std::process::ExitCode;

use anyhow::Result;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use trilobite_runtime::{Message, Model, Tokenizer};

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
        interrupt::clear();
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
                let generation = generator.print(&prompt)?;
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
    let generation = generator.print(&prompt)?;
    output::print("\n")?;
    generator.report(&generation);
    messages.push(Message::new("assistant", generation.text));
    Ok(())
}
