//! Output: results go to stdout, messages to stderr. Text from files and servers is escaped so that
//! it cannot control the terminal.

use std::borrow::Cow;
use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use trilobite_convert::NewFile;
use trilobite_hub::Size;

use crate::args::Global;
use crate::interrupt;

/// Maximum length of a message on stderr in characters. It may quote a file, whose names and values
/// can have any length.
const MAX_MESSAGE: usize = 1200;

/// An error of writing to stdout.
#[derive(Debug)]
pub(crate) struct Stdout(pub(crate) io::Error);

impl Display for Stdout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "standard output: {}", self.0)
    }
}

impl std::error::Error for Stdout {}

/// Writes to stdout and flushes, so that each token is visible at once.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Stdout)?;
    Ok(())
}

/// Prints text, with control sequences of the terminal escaped.
pub(crate) fn print_text(text: &str) -> Result<()> {
    match io::stdout().is_terminal() {
        true => print(&escaped(text, |c| c.is_control() && !matches!(c, '\n' | '\t'))),
        false => print(text),
    }
}

/// Prints a JSON value, indented.
pub(crate) fn print_json(value: &serde_json::Value) -> Result<()> {
    print(&json(&format!("{value:#}\n")))
}

/// JSON in which every character is visible, with the same value.
pub(crate) fn json(text: &str) -> Cow<'_, str> {
    // Tabs and line breaks are outside of strings, and may be spaces. All others are below U+10000.
    replaced(
        text,
        |c| hides(c) && c != '\n',
        |c| match c {
            '\t' | '\r' => " ".to_owned(),
            c => format!("\\u{:04x}", u32::from(c)),
        },
    )
}

/// Prints a line on stderr. A closed stderr is not an error.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{}", shortened(&line(text), MAX_MESSAGE));
}

/// Text of at most `most` characters, and three dots in place of its middle if it is longer: a
/// message begins with the place of an error and ends with what is expected there.
fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    let end = most / 3;
    let first = text.char_indices().nth(most - end).map(|(at, _)| at);
    let last = text.char_indices().nth_back(end.saturating_sub(1)).map(|(at, _)| at);
    match (first, last, text.chars().nth(most)) {
        (Some(first), Some(last), Some(_)) => {
            format!("{}...{}", &text[..first], &text[last..]).into()
        }
        _ => text.into(),
    }
}

/// Prints several lines on stderr, and keeps the spaces at their beginnings. `faint` selects the
/// terminal's faint style.
pub(crate) fn say_lines(text: &str, faint: bool) {
    let (begin, end) = if faint { ("\u{1b}[2m", "\u{1b}[0m") } else { ("", "") };
    for line in text.lines() {
        let _ = writeln!(io::stderr(), "{begin}{}{end}", shown(line));
    }
}

/// Text from any source as a single line in which every character is visible.
pub(crate) fn line(text: &str) -> String {
    let pieces: Vec<&str> =
        text.lines().map(str::trim_ascii).filter(|piece| !piece.is_empty()).collect();
    shown(&pieces.join(" ")).into_owned()
}

/// Text from any source, with escapes for invisible characters.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    escaped(text, hides)
}

/// Text as a single word of a shell's command line, in quotes if it needs them.
pub(crate) fn word(text: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_alphanumeric() || "%+,-./:=@_".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.into(),
        false => format!("'{}'", text.replace('\'', r"'\''")).into(),
    }
}

fn escaped(text: &str, hides: impl Fn(char) -> bool) -> Cow<'_, str> {
    replaced(text, hides, |c| c.escape_default().to_string())
}

fn replaced(text: &str, what: impl Fn(char) -> bool, by: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.contains(&what) {
        return text.into();
    }
    let mut replaced = String::with_capacity(2 * text.len());
    for c in text.chars() {
        match what(c) {
            true => replaced += &by(c),
            false => replaced.push(c),
        }
    }
    replaced.into()
}

/// Whether a character controls the terminal or changes the order of others.
fn hides(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// Whether an error means that the reader of stdout has closed it.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let stdout = error.chain().find_map(|cause| cause.downcast_ref::<Stdout>());
    stdout.is_some_and(|Stdout(error)| error.kind() == io::ErrorKind::BrokenPipe)
}

/// A progress bar on stderr, if that is a terminal.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    pub(crate) fn new(total: u64, unit: Unit, global: &Global) -> Result<Self> {
        if global.quiet {
            return Ok(Progress(ProgressBar::hidden()));
        }
        let template = match unit {
            Unit::Bytes => "{bar:30} {bytes}/{total_bytes} {eta} {wide_msg}",
            Unit::Items => "{bar:30} {pos}/{len} {eta} {wide_msg}",
        };
        let style = ProgressStyle::with_template(template)?;
        Ok(Progress(ProgressBar::new(total).with_style(style)))
    }

    pub(crate) fn set(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }

    pub(crate) fn set_message(&self, message: &str) {
        self.0.set_message(line(message));
    }

    /// Prints a line above the bar.
    pub(crate) fn say(&self, text: &str) {
        self.0.suspend(|| say(text));
    }

    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// The unit of a progress bar.
pub(crate) enum Unit {
    Bytes,
    Items,
}

/// Writes a command's result to the target of `-o`: a file, which is written atomically and removed
/// if a signal ends the command, or a device or a FIFO.
pub(crate) fn write_result(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    if let Ok(found) = path.metadata()
        && !found.is_file()
        && !found.is_dir()
    {
        let device = OpenOptions::new().write(true).open(path);
        let device = device.with_context(|| path.display().to_string())?;
        return fill_buffered(&device, path, fill);
    }
    interrupt::listen()?;
    write_file(path, fill)
}

/// Writes a file atomically.
pub(crate) fn write_file(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    let new = NewFile::create(path)?;
    fill_buffered(new.file(), path, fill)?;
    Ok(new.finish(true)?)
}

fn fill_buffered(
    file: impl Write,
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    let mut out = Target { out: BufWriter::new(file), path };
    fill(&mut out)?;
    Ok(out.flush()?)
}

/// A writer whose errors name its file. It fails after a signal has asked the command to end.
struct Target<'a, W> {
    out: W,
    path: &'a Path,
}

impl<W> Target<'_, W> {
    fn named(&self, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
    }
}

impl<W: Write> Write for Target<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match interrupt::seen() {
            true => Err(io::Error::other("interrupted before it was complete")),
            false => self.out.write(bytes),
        };
        written.map_err(|error| self.named(error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush().map_err(|error| self.named(error))
    }
}

/// A number of tokens with its noun.
pub(crate) fn tokens(count: usize) -> String {
    format!("{count} {}", if count == 1 { "token" } else { "tokens" })
}

/// A human-readable number of bytes.
pub(crate) fn bytes(n: u64) -> String {
    Size(n).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_a_command_has_quotes_if_it_needs_them() {
        assert_eq!(word("models/2b-4T_v1.0.gguf"), "models/2b-4T_v1.0.gguf");
        for (text, quoted) in [
            ("my model", "'my model'"),
            ("it's", r"'it'\''s'"),
            ("$HOME", "'$HOME'"),
            ("~/m", "'~/m'"),
            ("", "''"),
        ] {
            assert_eq!(word(text), quoted);
        }
    }
}
