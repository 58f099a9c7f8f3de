//! `cargo xtask ci`: every check that a change must pass.

use anyhow::Result;

/// Checks formatting, lints and tests, as the continuous integration does.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    crate::shell(&cargo, &["fmt", "--all", "--check"])?;
    crate::shell(
        &cargo,
        &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"],
    )?;
    crate::shell(&cargo, &["test", "--workspace"])
}
