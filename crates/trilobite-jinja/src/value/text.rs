//! `str` and `repr`.

use std::fmt::Write;

use super::context::Context;
use super::{DictView, Function, Value};
use crate::error::{Result, fail};
use crate::unicode;

/// Maximum nesting that is printed. Namespaces can contain each other to any depth.
const MAX_DEPTH: usize = 1000;

impl Value {
    /// The text of a printed value.
    pub(crate) fn to_text(&self, context: &Context) -> Result<String> {
        let mut printer = Printer { context, out: String::new(), open: Vec::new(), depth: 0 };
        match self {
            Value::Str(text) | Value::Markup(text) => printer.push(text)?,
            Value::Undefined(_) => {}
            _ => printer.repr(self)?,
        }
        Ok(printer.out)
    }

    /// The text of a value printed within a list.
    pub(crate) fn repr(&self, context: &Context) -> Result<String> {
        let mut printer = Printer { context, out: String::new(), open: Vec::new(), depth: 0 };
        printer.repr(self)?;
        Ok(printer.out)
    }
}

struct Printer<'a> {
    context: &'a Context,
    out: String,
    /// The namespaces that are being printed.
    open: Vec<usize>,
    depth: usize,
}

impl Printer<'_> {
    fn push(&mut self, text: &str) -> Result<()> {
        self.context.budget.bytes(text.len())?;
        self.out.push_str(text);
        Ok(())
    }

    fn repr(&mut self, value: &Value) -> Result<()> {
        if self.depth > MAX_DEPTH {
            return fail(format!("what is printed is nested more than {MAX_DEPTH} deep"));
        }
        self.depth += 1;
        self.parts(value)?;
        self.depth -= 1;
        Ok(())
    }

    fn parts(&mut self, value: &Value) -> Result<()> {
        match value {
            Value::Undefined(_) => self.push("Undefined"),
            Value::None => self.push("None"),
            Value::Bool(bit) => self.push(if *bit { "True" } else { "False" }),
            Value::Int(number) => self.push(&number.to_string()),
            Value::Float(number) => self.push(&float(*number)),
            Value::Str(text) => self.quoted(text),
            Value::Markup(text) => {
                self.push("Markup(")?;
                self.quoted(text)?;
                self.push(")")
            }
            Value::List(items) => self.items("[", &items.values, "]"),
            Value::Tuple(items) => {
                let end = if items.values.len() == 1 { ",)" } else { ")" };
                self.items("(", &items.values, end)
            }
            Value::Dict(dict) => self.pairs(dict),
            Value::Range(range) => {
                let stop = range.start + range.step * range.length as i128;
                let step =
                    if range.step == 1 { String::new() } else { format!(", {}", range.step) };
                self.push(&format!("range({}, {stop}{step})", range.start))
            }
            Value::View(view, dict) => {
                self.push(value.type_name())?;
                let items: Vec<Value> = match view {
                    DictView::Keys => dict.keys().collect(),
                    _ => value.iterate(&self.context.budget)?,
                };
                self.items("([", &items, "])")
            }
            Value::Iterator(_) => self.push("<generator object>"),
            Value::Namespace(id) if self.open.contains(id) => self.push("<Namespace {...}>"),
            Value::Namespace(id) => {
                self.push("<Namespace ")?;
                self.open.push(*id);
                self.pairs(&self.context.namespace(*id))?;
                self.open.pop();
                self.push(">")
            }
            Value::Loop(state) => {
                let (index, length) = (state.index.get() + 1, state.items.values.len());
                self.push(&format!("<LoopContext {index}/{length}>"))
            }
            Value::Function(function) => match &**function {
                Function::Macro { definition, .. } => {
                    self.push(&format!("<Macro {}>", quote(&definition.name)))
                }
                Function::Method { name, .. } => self.push(&format!("<built-in method {name}>")),
                Function::Global(name) => self.push(&format!("<function {name}>")),
            },
        }
    }

    fn quoted(&mut self, text: &str) -> Result<()> {
        // A character can become ten.
        self.context.budget.spend(text.len() / 4)?;
        self.push(&quote(text))
    }

    fn items(&mut self, begin: &str, items: &[Value], end: &str) -> Result<()> {
        self.push(begin)?;
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.push(", ")?;
            }
            self.repr(item)?;
        }
        self.push(end)
    }

    fn pairs(&mut self, dict: &super::Dict) -> Result<()> {
        self.push("{")?;
        for (index, (key, value)) in dict.iter().enumerate() {
            if index > 0 {
                self.push(", ")?;
            }
            self.repr(key.value())?;
            self.push(": ")?;
            self.repr(value)?;
        }
        self.push("}")
    }
}

/// A string literal in Python's syntax. It uses double quotes only if that avoids escapes.
pub(crate) fn quote(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        // Writing to a string cannot fail.
        let _ = match c {
            '\\' => out.write_str("\\\\"),
            '\n' => out.write_str("\\n"),
            '\r' => out.write_str("\\r"),
            '\t' => out.write_str("\\t"),
            _ if c == quote => write!(out, "\\{c}"),
            _ if unicode::is_printable(c) => out.write_char(c),
            _ => match u32::from(c) {
                code @ 0..=0xff => write!(out, "\\x{code:02x}"),
                code @ 0x100..=0xffff => write!(out, "\\u{code:04x}"),
                code => write!(out, "\\U{code:08x}"),
            },
        };
    }
    out.push(quote);
    out
}

/// A float in Python's syntax: the shortest digits that parse to the same value, with an exponent
/// below 1e-4 and from 1e16 on.
pub(crate) fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&power) {
        let plain = number.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if power < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", power.abs())
}
