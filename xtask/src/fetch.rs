//! `cargo xtask fetch`: fetches models and data sets with `trilobite pull`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Fetches models of models/models.toml, pinned by models/models.lock, and the tasks' data sets.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Models
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Data sets of these tasks, or of all
    #[arg(long, value_name = "TASK,TASK", num_args = 0..=1, default_missing_value = "all")]
    data: Option<String>,
    /// Copy from this folder instead
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// The binary to use [default: a release build of this checkout]
    #[arg(long, value_name = "FILE")]
    trilobite: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let binary = crate::trilobite::binary(args.trilobite.as_deref())?;
    let mut command = Command::new(&binary);
    command.arg("pull").args(&args.names).arg("--lock").arg(crate::models::lockfile());
    if let Some(data) = &args.data {
        command.args(["--data", data]);
    }
    if let Some(from) = &args.from {
        command.arg("--from").arg(from);
    }
    let status = command.status().with_context(|| binary.display().to_string())?;
    if !status.success() {
        bail!("trilobite pull failed: {status}");
    }
    Ok(())
}
