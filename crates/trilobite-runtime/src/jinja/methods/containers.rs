//! Methods of lists, tuples, ranges and dicts that do not mutate them.

use super::super::error::fail;
use super::super::machine::{integer, required};
use super::super::value::{Key, Value, View, equal};
use super::{Call, bounds, view};

pub(super) fn list_method(value: &Value, name: &str) -> Option<Call> {
    match name {
        "copy" if matches!(value, Value::List(_)) => Some(|_, list, args| {
            let [] = args.bind("copy", [])?;
            Ok(list.clone())
        }),
        "count" => Some(|machine, list, args| {
            let [item] = args.bind("count", ["value"])?;
            let item = required(item, "count")?;
            let mut count = 0;
            for value in list.iterate(&machine.budget)? {
                count += i128::from(equal(&value, &item, &machine.budget)?);
            }
            Ok(Value::Int(count))
        }),
        "index" => Some(|machine, list, args| {
            let [item, start, stop] = args.bind("index", ["value", "start", "stop"])?;
            let item = required(item, "index")?;
            let values = list.iterate(&machine.budget)?;
            let (start, stop) = bounds(values.len(), &start, &stop, "index")?;
            for (index, value) in values.iter().enumerate().take(stop).skip(start) {
                if equal(value, &item, &machine.budget)? {
                    return Ok(Value::Int(index as i128));
                }
            }
            fail(format!("{} is not in the list", item.repr(machine)?))
        }),
        _ => None,
    }
}

pub(super) fn dict_method(name: &str) -> Option<Call> {
    match name {
        "items" => Some(view(View::Items)),
        "keys" => Some(view(View::Keys)),
        "values" => Some(view(View::Values)),
        "copy" => Some(|_, dict, args| {
            let [] = args.bind("copy", [])?;
            Ok(dict.clone())
        }),
        "get" => Some(|machine, receiver, args| {
            let [key, default] = args.bind("get", ["key", "default"])?;
            let Value::Dict(dict) = receiver else { return fail("not a dict") };
            let key = Key::new(required(key, "get")?, &machine.budget)?;
            Ok(dict.get(&key).cloned().or(default).unwrap_or(Value::None))
        }),
        _ => None,
    }
}

/// An optional count. A negative one means no limit.
pub(super) fn limit(value: &Option<Value>, function: &str) -> super::Result<Option<usize>> {
    Ok(integer(value, function)?.and_then(|number| usize::try_from(number).ok()))
}
