//! The command line of Trilobite: parse, run one command, report one error.

#![forbid(unsafe_code)]

mod args;
mod commands;
mod download;
mod home;
mod interrupt;
mod listed;
mod machine;
mod model;
mod output;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};

fn main() -> ExitCode {
    // Started by an evaluation to run untrusted code: confined, this process becomes Python.
    if let Some(confinement) = trilobite_eval::confinement() {
        eprintln!("{}", trilobite_eval::confine_and_run(&confinement));
        return ExitCode::FAILURE;
    }
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run(args) => commands::run::run(&args, &cli.global),
        Command::Convert(args) => commands::convert::run(&args, &cli.global),
        Command::Inspect(args) => commands::inspect::run(&args, &cli.global),
        Command::Logits(args) => commands::logits::run(&args, &cli.global),
        Command::Tokenize(args) => commands::tokenize::run(&args, &cli.global),
        Command::Score(args) => commands::score::run(&args, &cli.global),
        Command::Perplexity(args) => commands::perplexity::run(&args, &cli.global),
        Command::Bench(args) => commands::bench::run(&args, &cli.global),
        Command::Eval(args) => commands::eval::run(&args, &cli.global),
        Command::Pull(args) => commands::pull::run(&args, &cli.global),
        Command::Completions { shell } => commands::manual::completions(shell),
        Command::Man { dir } => commands::manual::man(&dir),
    };
    match result {
        Ok(code) => code,
        // Whoever reads our output has seen enough: not an error.
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        // Whoever pressed Ctrl-C knows why.
        Err(_) if interrupt::seen() => interrupt::EXIT_STATUS.into(),
        Err(error) => {
            // One line, whatever a library put into its message.
            let advice = model::advice(&error).map(|advice| format!("; {advice}"));
            let message = format!("{error:#}{}", advice.unwrap_or_default());
            eprintln!("error: {}", message.split_whitespace().collect::<Vec<_>>().join(" "));
            ExitCode::FAILURE
        }
    }
}
