//! `tojson` as transformers defines it, by Python's `json.dumps`.

use std::cmp::Ordering;
use std::fmt::Write;

use super::super::arguments::{Args, flag};
use super::super::error::{Result, fail};
use super::super::machine::Machine;
use super::super::value::Value;
use super::super::value::context::Context;
use super::super::value::operators::ordering;
use super::super::value::sort::sorted;
use super::super::value::text::float;

pub(super) fn tojson(machine: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [ascii, indent, separators, sort] =
        args.bind("it", ["ensure_ascii", "indent", "separators", "sort_keys"])?;
    let indent = match indent {
        None | Some(Value::None) => None,
        Some(Value::Str(text)) => Some(text.to_string()),
        Some(value) => match value.as_int() {
            Some(width) => {
                let width = usize::try_from(width.max(0)).unwrap_or(usize::MAX);
                machine.budget().bytes(width)?;
                Some(" ".repeat(width))
            }
            None => return fail("an indent is a number or a string"),
        },
    };
    let (comma, colon) = match separators {
        None | Some(Value::None) => {
            (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned())
        }
        Some(pair) => {
            let pair = pair.iterate(machine.budget())?;
            match pair.iter().map(Value::as_str).collect::<Vec<_>>()[..] {
                [Some(comma), Some(colon)] => (comma.to_owned(), colon.to_owned()),
                _ => return fail("separators are two strings"),
            }
        }
    };
    let (ascii, sort) = (flag(&ascii), flag(&sort));
    let context = machine.context();
    let mut writer = Writer { context, out: String::new(), ascii, sort, indent, comma, colon };
    writer.value(&value, 0)?;
    Ok(Value::str(writer.out))
}

struct Writer<'a> {
    context: &'a Context,
    out: String,
    ascii: bool,
    sort: bool,
    indent: Option<String>,
    comma: String,
    colon: String,
}

impl Writer<'_> {
    fn push(&mut self, text: &str) -> Result<()> {
        self.context.budget.bytes(text.len())?;
        self.out.push_str(text);
        Ok(())
    }

    fn value(&mut self, value: &Value, level: usize) -> Result<()> {
        match value {
            Value::Str(text) | Value::Markup(text) => self.string(text),
            Value::List(items) | Value::Tuple(items) => {
                let items = items.values.iter();
                self.container("[]", level, items, |writer, item| writer.value(item, level + 1))
            }
            Value::Dict(dict) => {
                let mut pairs: Vec<(&Value, &Value)> =
                    dict.iter().map(|(key, value)| (key.value(), value)).collect();
                self.context.budget.spend(pairs.len())?;
                if self.sort {
                    pairs = sorted(pairs, &mut |(a, _), (b, _)| {
                        Ok(ordering(a, b, "<", &self.context.budget)? == Some(Ordering::Less))
                    })?;
                }
                self.container("{}", level, pairs.into_iter(), |writer, (key, value)| {
                    writer.key(key)?;
                    writer.push(&writer.colon.clone())?;
                    writer.value(value, level + 1)
                })
            }
            _ => match scalar(value) {
                Some(text) => self.push(&text),
                None => fail(format!("an object of type {} is not JSON", value.type_name())),
            },
        }
    }

    fn key(&mut self, key: &Value) -> Result<()> {
        match (key.as_str(), scalar(key)) {
            (Some(text), _) => self.string(text),
            (None, Some(text)) => self.string(&text),
            (None, None) => {
                let found = key.type_name();
                fail(format!("keys must be str, int, float, bool or None, not {found}"))
            }
        }
    }

    /// Writes items between brackets, each on its own line if there is an indent.
    fn container<T>(
        &mut self,
        brackets: &str,
        level: usize,
        items: impl ExactSizeIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T) -> Result<()>,
    ) -> Result<()> {
        if items.len() == 0 {
            return self.push(brackets);
        }
        self.push(&brackets[..1])?;
        for (index, item) in items.enumerate() {
            if index > 0 {
                self.push(&self.comma.clone())?;
            }
            self.line(level + 1)?;
            write(self, item)?;
        }
        self.line(level)?;
        self.push(&brackets[1..])
    }

    fn line(&mut self, level: usize) -> Result<()> {
        let Some(indent) = &self.indent else { return Ok(()) };
        self.context.budget.bytes(indent.len().saturating_mul(level))?;
        self.out.push('\n');
        for _ in 0..level {
            self.out.push_str(indent);
        }
        Ok(())
    }

    fn string(&mut self, text: &str) -> Result<()> {
        // A character becomes at most six.
        self.context.budget.bytes(if self.ascii { 6 } else { 2 } * text.len())?;
        let out = &mut self.out;
        out.push('"');
        for c in text.chars() {
            // Writing to a string cannot fail.
            let _ = match c {
                '"' => out.write_str("\\\""),
                '\\' => out.write_str("\\\\"),
                '\n' => out.write_str("\\n"),
                '\r' => out.write_str("\\r"),
                '\t' => out.write_str("\\t"),
                '\u{8}' => out.write_str("\\b"),
                '\u{c}' => out.write_str("\\f"),
                '\0'..='\u{1f}' => write!(out, "\\u{:04x}", u32::from(c)),
                _ if self.ascii && !matches!(c, ' '..='~') => {
                    let mut units = [0; 2];
                    c.encode_utf16(&mut units).iter().try_for_each(|u| write!(out, "\\u{u:04x}"))
                }
                _ => out.write_char(c),
            };
        }
        out.push('"');
        Ok(())
    }
}

/// The JSON of a number, a boolean or null.
fn scalar(value: &Value) -> Option<String> {
    Some(match value {
        Value::None => "null".to_owned(),
        Value::Bool(bit) => bit.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) if number.is_nan() => "NaN".to_owned(),
        Value::Float(number) if number.is_infinite() => {
            if *number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
        }
        Value::Float(number) => float(*number),
        _ => return None,
    })
}
