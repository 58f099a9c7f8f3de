//! `cargo xtask ci`: every check that a change must pass.

use anyhow::Result;

/// Checks formatting, lints and tests, as the continuous integration does.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args) -> Result<()> {
    let cargo = |args: &[&str]| crate::run(&mut crate::cargo(), args);
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    cargo(&["test", "--workspace"])
}
