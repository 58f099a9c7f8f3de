//! Reads texts from files and pipes, which may be endless.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Maximum size of a text in bytes, more than any context holds.
const MAX_BYTES: u64 = 256 << 20;

/// The byte-order mark that some editors put before a text. It is not part of the text.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// Reads the text of a file, a pipe or a device.
pub(crate) fn text(path: &Path) -> Result<String> {
    let file = File::open(path).map_err(anyhow::Error::from);
    file.and_then(text_from).with_context(|| path.display().to_string())
}

/// Reads all text from a reader.
pub(crate) fn text_from(from: impl Read) -> Result<String> {
    let mut text = String::new();
    from.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    ensure!(text.len() as u64 <= MAX_BYTES, "it is longer than {MAX_BYTES} bytes");
    let mark = text.len() - without_mark(&text).len();
    text.drain(..mark);
    Ok(text)
}

/// The text of a file without its byte-order mark.
pub(crate) fn without_mark(text: &str) -> &str {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}
