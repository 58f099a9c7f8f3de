//! What an answer says: its reasoning, its text, and calls of functions.

use crate::call::{Call, CallFormat, CallReader};
use crate::reasoning::{THINK, THINK_END};
use crate::tools::Tools;

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Goes on with the reasoning.
    Reasoning(String),
    /// Goes on with the text.
    Text(String),
    /// A whole call.
    Call(Call),
}

/// Takes an answer apart while it is generated.
///
/// Reasoning is what an answer has between `<think>`, with which it begins or its prompt ends, and
/// `</think>`. Whitespace around it belongs to neither reasoning nor text.
pub struct Answer {
    section: Section,
    /// What is not yet known to be reasoning or not.
    held: String,
    calls: Option<CallReader>,
}

#[derive(Clone, Copy, PartialEq)]
enum Section {
    Beginning,
    /// Nothing of the reasoning but whitespace yet.
    Opened,
    Reasoning,
    /// Nothing after the reasoning but whitespace yet.
    Closed,
    Text,
}

impl Answer {
    /// An answer that has not begun; with `open` its prompt has begun its reasoning.
    pub fn new(open: bool) -> Self {
        let section = if open { Section::Opened } else { Section::Beginning };
        Self { section, held: String::new(), calls: None }
    }

    /// Finds calls of functions. Without `parallel`, calls after the first are left out.
    #[must_use]
    pub fn with_calls(self, format: CallFormat, tools: Tools, parallel: bool) -> Self {
        Self { calls: Some(CallReader::new(format, tools, parallel)), ..self }
    }

    /// What is certain with some more text.
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
            self.tell(&mut out);
        }
        out
    }

    /// What was held back at the end of the text.
    pub fn finish(&mut self) -> Vec<Piece> {
        let mut out = Vec::new();
        match self.section {
            Section::Opened | Section::Closed => {}
            Section::Reasoning => {
                let rest = std::mem::take(&mut self.held).trim_end().to_owned();
                out.extend((!rest.is_empty()).then_some(Piece::Reasoning(rest)));
            }
            Section::Beginning | Section::Text => self.tell(&mut out),
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

    fn tell(&mut self, out: &mut Vec<Piece>) {
        let text = std::mem::take(&mut self.held);
        match &mut self.calls {
            Some(calls) => calls.push(&text, out),
            None if text.is_empty() => {}
            None => out.push(Piece::Text(text)),
        }
    }
}

/// Length of the longest end of `text` that is a beginning of `tag`, but not all of it.
pub(crate) fn overlap(text: &str, tag: &str) -> usize {
    (1..tag.len()).rev().find(|&length| text.ends_with(&tag[..length])).unwrap_or(0)
}
