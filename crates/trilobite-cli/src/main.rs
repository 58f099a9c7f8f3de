//! The command line of Trilobite: parses the arguments, runs one command, and reports an error.

#![forbid(unsafe_code)]

mod args;
mod cli;
mod commands;
mod form;
mod hint;
mod input;
mod interrupt;
mod machine;
mod model;
mod output;
mod prompt_cache;
mod suggest;
mod usage;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    // An evaluation started this process as a sandbox: it confines itself and becomes Python.
    if let Some(confinement) = trilobite_eval::confinement() {
        output::say(&trilobite_eval::confine_and_run(&confinement).to_string());
        return ExitCode::FAILURE;
    }
    let result = match Cli::try_parse() {
        Ok(cli) => run(cli),
        Err(error) => usage::report(error),
    };
    match result {
        Ok(code) => code,
        // The reader of the output has closed it, which is not an error.
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => match interrupt::exit_status() {
            // The user ended the command, which is not an error.
            Some(status) => {
                output::say(&format!("{error:#}"));
                status.into()
            }
            None => {
                let mut text = format!("error: {error:#}");
                if let Some(hint) = hint::of(&error) {
                    text += if text.ends_with('?') { " " } else { "; " };
                    text += &hint;
                }
                output::say(&text);
                usage::exit_status(&error)
            }
        },
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    interrupt::outlive_file_size_limit()?;
    execute(&cli).map_err(|error| match cli.command.model() {
        Some(path) if model::is_at_fault(&error) => model::of_model(error, path),
        _ => error,
    })
}

fn execute(cli: &Cli) -> Result<ExitCode> {
    match &cli.command {
        Command::Run(args) => commands::run::run(args, &cli.global),
        Command::Convert(args) => commands::convert::run(args, &cli.global),
        Command::Inspect(args) => commands::inspect::run(args, &cli.global),
        Command::Logits(args) => commands::logits::run(args, &cli.global),
        Command::Tokenize(args) => commands::tokenize::run(args, &cli.global),
        Command::Score(args) => commands::score::run(args, &cli.global),
        Command::Perplexity(args) => commands::perplexity::run(args, &cli.global),
        Command::Embed(args) => commands::embed::run(args, &cli.global),
        Command::Bench(args) => commands::bench::run(args, &cli.global),
        Command::Tune(args) => commands::tune::run(args, &cli.global),
        Command::Eval(args) => commands::eval::run(args, &cli.global),
        Command::Verify(args) => commands::verify::run(args, &cli.global),
        Command::Serve(args) => commands::serve::run(args, &cli.global),
        Command::Pull(args) => commands::pull::run(args, &cli.global),
        Command::List(args) => commands::stored::list(args, &cli.global),
        Command::Show(args) => commands::stored::show(args),
        Command::Rm(args) => commands::stored::remove(args),
        Command::Completions { shell } => commands::manual::completions(*shell),
        Command::Man { dir } => commands::manual::man(dir),
    }
}
