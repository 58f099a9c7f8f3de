//! Texts from files and pipes, which may be endless.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Bytes of a text: more than any context holds.
const LONGEST: u64 = 256 << 20;

/// The text of a file, a pipe or a device.
pub(crate) fn text(path: &Path) -> Result<String> {
    let file = File::open(path).map_err(anyhow::Error::from);
    file.and_then(text_from).with_context(|| path.display().to_string())
}

/// All text that there is to read.
pub(crate) fn text_from(from: impl Read) -> Result<String> {
    let mut text = String::new();
    from.take(LONGEST + 1).read_to_string(&mut text)?;
    ensure!(text.len() as u64 <= LONGEST, "it is longer than {LONGEST} bytes");
    Ok(text)
}
