//! stdout carries the result, stderr the talk.

use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::Global;

/// Writes to stdout and flushes, so that a reader sees a token when it is there.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// Prints a JSON value, indented.
pub(crate) fn print_json(value: &serde_json::Value) -> Result<()> {
    print(&format!("{value:#}\n"))
}

/// Whether an error is that stdout was closed by its reader.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// A progress bar on stderr, only where that is a terminal.
pub(crate) fn progress_bar(total: u64, unit: Unit, global: &Global) -> Result<ProgressBar> {
    if global.quiet {
        return Ok(ProgressBar::hidden());
    }
    let template = match unit {
        Unit::Bytes => "{bar:30} {bytes}/{total_bytes} {eta} {wide_msg}",
        Unit::Items => "{bar:30} {pos}/{len} {eta} {wide_msg}",
    };
    Ok(ProgressBar::new(total).with_style(ProgressStyle::with_template(template)?))
}

/// What a progress bar counts.
pub(crate) enum Unit {
    Bytes,
    Items,
}

/// Writes a file whole or not at all.
pub(crate) fn write_file(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    write_temporary(path, fill).with_context(|| path.display().to_string())
}

fn write_temporary(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut builder = tempfile::Builder::new();
    // The permissions of an ordinary new file, not the private ones of temporary files.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut temporary = builder.tempfile_in(folder.unwrap_or(Path::new(".")))?;
    let mut out = BufWriter::new(temporary.as_file_mut());
    fill(&mut out)?;
    out.flush()?;
    drop(out);
    temporary.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// A number of bytes for people.
pub(crate) fn bytes(n: u64) -> String {
    match n {
        0..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.2} GB", n as f64 / 1e9),
    }
}
