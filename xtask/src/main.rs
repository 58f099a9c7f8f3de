//! Repository chores; see `cargo xtask --help`. They compute nothing that the engine computes.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod ci;
mod compare;
mod fetch;
mod golden;
mod instructions;
mod models;
mod readme;
mod repository;
mod synth;
mod trilobite;

use std::process::ExitCode;

use clap::Parser;

/// Repository chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum XtaskCommand {
    Synth(synth::Args),
    Compare(Box<compare::Args>),
    Fetch(fetch::Args),
    Golden(golden::Args),
    Instructions(instructions::Args),
    Readme(readme::Args),
    Ci(ci::Args),
}

fn main() -> ExitCode {
    let result = match XtaskCommand::parse() {
        XtaskCommand::Synth(args) => synth::run(&args),
        XtaskCommand::Compare(args) => compare::run(&args),
        XtaskCommand::Fetch(args) => fetch::run(&args),
        XtaskCommand::Golden(args) => golden::run(&args),
        XtaskCommand::Instructions(args) => instructions::run(&args),
        XtaskCommand::Readme(args) => readme::run(&args),
        XtaskCommand::Ci(args) => ci::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
