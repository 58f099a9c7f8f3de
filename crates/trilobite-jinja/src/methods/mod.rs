//! The attributes and methods of Python's types that Jinja2's sandbox allows.

mod containers;
mod loops;
mod strings;

pub(super) use strings::{is_lower, is_upper, lines, replaced};

use std::rc::Rc;

use super::arguments::Args;
use super::error::{Result, fail};
use super::escape::escape;
use super::machine::{Machine, Method};
use super::value::context::Context;
use super::value::{Function, Value};

/// The method of a value with a name.
fn method(value: &Value, name: &str) -> Option<Method> {
    match value {
        Value::Str(_) | Value::Markup(_) => strings::method(name),
        Value::List(_) | Value::Tuple(_) | Value::Range(_) => containers::list_method(value, name),
        Value::Dict(_) => containers::dict_method(name),
        Value::Loop(_) => loops::method(name),
        _ => None,
    }
}

/// Calls the method of a value with a name.
pub(super) fn call(
    machine: &mut dyn Machine,
    receiver: &Value,
    name: &str,
    mut args: Args,
) -> Result<Value> {
    let Some(method) = method(receiver, name) else { return fail(no_attribute(receiver, name)) };
    let markup = matches!(receiver, Value::Markup(_));
    if markup {
        // Values that go into HTML are escaped.
        let named = args.named.iter_mut().map(|(_, value)| value);
        for argument in args.positional.iter_mut().chain(named) {
            if let Value::Str(text) = argument {
                *argument = Value::Markup(escape(text).into());
            }
        }
    }
    let result = method(machine, receiver, args)
        .map_err(|error| error.within(|| format!("{}.{name}", receiver.type_name())))?;
    if markup { as_markup(result) } else { Ok(result) }
}

fn as_markup(value: Value) -> Result<Value> {
    let all = |values: &[Value]| values.iter().cloned().map(as_markup).collect::<Result<_>>();
    Ok(match value {
        Value::Str(text) => Value::Markup(text),
        Value::List(items) => Value::list(all(&items.values)?)?,
        Value::Tuple(items) => Value::tuple(all(&items.values)?)?,
        value => value,
    })
}

/// `value.name`: an attribute, or else an item.
pub(super) fn attribute(value: &Value, name: &str, context: &Context) -> Result<Value> {
    let own = own_attribute(value, name, context)?;
    let found = own.or_else(|| match value {
        Value::Dict(dict) => dict.get(&name.into()).cloned(),
        _ => None,
    });
    Ok(found.unwrap_or_else(|| missing(value, name)))
}

/// An attribute, but not an item.
pub(super) fn attribute_only(value: &Value, name: &str, context: &Context) -> Result<Value> {
    Ok(own_attribute(value, name, context)?.unwrap_or_else(|| missing(value, name)))
}

fn missing(value: &Value, name: &str) -> Value {
    Value::Undefined(no_attribute(value, name).into())
}

fn no_attribute(value: &Value, name: &str) -> String {
    format!("'{} object' has no attribute '{name}'", value.type_name())
}

fn own_attribute(value: &Value, name: &str, context: &Context) -> Result<Option<Value>> {
    context.budget.bytes(name.len())?;
    let found = match value.defined()? {
        Value::Namespace(id) => context.namespace(*id).get(&name.into()).cloned(),
        Value::Loop(state) => loops::attribute(state, name),
        Value::Tuple(items) if items.group => match name {
            "grouper" => items.values.first().cloned(),
            "list" => items.values.last().cloned(),
            _ => None,
        },
        Value::Function(function) => match &**function {
            Function::Macro { definition, .. } => match name {
                "name" => Some(Value::Str(Rc::clone(&definition.name))),
                "arguments" => {
                    let names = definition.parameters.iter().map(|(name, _)| Rc::clone(name));
                    Some(Value::tuple(names.map(Value::Str).collect())?)
                }
                "caller" => Some(Value::Bool(definition.uses.caller)),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    };
    if found.is_some() {
        return Ok(found);
    }
    if changes(value, name) {
        let kind = value.type_name();
        let reason = format!("'{name}' would change a {kind}, which chat templates cannot do");
        return Ok(Some(Value::Undefined(reason.into())));
    }
    Ok(method(value, name).map(|_| {
        Value::Function(Rc::new(Function::Method { receiver: value.clone(), name: name.into() }))
    }))
}

/// Whether the sandbox hides a method, since it mutates its receiver.
fn changes(value: &Value, name: &str) -> bool {
    match value {
        Value::List(_) => matches!(
            name,
            "append" | "clear" | "extend" | "insert" | "pop" | "remove" | "reverse" | "sort"
        ),
        Value::Dict(_) => matches!(name, "clear" | "pop" | "popitem" | "setdefault" | "update"),
        _ => false,
    }
}
