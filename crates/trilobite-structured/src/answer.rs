//! Splits an answer into reasoning, text and tool calls.

use crate::call::CallFormat;
use crate::call_reader::{CallReader, overlap};
use crate::piece::Piece;
use crate::reasoning::{THINK, THINK_END};
use crate::tools::Tools;

/// Splits an answer incrementally.
///
/// Reasoning lies between `<think>` at the start of the answer, or at the end of its prompt, and
/// `</think>`. Whitespace around reasoning is dropped.
pub struct Answer {
    section: Section,
    /// Undecided text.
    held: String,
    calls: Option<CallReader>,
}

#[derive(Clone, Copy, PartialEq)]
enum Section {
    Beginning,
    /// Only whitespace after the opening tag so far.
    Opened,
    Reasoning,
    /// Only whitespace after the closing tag so far.
    Closed,
    Text,
}

impl Answer {
    /// Creates a parser. `open` means that the prompt begins the reasoning.
    pub fn new(open: bool) -> Self {
        let section = if open { Section::Opened } else { Section::Beginning };
        Self { section, held: String::new(), calls: None }
    }

    /// Enables tool calls. Without `parallel`, calls after the first are dropped.
    #[must_use]
    pub fn with_calls(self, format: CallFormat, tools: Tools, parallel: bool) -> Self {
        Self { calls: Some(CallReader::new(format, tools, parallel)), ..self }
    }

    /// Parses more text and returns what is decided.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        let mut out = Vec::new();
        self.held += text;
        if self.section == Section::Beginning {
            let begun = self.held.trim_start();
            if let Some(rest) = begun.strip_prefix(THINK) {
                (self.held, self.section) = (rest.to_owned(), Section::Opened);
            } else if !THINK.starts_with(begun) {
                self.section = Section::Text;
            }
        }
        if self.section == Section::Opened {
            self.skip_space(Section::Reasoning);
        }
        if self.section == Section::Reasoning {
            let end = self.held.find(THINK_END);
            let certain = end.unwrap_or(self.held.len() - overlap(&self.held, THINK_END));
            let reasoning = self.held[..certain].trim_end().to_owned();
            self.held.drain(..end.map_or(reasoning.len(), |at| at + THINK_END.len()));
            if !reasoning.is_empty() {
                out.push(Piece::Reasoning(reasoning));
            }
            if end.is_some() {
                self.section = Section::Closed;
            }
        }
        if self.section == Section::Closed {
            self.skip_space(Section::Text);
        }
        if self.section == Section::Text {
            self.emit(&mut out);
        }
        out
    }

    /// Ends the text and returns the rest.
    pub fn finish(&mut self) -> Vec<Piece> {
        let mut out = Vec::new();
        match self.section {
            Section::Opened | Section::Closed => {}
            Section::Reasoning => {
                let rest = std::mem::take(&mut self.held).trim_end().to_owned();
                out.extend((!rest.is_empty()).then_some(Piece::Reasoning(rest)));
            }
            Section::Beginning | Section::Text => self.emit(&mut out),
        }
        if let Some(calls) = &mut self.calls {
            calls.finish(&mut out);
        }
        out
    }

    fn skip_space(&mut self, next: Section) {
        let space = self.held.len() - self.held.trim_start().len();
        self.held.drain(..space);
        if !self.held.is_empty() {
            self.section = next;
        }
    }

    fn emit(&mut self, out: &mut Vec<Piece>) {
        let text = std::mem::take(&mut self.held);
        match &mut self.calls {
            Some(calls) => calls.push(&text, out),
            None if text.is_empty() => {}
            None => out.push(Piece::Text(text)),
        }
    }
}
