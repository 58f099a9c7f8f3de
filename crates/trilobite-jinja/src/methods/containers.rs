//! Methods of lists, tuples, ranges and dicts that do not mutate them.

use std::rc::Rc;

use super::super::arguments::{Args, bounds, required};
use super::super::error::{Result, fail};
use super::super::machine::Method;
use super::super::value::operators::equal;
use super::super::value::{DictView, Key, Value};

pub(super) fn list_method(value: &Value, name: &str) -> Option<Method> {
    match name {
        "copy" if matches!(value, Value::List(_)) => Some(|_, list, args| {
            let [] = args.bind("copy", [])?;
            Ok(list.clone())
        }),
        "count" => Some(|machine, list, args| {
            let [item] = args.bind("count", ["value"])?;
            let item = required(item, "count")?;
            let mut count = 0;
            for value in list.iterate(machine.budget())? {
                count += i128::from(equal(&value, &item, machine.budget())?);
            }
            Ok(Value::Int(count))
        }),
        "index" => Some(|machine, list, args| {
            let [item, start, stop] = args.bind("index", ["value", "start", "stop"])?;
            let item = required(item, "index")?;
            let values = list.iterate(machine.budget())?;
            let (start, stop) = bounds(values.len(), &start, &stop, "index")?;
            for (index, value) in values.iter().enumerate().take(stop).skip(start) {
                if equal(value, &item, machine.budget())? {
                    return Ok(Value::Int(index as i128));
                }
            }
            fail(format!("{} is not in the list", item.repr(machine.context())?))
        }),
        _ => None,
    }
}

pub(super) fn dict_method(name: &str) -> Option<Method> {
    match name {
        "items" => Some(view(DictView::Items)),
        "keys" => Some(view(DictView::Keys)),
        "values" => Some(view(DictView::Values)),
        "copy" => Some(|_, dict, args| {
            let [] = args.bind("copy", [])?;
            Ok(dict.clone())
        }),
        "get" => Some(|machine, receiver, args| {
            let [key, default] = args.bind("get", ["key", "default"])?;
            let Value::Dict(dict) = receiver else { return fail("not a dict") };
            let key = Key::new(required(key, "get")?, machine.budget())?;
            Ok(dict.get(&key).cloned().or(default).unwrap_or(Value::None))
        }),
        _ => None,
    }
}

/// `dict.items`, `dict.keys` or `dict.values`.
fn view(kind: DictView) -> Method {
    match kind {
        DictView::Items => |_, receiver, args| as_view(DictView::Items, receiver, args),
        DictView::Keys => |_, receiver, args| as_view(DictView::Keys, receiver, args),
        DictView::Values => |_, receiver, args| as_view(DictView::Values, receiver, args),
    }
}

fn as_view(kind: DictView, receiver: &Value, args: Args) -> Result<Value> {
    let [] = args.bind("a view", [])?;
    match receiver {
        Value::Dict(dict) => Ok(Value::View(kind, Rc::clone(dict))),
        _ => fail("not a dict"),
    }
}
