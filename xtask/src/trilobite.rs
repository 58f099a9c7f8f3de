//! The `trilobite` binary that the chores run.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The given binary, or a release build of this checkout.
pub(crate) fn binary(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = given {
        return path.canonicalize().with_context(|| path.display().to_string());
    }
    let args =
        ["build", "--release", "-p", "trilobite-cli", "--message-format=json-render-diagnostics"];
    eprintln!("$ cargo {}", args.join(" "));
    let output = crate::repository::cargo()
        .args(args)
        .stderr(Stdio::inherit())
        .output()
        .context("cargo did not start")?;
    if !output.status.success() {
        bail!("cargo build failed: {}", output.status);
    }
    let text = String::from_utf8(output.stdout)?;
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut executables = messages.filter_map(|m| Some(PathBuf::from(m["executable"].as_str()?)));
    executables.next_back().context("cargo build made no binary")
}
