//! Filters on lists, dicts and other iterables.

use std::cmp::Ordering;
use std::collections::HashSet;

use super::super::arguments::{Args, flag, integer, required};
use super::super::error::{Result, TemplateError, fail};
use super::super::machine::Machine;
use super::super::methods;
use super::super::value::operators::{equal, ordering};
use super::super::value::sort::sorted;
use super::super::value::{Key, Value};
use super::select::Path;

pub(super) fn length(machine: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [] = args.bind("it", [])?;
    Ok(Value::Int(value.length(machine.budget())? as i128))
}

pub(super) fn list(machine: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [] = args.bind("it", [])?;
    Value::list(value.iterate(machine.budget())?)
}

pub(super) fn default(_: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [default, also_false] = args.bind("it", ["default_value", "boolean"])?;
    let absent = value.is_undefined() || (flag(&also_false) && !value.is_true());
    Ok(if absent { default.unwrap_or_else(|| Value::str("")) } else { value })
}

pub(super) fn attr(machine: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [name] = args.bind("it", ["name"])?;
    let name = required(name, "it")?;
    let name = name.as_str().ok_or_else(|| TemplateError::new("a name is needed"))?;
    methods::attribute_only(&value, name, machine.context())
}

pub(super) fn items(machine: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [] = args.bind("it", [])?;
    match &value {
        Value::Undefined(_) => Value::iterator(Vec::new()),
        Value::Dict(_) => {
            let view = machine.attribute(&value, "items")?;
            let view = machine.call(&view, Args::default())?;
            Value::iterator(view.iterate(machine.budget())?)
        }
        _ => fail("can only get item pairs from a mapping"),
    }
}

pub(super) fn first(machine: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [] = args.bind("it", [])?;
    let item = match &value {
        // The other items stay in the iterator.
        Value::Iterator(stream) => stream.next(),
        Value::List(items) | Value::Tuple(items) => items.values.first().cloned(),
        _ => value.iterate(machine.budget())?.into_iter().next(),
    };
    Ok(item.unwrap_or_else(|| Value::Undefined("No first item, sequence was empty.".into())))
}

pub(super) fn last(machine: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [] = args.bind("it", [])?;
    if let Value::Iterator(_) = value {
        return fail("'generator' object is not reversible");
    }
    let item = match &value {
        Value::List(items) | Value::Tuple(items) => items.values.last().cloned(),
        _ => value.iterate(machine.budget())?.pop(),
    };
    Ok(item.unwrap_or_else(|| Value::Undefined("No last item, sequence was empty.".into())))
}

pub(super) fn reverse(machine: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [] = args.bind("it", [])?;
    let mut values = value.iterate(machine.budget())?;
    values.reverse();
    match &value {
        Value::Str(_) | Value::Markup(_) => {
            Ok(value.same_kind(values.iter().filter_map(Value::as_str).collect()))
        }
        Value::Iterator(_) => Value::list(values),
        _ => Value::iterator(values),
    }
}

/// The sort key of a value: unless `case_sensitive`, a string in lower case.
fn folded(machine: &dyn Machine, value: Value, case_sensitive: bool) -> Result<Value> {
    match value.as_str() {
        Some(text) if !case_sensitive => {
            machine.budget().bytes(3 * text.len())?;
            Ok(Value::str(text.to_lowercase()))
        }
        _ => Ok(value),
    }
}

/// Sorts items by their keys, stably.
fn by_key(
    machine: &dyn Machine,
    keyed: Vec<(Value, Value)>,
    reverse: bool,
) -> Result<Vec<(Value, Value)>> {
    sorted(keyed, &mut |(a, _), (b, _)| {
        let (a, b) = if reverse { (b, a) } else { (a, b) };
        Ok(ordering(a, b, "<", machine.budget())? == Some(Ordering::Less))
    })
}

pub(super) fn sort(machine: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [reverse, case_sensitive, attribute] =
        args.bind("it", ["reverse", "case_sensitive", "attribute"])?;
    let paths: Vec<Path> = match &attribute {
        Some(Value::Str(list)) => {
            list.split(',').map(|attribute| Path::new(&Value::str(attribute))).collect()
        }
        attribute => vec![Path::new(attribute.as_ref().unwrap_or(&Value::None))],
    };
    let mut keyed = Vec::new();
    for item in value.iterate(machine.budget())? {
        let mut key = Vec::with_capacity(paths.len());
        for path in &paths {
            let part = path.of(machine, &item)?;
            key.push(folded(machine, part, flag(&case_sensitive))?);
        }
        keyed.push((Value::list(key)?, item));
    }
    let sorted = by_key(machine, keyed, flag(&reverse))?;
    Value::list(sorted.into_iter().map(|(_, item)| item).collect())
}

pub(super) fn dictsort(machine: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [case_sensitive, by, reverse] = args.bind("it", ["case_sensitive", "by", "reverse"])?;
    let Value::Dict(dict) = value.defined()? else {
        return fail(format!("'{} object' is not a dict", value.type_name()));
    };
    let by_value = match by.as_ref().and_then(Value::as_str).unwrap_or("key") {
        "key" => false,
        "value" => true,
        _ => return fail("you can only sort by either \"key\" or \"value\""),
    };
    let mut keyed = Vec::new();
    for (key, value) in dict.iter() {
        let by = if by_value { value } else { key.value() };
        let pair = Value::tuple(vec![key.value().clone(), value.clone()])?;
        machine.budget().spend(4)?;
        keyed.push((folded(machine, by.clone(), flag(&case_sensitive))?, pair));
    }
    let sorted = by_key(machine, keyed, flag(&reverse))?;
    Value::list(sorted.into_iter().map(|(_, pair)| pair).collect())
}

pub(super) fn groupby(machine: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [attribute, default, case_sensitive] =
        args.bind("it", ["attribute", "default", "case_sensitive"])?;
    let path = Path::new(&required(attribute, "it")?);
    let mut keyed = Vec::new();
    for item in value.iterate(machine.budget())? {
        let key = match (path.of(machine, &item)?, &default) {
            (key, Some(default)) if key.is_undefined() => default.clone(),
            (key, _) => key,
        };
        let folded = folded(machine, key.clone(), flag(&case_sensitive))?;
        keyed.push((folded, Value::tuple(vec![key, item])?));
    }
    let mut groups: Vec<(Value, Value, Vec<Value>)> = Vec::new();
    for (folded, pair) in by_key(machine, keyed, false)? {
        let mut pair = pair.iterate(machine.budget())?.into_iter();
        let (Some(key), Some(item)) = (pair.next(), pair.next()) else { continue };
        match groups.last_mut() {
            Some((last, _, items)) if equal(last, &folded, machine.budget())? => items.push(item),
            _ => groups.push((folded, key, vec![item])),
        }
    }
    let groups = groups.into_iter().map(|(_, key, items)| Value::group(key, items));
    Value::list(groups.collect::<Result<_>>()?)
}

pub(super) fn unique(machine: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [case_sensitive, attribute] = args.bind("it", ["case_sensitive", "attribute"])?;
    let path = Path::new(&attribute.unwrap_or(Value::None));
    let (mut seen, mut kept) = (HashSet::new(), Vec::new());
    for item in value.iterate(machine.budget())? {
        let key = path.of(machine, &item)?;
        let key = folded(machine, key, flag(&case_sensitive))?;
        if seen.insert(Key::new(key, machine.budget())?) {
            kept.push(item);
        }
    }
    Value::iterator(kept)
}

/// `min` and `max`
pub(super) fn extreme(
    machine: &mut dyn Machine,
    value: Value,
    args: Args,
    max: bool,
) -> Result<Value> {
    let [case_sensitive, attribute] = args.bind("it", ["case_sensitive", "attribute"])?;
    let path = Path::new(&attribute.unwrap_or(Value::None));
    let mut best: Option<(Value, Value)> = None;
    for item in value.iterate(machine.budget())? {
        let key = path.of(machine, &item)?;
        let key = folded(machine, key, flag(&case_sensitive))?;
        let better = match &best {
            None => true,
            Some((best, _)) => {
                let order = ordering(&key, best, if max { ">" } else { "<" }, machine.budget())?;
                order == Some(if max { Ordering::Greater } else { Ordering::Less })
            }
        };
        if better {
            best = Some((key, item));
        }
    }
    let none = || Value::Undefined("No aggregated item, sequence was empty.".into());
    Ok(best.map_or_else(none, |(_, item)| item))
}

/// An argument that must be a positive number of items.
fn positive(value: Option<Value>) -> Result<usize> {
    let number = integer(&Some(required(value, "it")?), "it")?.unwrap_or(0);
    let number = usize::try_from(number).ok().filter(|&number| number > 0);
    number.ok_or_else(|| TemplateError::new("a positive number is needed"))
}

pub(super) fn batch(machine: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [count, fill] = args.bind("it", ["linecount", "fill_with"])?;
    let count = positive(count)?;
    let values = value.iterate(machine.budget())?;
    let mut batches: Vec<Vec<Value>> = values.chunks(count).map(<[Value]>::to_vec).collect();
    if let (Some(fill), Some(last)) = (fill.filter(|fill| !is_none(fill)), batches.last_mut()) {
        machine.budget().spend(count - last.len())?;
        last.resize(count, fill);
    }
    Value::iterator(batches.into_iter().map(Value::list).collect::<Result<_>>()?)
}

pub(super) fn slice(machine: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [count, fill] = args.bind("it", ["slices", "fill_with"])?;
    let count = positive(count)?;
    let values = value.iterate(machine.budget())?;
    machine.budget().spend(count.saturating_mul(3))?;
    let (size, longer) = (values.len() / count, values.len() % count);
    let fill = fill.filter(|fill| !is_none(fill));
    let mut slices = Vec::with_capacity(count);
    let mut rest = &values[..];
    for index in 0..count {
        let (slice, others) = rest.split_at(size + usize::from(index < longer));
        let mut slice = slice.to_vec();
        slice.extend(fill.clone().filter(|_| index >= longer));
        slices.push(Value::list(slice)?);
        rest = others;
    }
    Value::iterator(slices)
}

fn is_none(value: &Value) -> bool {
    matches!(value, Value::None)
}
