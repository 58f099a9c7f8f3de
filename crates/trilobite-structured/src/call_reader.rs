//! Parses tool calls.

use serde_json::{Deserializer, Value};

use crate::call::{CLOSE, Call, CallFormat, OPEN, PYTHON_TAG};
use crate::piece::Piece;
use crate::tools::Tools;

/// Parses a text incrementally. Malformed calls and calls of unknown functions are text.
pub(crate) struct CallReader {
    format: CallFormat,
    tools: Tools,
    /// Remaining number of calls.
    left: usize,
    progress: Progress,
    /// Undecided text.
    held: String,
    /// Bytes of a call already searched for its end.
    tried: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Progress {
    /// Only whitespace so far.
    Beginning,
    Text,
    /// Within a call.
    Call,
    /// After a call.
    Between,
}

impl CallReader {
    /// Creates a parser. Without `parallel`, calls after the first are dropped.
    pub(crate) fn new(format: CallFormat, tools: Tools, parallel: bool) -> Self {
        let left = if parallel { usize::MAX } else { 1 };
        Self { format, tools, left, progress: Progress::Beginning, held: String::new(), tried: 0 }
    }

    pub(crate) fn push(&mut self, text: &str, out: &mut Vec<Piece>) {
        self.held += text;
        match self.format {
            CallFormat::Tagged => self.read_tagged(out),
            CallFormat::Parameters | CallFormat::Arguments => self.read_plain(out),
        }
    }

    /// Parses the remaining text.
    pub(crate) fn finish(&mut self, out: &mut Vec<Piece>) {
        let held = std::mem::take(&mut self.held);
        match (self.progress, self.format) {
            (Progress::Call, CallFormat::Tagged) => match self.call(&held) {
                Some(call) => self.emit(call, out),
                None => text(format!("{OPEN}{held}"), out),
            },
            (Progress::Call, _) => match self.calls(&held) {
                Some(calls) => calls.into_iter().for_each(|call| self.emit(call, out)),
                None => text(held, out),
            },
            (Progress::Between, _) => text(held.trim_start().to_owned(), out),
            (Progress::Beginning | Progress::Text, _) => text(held, out),
        }
    }

    fn emit(&mut self, call: Call, out: &mut Vec<Piece>) {
        if self.left > 0 {
            self.left -= 1;
            out.push(Piece::Call(call));
        }
    }

    fn read_tagged(&mut self, out: &mut Vec<Piece>) {
        loop {
            if self.progress == Progress::Call {
                // The closing tag can occur within a string.
                let Some(at) = self.held[self.tried..].find(CLOSE) else {
                    let rest = &self.held[self.tried..];
                    self.tried += rest.len() - overlap(rest, CLOSE);
                    return;
                };
                let end = self.tried + at;
                self.tried = end + CLOSE.len();
                if let Some(call) = self.call(&self.held[..end]) {
                    self.emit(call, out);
                    self.held.drain(..self.tried);
                    self.progress = Progress::Between;
                }
                continue;
            }
            if self.progress == Progress::Between {
                let space = self.held.len() - self.held.trim_start().len();
                self.held.drain(..space);
            }
            let found = self.held.find(OPEN);
            let certain = found.unwrap_or(self.held.len() - overlap(&self.held, OPEN));
            let before = self.held[..certain].trim_end().to_owned();
            self.held.drain(..found.map_or(before.len(), |at| at + OPEN.len()));
            if !before.is_empty() {
                self.progress = Progress::Text;
                text(before, out);
            }
            if found.is_none() {
                return;
            }
            (self.progress, self.tried) = (Progress::Call, 0);
        }
    }

    fn read_plain(&mut self, out: &mut Vec<Piece>) {
        if self.progress == Progress::Beginning {
            let begun = self.held.trim_start();
            let call = begun.strip_prefix(PYTHON_TAG).unwrap_or(begun).trim_start();
            if call.is_empty() || PYTHON_TAG.starts_with(begun) {
                return;
            }
            self.progress =
                if call.starts_with(['{', '[']) { Progress::Call } else { Progress::Text };
        }
        if self.progress == Progress::Text {
            text(std::mem::take(&mut self.held), out);
        }
    }

    /// Parses a single call.
    fn call(&self, text: &str) -> Option<Call> {
        let value: Value = serde_json::from_str(text.trim()).ok()?;
        self.of_value(&value)
    }

    /// Parses a text that consists of calls: one, a JSON array, or several separated by semicolons or
    /// whitespace.
    fn calls(&self, text: &str) -> Option<Vec<Call>> {
        let text = text.trim_start();
        let mut rest = text.strip_prefix(PYTHON_TAG).unwrap_or(text).trim_start();
        let mut calls = Vec::new();
        while !rest.is_empty() {
            let mut values = Deserializer::from_str(rest).into_iter::<Value>();
            match values.next()?.ok()? {
                Value::Array(list) => {
                    for value in &list {
                        calls.push(self.of_value(value)?);
                    }
                }
                value => calls.push(self.of_value(&value)?),
            }
            rest = rest[values.byte_offset()..].trim_start();
            rest = rest.strip_prefix(';').unwrap_or(rest).trim_start();
        }
        (!calls.is_empty()).then_some(calls)
    }

    fn of_value(&self, value: &Value) -> Option<Call> {
        let function = value.get("function").filter(|inner| inner.is_object()).unwrap_or(value);
        let name = function.get("name")?.as_str().filter(|name| self.tools.has(name))?;
        let arguments = match function.get("arguments").or_else(|| function.get("parameters")) {
            Some(Value::String(text)) => serde_json::from_str(text).ok()?,
            Some(arguments) => arguments.clone(),
            None => Value::Object(serde_json::Map::new()),
        };
        let arguments = arguments.is_object().then(|| arguments.to_string())?;
        Some(Call { name: name.to_owned(), arguments })
    }
}

fn text(text: String, out: &mut Vec<Piece>) {
    if !text.is_empty() {
        out.push(Piece::Text(text));
    }
}

/// Length of the longest proper prefix of `tag` that ends `text`.
pub(crate) fn overlap(text: &str, tag: &str) -> usize {
    (1..tag.len()).rev().find(|&length| text.ends_with(&tag[..length])).unwrap_or(0)
}
