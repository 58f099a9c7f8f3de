//! The attributes and methods of Python's types that Jinja2's sandbox allows.

mod containers;
mod strings;

pub(super) use strings::{is_lower, is_upper, lines, replaced};

use std::rc::Rc;

use super::error::{Result, fail};
use super::escape;
use super::machine::{Args, Function, Loop, Machine, integer};
use super::value::{Value, View, equal};

/// A method of a type. The first argument is the receiver.
#[derive(Clone, Copy)]
pub(super) struct Method(Call);

type Call = fn(&mut Machine, &Value, Args) -> Result<Value>;

impl Method {
    pub(super) fn call(
        self,
        machine: &mut Machine,
        receiver: &Value,
        name: &str,
        mut args: Args,
    ) -> Result<Value> {
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
        let result = (self.0)(machine, receiver, args)
            .map_err(|error| error.within(|| format!("{}.{name}", receiver.type_name())))?;
        if markup { as_markup(result) } else { Ok(result) }
    }
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
pub(super) fn attribute(machine: &mut Machine, value: &Value, name: &str) -> Result<Value> {
    match own_attribute(machine, value, name)? {
        Some(attribute) => Ok(attribute),
        None => Ok(match value {
            Value::Dict(dict) => dict.get(&name.into()).cloned(),
            _ => None,
        }
        .unwrap_or_else(|| missing(value, name))),
    }
}

/// An attribute, but not an item.
pub(super) fn attribute_only(machine: &mut Machine, value: &Value, name: &str) -> Result<Value> {
    Ok(own_attribute(machine, value, name)?.unwrap_or_else(|| missing(value, name)))
}

fn missing(value: &Value, name: &str) -> Value {
    let kind = value.type_name();
    Value::Undefined(format!("'{kind} object' has no attribute '{name}'").into())
}

fn own_attribute(machine: &mut Machine, value: &Value, name: &str) -> Result<Option<Value>> {
    machine.budget.bytes(name.len())?;
    let found = match value.defined()? {
        Value::Namespace(id) => machine.namespace(*id).get(&name.into()).cloned(),
        Value::Loop(state) => loop_attribute(state, name),
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
    let method = match value {
        Value::Str(_) | Value::Markup(_) => strings::method(name),
        Value::List(_) | Value::Tuple(_) | Value::Range(_) => containers::list_method(value, name),
        Value::Dict(_) => containers::dict_method(name),
        Value::Loop(_) => loop_method(name),
        _ => None,
    };
    Ok(method.map(|call| {
        let (receiver, name) = (value.clone(), name.into());
        Value::Function(Rc::new(Function::Method { receiver, name, method: Method(call) }))
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

fn loop_attribute(state: &Loop, name: &str) -> Option<Value> {
    let (index, items) = (state.index.get(), &state.items.values);
    let number = |number: usize| Value::Int(number as i128);
    let neighbour = |index: Option<usize>, reason: &str| {
        let item = index.and_then(|index| items.get(index)).cloned();
        item.unwrap_or_else(|| Value::Undefined(reason.into()))
    };
    Some(match name {
        "index" => number(index + 1),
        "index0" => number(index),
        "revindex" => number(items.len() - index),
        "revindex0" => number(items.len() - index - 1),
        "first" => Value::Bool(index == 0),
        "last" => Value::Bool(index + 1 == items.len()),
        "length" => number(items.len()),
        "depth" => number(state.depth + 1),
        "depth0" => number(state.depth),
        "previtem" => neighbour(index.checked_sub(1), "there is no previous item"),
        "nextitem" => neighbour(Some(index + 1), "there is no next item"),
        _ => return None,
    })
}

fn loop_method(name: &str) -> Option<Call> {
    match name {
        "cycle" => Some(|_, receiver, args| {
            let Value::Loop(state) = receiver else { return fail("not a loop") };
            match args.positional.len() {
                0 => fail("no items for cycling given"),
                length => Ok(args.positional[state.index.get() % length].clone()),
            }
        }),
        "changed" => Some(|machine, receiver, args| {
            let Value::Loop(state) = receiver else { return fail("not a loop") };
            let now = Value::tuple(args.positional)?;
            let same = match machine.changed.get(&state.id) {
                Some(before) => equal(before, &now, &machine.budget)?,
                None => false,
            };
            machine.changed.insert(state.id, now);
            Ok(Value::Bool(!same))
        }),
        _ => None,
    }
}

/// The part of a sequence between the `start` and `stop` of `find` and `index`.
fn bounds(
    length: usize,
    start: &Option<Value>,
    stop: &Option<Value>,
    function: &str,
) -> Result<(usize, usize)> {
    let bound = |value: &Option<Value>, default: usize| {
        Ok(match integer(value, function)? {
            None => default,
            Some(number) if number < 0 => (length as i128 + number).max(0) as usize,
            Some(number) => number.min(length as i128) as usize,
        })
    };
    let start_given = integer(start, function)?;
    let (from, to) = (bound(start, 0)?, bound(stop, length)?);
    // Beyond the end nothing matches, not even an empty string.
    match start_given {
        Some(number) if number > length as i128 => Ok((length + 1, length)),
        _ => Ok((from, to)),
    }
}

/// `dict.items`, `dict.keys` or `dict.values`.
fn view(kind: View) -> Call {
    match kind {
        View::Items => |_, receiver, args| as_view(View::Items, receiver, args),
        View::Keys => |_, receiver, args| as_view(View::Keys, receiver, args),
        View::Values => |_, receiver, args| as_view(View::Values, receiver, args),
    }
}

fn as_view(kind: View, receiver: &Value, args: Args) -> Result<Value> {
    let [] = args.bind("a view", [])?;
    match receiver {
        Value::Dict(dict) => Ok(Value::View(kind, Rc::clone(dict))),
        _ => fail("not a dict"),
    }
}
