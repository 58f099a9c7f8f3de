//! `cargo xtask golden`: regenerates the reference data of `models/golden` with PyTorch.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// Regenerates the small checkpoints and reference logits of models/golden with PyTorch.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder to write to
    #[arg(long, value_name = "DIR", default_value = "models/golden")]
    out: PathBuf,
    /// Python interpreter that already has the pinned packages; by default a virtual environment is
    /// made in models/golden/.venv
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let python = match &args.python {
        Some(python) => python.clone(),
        None => virtual_environment()?,
    };
    let out = std::path::absolute(&args.out)?;
    let out = out.to_str().context("--out is not UTF-8")?;
    crate::repository::shell(&python, &["models/golden/golden.py", "--out", out])?;
    crate::repository::shell(&python, &["models/golden/maple.py", out])?;
    crate::repository::shell(&python, &["models/golden/embeddings.py", "--out", out])?;
    crate::repository::shell(&python, &["models/golden/configs.py", out])?;
    crate::repository::shell(&python, &["models/golden/tokenizer_settings.py", out])?;
    crate::repository::shell(&python, &["models/golden/chat_templates.py", out])
}

/// The interpreter of models/golden/.venv, with the packages of requirements.txt installed.
fn virtual_environment() -> Result<PathBuf> {
    let folder = crate::repository::root().join("models/golden/.venv");
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    if !python.exists() {
        crate::repository::shell("python3", &["-m", "venv", "models/golden/.venv"])?;
    }
    crate::repository::shell(
        &python,
        &["-m", "pip", "install", "-q", "-r", "models/golden/requirements.txt"],
    )?;
    Ok(python)
}
