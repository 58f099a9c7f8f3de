//! Filters on strings.

use std::rc::Rc;

use super::super::arguments::{Args, flag, integer, required, text};
use super::super::constructors::dict;
use super::super::error::{Result, TemplateError, fail};
use super::super::escape;
use super::super::machine::Machine;
use super::super::methods::{lines, replaced};
use super::super::unicode;
use super::super::value::{Value, percent};
use super::select::Path;

/// Converts a value to a string. An HTML string stays one.
fn soft(machine: &dyn Machine, value: Value) -> Result<Value> {
    match value {
        Value::Str(_) | Value::Markup(_) => Ok(value),
        value => Ok(Value::str(value.to_text(machine.context())?)),
    }
}

/// Applies a method of strings as a filter.
pub(super) fn method(
    machine: &mut dyn Machine,
    value: Value,
    args: Args,
    name: &str,
) -> Result<Value> {
    let value = soft(machine, value)?;
    let method = machine.attribute(&value, name)?;
    let args = match name {
        "center" if args.positional.is_empty() && args.named.is_empty() => {
            Args { positional: vec![Value::Int(80)], named: Vec::new() }
        }
        _ => args,
    };
    machine.call(&method, args)
}

pub(super) fn string(machine: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [] = args.bind("it", [])?;
    soft(machine, value)
}

pub(super) fn safe(machine: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [] = args.bind("it", [])?;
    Ok(Value::Markup(value.to_text(machine.context())?.into()))
}

pub(super) fn escape(machine: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [] = args.bind("it", [])?;
    match value {
        Value::Markup(_) => Ok(value),
        value => force_escape(machine, value, Args::default()),
    }
}

pub(super) fn force_escape(machine: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [] = args.bind("it", [])?;
    let text = value.to_text(machine.context())?;
    // A character can become five.
    machine.budget().bytes(5 * text.len())?;
    Ok(Value::Markup(escape::escape(&text).into()))
}

pub(super) fn title(machine: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [] = args.bind("it", [])?;
    let value = soft(machine, value)?;
    let text = value.as_str().unwrap_or_default();
    machine.budget().bytes(3 * text.len())?;
    let mut out = String::with_capacity(text.len());
    let mut begins = true;
    for c in text.chars() {
        match begins {
            true => out.extend(c.to_uppercase()),
            false => out.extend(c.to_lowercase()),
        }
        begins = unicode::is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
    }
    Ok(value.same_kind(out))
}

pub(super) fn replace(machine: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [old, new, count] = args.bind("it", ["old", "new", "count"])?;
    let value = value.to_text(machine.context())?;
    let old = required(old, "it")?.to_text(machine.context())?;
    let new = required(new, "it")?.to_text(machine.context())?;
    let count = integer(&count, "it")?.and_then(|count| usize::try_from(count).ok());
    Ok(Value::str(replaced(machine, &value, &old, &new, count)?))
}

pub(super) fn join(machine: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [separator, attribute] = args.bind("it", ["d", "attribute"])?;
    let separator = match separator {
        Some(separator) => separator.to_text(machine.context())?,
        None => String::new(),
    };
    let path = Path::new(&attribute.unwrap_or(Value::None));
    let mut out = String::new();
    for (index, item) in value.iterate(machine.budget())?.iter().enumerate() {
        if index > 0 {
            machine.budget().bytes(separator.len())?;
            out += &separator;
        }
        out += &path.of(machine, item)?.to_text(machine.context())?;
    }
    Ok(Value::str(out))
}

pub(super) fn format(machine: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let value = soft(machine, value)?;
    let values = match (args.positional.is_empty(), args.named.is_empty()) {
        (_, true) => Value::tuple(args.positional)?,
        (true, false) => Value::Dict(Rc::new(dict(args, machine.budget())?)),
        _ => return fail("can't handle positional and keyword arguments at the same time"),
    };
    percent::format(&value, &values, machine.context())
}

pub(super) fn indent(machine: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [width, first, blank] = args.bind("it", ["width", "first", "blank"])?;
    let indent = match &width {
        Some(Value::Str(indent)) => indent.to_string(),
        width => {
            let width = usize::try_from(integer(width, "it")?.unwrap_or(4)).unwrap_or(0);
            machine.budget().bytes(width)?;
            " ".repeat(width)
        }
    };
    let Some(text) = value.defined()?.as_str() else {
        return fail(format!("a string is needed, not {}", value.type_name()));
    };
    machine.budget().spend(text.len() / 2)?;
    let text = format!("{text}\n");
    let lines = lines(&text, false);
    machine.budget().bytes(text.len() + lines.len().saturating_mul(indent.len() + 1))?;
    let mut out = String::new();
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        let indented = if index == 0 { flag(&first) } else { flag(&blank) || !line.is_empty() };
        if indented {
            out += &indent;
        }
        out += line;
    }
    Ok(value.same_kind(out))
}

pub(super) fn truncate(machine: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [length, kill_words, end, leeway] =
        args.bind("it", ["length", "killwords", "end", "leeway"])?;
    let number = |value: &Option<Value>, default: usize| {
        let number = integer(value, "it")?;
        Ok(number.map_or(default, |number| usize::try_from(number).unwrap_or(0)))
    };
    let (length, leeway) = (number(&length, 255)?, number(&leeway, 5)?);
    let end = text(&end, "it")?.unwrap_or("...");
    let Some(whole) = value.defined()?.as_str() else {
        return fail(format!("a string is needed, not {}", value.type_name()));
    };
    machine.budget().bytes(whole.len())?;
    if whole.chars().count() <= length.saturating_add(leeway) {
        return Ok(value);
    }
    let kept = length.checked_sub(end.chars().count());
    let kept = kept.ok_or_else(|| TemplateError::new("the length is less than that of the end"))?;
    let kept: String = whole.chars().take(kept).collect();
    let kept = match flag(&kill_words) {
        true => &*kept,
        false => kept.rsplit_once(' ').map_or(&*kept, |(words, _)| words),
    };
    Ok(value.same_kind(format!("{kept}{end}")))
}

pub(super) fn wordcount(machine: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [] = args.bind("it", [])?;
    let text = value.to_text(machine.context())?;
    let words = text.split(|c| !unicode::is_word(c)).filter(|word| !word.is_empty());
    Ok(Value::Int(words.count() as i128))
}
