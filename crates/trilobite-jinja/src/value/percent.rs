//! The `%` operator on strings.

use super::context::Context;
use super::convert::truncated;
use super::field::{Cursor, Field, character};
use super::{Key, Value};
use crate::error::{Result, TemplateError, fail};
use crate::escape::escape;

/// `format % values`
pub(crate) fn format(format: &Value, values: &Value, context: &Context) -> Result<Value> {
    let markup = matches!(format, Value::Markup(_));
    let mut given = match values {
        Value::Tuple(items) => {
            context.budget.spend(items.values.len())?;
            items.values.clone()
        }
        _ => vec![values.clone()],
    }
    .into_iter();
    let mut next =
        || given.next().ok_or_else(|| TemplateError::new("not enough arguments for format string"));
    let mut named = false;
    let mut out = String::new();
    let mut rest = format.as_str().unwrap_or_default();
    while let Some(at) = rest.find('%') {
        context.budget.bytes(at)?;
        out.push_str(&rest[..at]);
        let mut cursor = Cursor(&rest[at + 1..]);
        let mut value = None;
        if let Some(inner) = cursor.0.strip_prefix('(') {
            let mut open = 1;
            let end = inner.find(|c| {
                open += i32::from(c == '(') - i32::from(c == ')');
                open == 0
            });
            let name = &inner[..end.ok_or_else(|| TemplateError::new("incomplete format key"))?];
            cursor.0 = &inner[name.len() + 1..];
            let Value::Dict(dict) = values else { return fail("format requires a mapping") };
            let key = Key::new(Value::str(name), &context.budget)?;
            let found = dict.get(&key).cloned();
            value =
                Some(found.ok_or_else(|| TemplateError::new(format!("there is no key {name:?}")))?);
            named = true;
        }
        let mut field = Field::default();
        while let Some(flag) = cursor.next_if(|c| matches!(c, '-' | '+' | ' ' | '#' | '0')) {
            match flag {
                '-' => field.align = Some('<'),
                '+' => field.sign = Some('+'),
                ' ' => field.sign = field.sign.or(Some(' ')),
                '#' => field.alternate = true,
                _ => field.zero = true,
            }
        }
        let mut number = |cursor: &mut Cursor<'_>| match cursor.next_if(|c| c == '*') {
            Some(_) => match next()?.as_int() {
                Some(number) => Ok(number),
                None => fail("* wants int"),
            },
            None => Ok(cursor.number()?.unwrap_or(0) as i128),
        };
        let width = number(&mut cursor)?;
        if width < 0 {
            field.align = Some('<');
        }
        let bounded = |number: i128| usize::try_from(number).unwrap_or(usize::MAX);
        field.width = bounded(width.saturating_abs());
        if cursor.next_if(|c| c == '.').is_some() {
            field.precision = Some(bounded(number(&mut cursor)?.max(0)));
        }
        while cursor.next_if(|c| matches!(c, 'h' | 'l' | 'L')).is_some() {}
        let kind =
            cursor.next_if(|_| true).ok_or_else(|| TemplateError::new("incomplete format"))?;
        field.kind = Some(kind);
        rest = cursor.0;
        if kind == '%' {
            out.push('%');
            continue;
        }
        let value = match value {
            Some(value) => value,
            None => next()?,
        };
        match kind {
            // A value that goes into HTML is escaped.
            's' if markup && !matches!(value, Value::Markup(_)) => {
                let text = escape(&value.to_text(context)?);
                out += &field.text(&text, &context.budget)?;
            }
            _ => out += &written(kind, &field, &value, context)?,
        }
    }
    context.budget.bytes(rest.len())?;
    out.push_str(rest);
    let mapping = matches!(values, Value::Dict(_) | Value::List(_) | Value::Undefined(_));
    if !named && !mapping && given.next().is_some() {
        return fail("not all arguments converted during string formatting");
    }
    Ok(format.same_kind(out))
}

fn written(kind: char, field: &Field, value: &Value, context: &Context) -> Result<String> {
    let budget = &context.budget;
    let number = || {
        let found = value.type_name();
        TemplateError::new(format!("%{kind} format: a real number is required, not {found}"))
    };
    match kind {
        's' => field.text(&value.to_text(context)?, budget),
        'r' | 'a' => field.text(&value.repr(context)?, budget),
        'd' | 'i' | 'u' => {
            let number = match value {
                Value::Float(float) => truncated(*float)?,
                _ => value.as_int().ok_or_else(number)?,
            };
            field.integer(number, budget)
        }
        'o' | 'x' | 'X' => field.integer(value.as_int().ok_or_else(number)?, budget),
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
            field.float(value.as_float().ok_or_else(number)?, budget)
        }
        'c' => match (value.as_str(), value.as_int()) {
            (Some(text), _) if text.chars().count() == 1 => field.text(text, budget),
            (_, Some(code)) => field.text(&character(code)?, budget),
            _ => fail("%c requires int or char"),
        },
        _ => fail(format!("unsupported format character {kind:?}")),
    }
}
