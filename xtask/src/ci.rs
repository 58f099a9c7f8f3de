//! `cargo xtask ci`: every check that a change must pass.

use anyhow::Result;

/// Checks formatting, lints and tests, as the continuous integration does.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args) -> Result<()> {
    crate::shell("cargo", &["fmt", "--all", "--check"])?;
    crate::shell("cargo", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    crate::shell("cargo", &["test", "--workspace"])
}
