//! The attributes and methods of `loop`.

use super::super::error::fail;
use super::super::machine::Method;
use super::super::value::operators::equal;
use super::super::value::{Loop, Value};

/// The attribute of a loop with a name.
pub(super) fn attribute(state: &Loop, name: &str) -> Option<Value> {
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

/// The method of a loop with a name.
pub(super) fn method(name: &str) -> Option<Method> {
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
            let context = machine.context();
            Ok(Value::Bool(match context.changed(state, now.clone()) {
                Some(before) => !equal(&before, &now, &context.budget)?,
                None => true,
            }))
        }),
        _ => None,
    }
}
