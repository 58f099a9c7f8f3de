//! `str.format`.

use super::arguments::Args;
use super::error::{Result, TemplateError, fail};
use super::machine::Machine;
use super::value::Value;
use super::value::field::formatted;

/// Python's `str.format`.
pub(super) fn str_format(machine: &mut dyn Machine, template: &str, args: Args) -> Result<String> {
    let mut formatter = Formatter { machine, args, next: 0 };
    formatter.format(template, 2)
}

struct Formatter<'a> {
    machine: &'a mut dyn Machine,
    args: Args,
    /// The index of the next positional argument.
    next: usize,
}

impl Formatter<'_> {
    /// Replaces the fields of a string, and `levels` deep those within format specifications.
    fn format(&mut self, template: &str, levels: usize) -> Result<String> {
        if levels == 0 {
            return fail("a form within a form within a form");
        }
        let mut out = String::new();
        let mut rest = template;
        while let Some(at) = rest.find(['{', '}']) {
            self.machine.budget().bytes(at)?;
            out.push_str(&rest[..at]);
            let brace = &rest[at..at + 1];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                out.push_str(brace);
                rest = after;
            } else if brace == "}" {
                return fail("single '}' encountered in format string");
            } else {
                let mut open = 1;
                let end = rest.find(|c| {
                    open += i32::from(c == '{') - i32::from(c == '}');
                    open == 0
                });
                let end =
                    end.ok_or_else(|| TemplateError::new("expected '}' before end of string"))?;
                out += &self.replacement(&rest[..end], levels)?;
                rest = &rest[end + 1..];
            }
        }
        self.machine.budget().bytes(rest.len())?;
        out.push_str(rest);
        Ok(out)
    }

    /// The replacement of `name!conversion:form`.
    fn replacement(&mut self, field: &str, levels: usize) -> Result<String> {
        let (name, form) = match field.find([':', '!']) {
            Some(at) => field.split_at(at),
            None => (field, ""),
        };
        let (conversion, form) = match form.strip_prefix('!') {
            Some(rest) => {
                let mut chars = rest.chars();
                (chars.next(), chars.as_str())
            }
            None => (None, form),
        };
        let value = self.lookup(name)?;
        let value = match conversion {
            None => value,
            Some('s') => Value::str(value.to_text(self.machine.context())?),
            Some('r') => Value::str(value.repr(self.machine.context())?),
            Some(other) => return fail(format!("unknown conversion {other:?}")),
        };
        let form = form.strip_prefix(':').unwrap_or_default();
        let form = match form.contains('{') {
            true => self.format(form, levels - 1)?,
            false => form.to_owned(),
        };
        formatted(&value, &form, self.machine.context())
    }

    /// The value of `name.attribute[key]`.
    fn lookup(&mut self, path: &str) -> Result<Value> {
        let end = path.find(['.', '[']).unwrap_or(path.len());
        let (name, mut rest) = path.split_at(end);
        let mut value = if name.is_empty() || name.bytes().all(|digit| digit.is_ascii_digit()) {
            let index = name.parse().unwrap_or(self.next);
            self.next += usize::from(name.is_empty());
            let value = self.args.positional.get(index).cloned();
            value.ok_or_else(|| TemplateError::new(format!("there is no argument {index}")))?
        } else {
            let named = self.args.named.iter().find(|(known, _)| &**known == name);
            let value = named.map(|(_, value)| value.clone());
            value.ok_or_else(|| TemplateError::new(format!("there is no argument {name:?}")))?
        };
        while !rest.is_empty() {
            if let Some(index) = rest.strip_prefix('[') {
                let bad = || TemplateError::new("missing ']' in format string");
                let (key, after) = index.split_once(']').ok_or_else(bad)?;
                let key = match key.parse::<u32>() {
                    Ok(number) => Value::Int(number.into()),
                    Err(_) => Value::str(key),
                };
                value = self.machine.subscript(&value, &key)?;
                rest = after;
            } else {
                let attribute = rest.strip_prefix('.').unwrap_or(rest);
                let end = attribute.find(['.', '[']).unwrap_or(attribute.len());
                value = self.machine.attribute(&value, &attribute[..end])?;
                rest = &attribute[end..];
            }
        }
        Ok(value)
    }
}
