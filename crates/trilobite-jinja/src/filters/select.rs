//! Filters that apply an attribute, a test or another filter to every item.

use super::super::arguments::Args;
use super::super::error::{Result, TemplateError, fail};
use super::super::machine::Machine;
use super::super::value::Value;

/// The path of an attribute such as `function.parameters.0`.
pub(super) struct Path(Vec<Value>);

impl Path {
    /// Creates a path. `None` refers to the value itself.
    pub(super) fn new(attribute: &Value) -> Self {
        Self(match attribute {
            Value::None => Vec::new(),
            Value::Str(text) | Value::Markup(text) => text.split('.').map(part).collect(),
            other => vec![other.clone()],
        })
    }

    pub(super) fn of(&self, machine: &mut dyn Machine, value: &Value) -> Result<Value> {
        let mut value = value.clone();
        for part in &self.0 {
            value = machine.subscript(&value, part)?;
        }
        Ok(value)
    }
}

fn part(text: &str) -> Value {
    match text.bytes().all(|digit| digit.is_ascii_digit()) {
        true => text.parse().map_or_else(|_| Value::str(text), Value::Int),
        false => Value::str(text),
    }
}

/// Removes and returns the first positional argument.
fn take_first(args: &mut Args) -> Option<Value> {
    (!args.positional.is_empty()).then(|| args.positional.remove(0))
}

fn named(value: &Value) -> Result<&str> {
    value.as_str().ok_or_else(|| TemplateError::new("a name is needed"))
}

pub(super) fn map(machine: &mut dyn Machine, value: Value, mut args: Args) -> Result<Value> {
    let mut mapped = Vec::new();
    let attribute = if args.positional.is_empty() { args.take("attribute") } else { None };
    if let Some(attribute) = attribute {
        let default = args.take("default");
        let [] = args.bind("it", [])?;
        let path = Path::new(&attribute);
        for item in value.iterate(machine.budget())? {
            let found = path.of(machine, &item)?;
            mapped.push(match &default {
                Some(default) if found.is_undefined() => default.clone(),
                _ => found,
            });
        }
    } else {
        let Some(filter) = take_first(&mut args) else { return fail("it needs a filter's name") };
        let name = named(&filter)?;
        for item in value.iterate(machine.budget())? {
            machine.budget().spend(args.len())?;
            mapped.push(machine.filter(name, item, args.clone())?);
        }
    }
    Value::iterator(mapped)
}

/// `select`, `selectattr`, `reject` and `rejectattr`.
pub(super) fn select(
    machine: &mut dyn Machine,
    value: Value,
    mut args: Args,
    by_attribute: bool,
    keep: bool,
) -> Result<Value> {
    let path = match by_attribute {
        true => match take_first(&mut args) {
            Some(attribute) => Path::new(&attribute),
            None => return fail("it needs an attribute's name"),
        },
        false => Path(Vec::new()),
    };
    let test = take_first(&mut args);
    let mut kept = Vec::new();
    let items = if value.is_true() { value.iterate(machine.budget())? } else { Vec::new() };
    for item in items {
        let tested = path.of(machine, &item)?;
        machine.budget().spend(args.len())?;
        let passes = match &test {
            Some(test) => machine.test(named(test)?, &tested, args.clone())?,
            None => tested.is_true(),
        };
        if passes == keep {
            kept.push(item);
        }
    }
    Value::iterator(kept)
}
