//! The constructors of Python's types.

use super::arguments::{Args, integer, required};
use super::budget::Budget;
use super::error::{Result, TemplateError, fail};
use super::value::{Dict, Key, Range, Value};

/// Maximum length of a range, as in Jinja2's sandbox.
const MAX_RANGE: i128 = 100_000;

/// Python's `range(start, stop, step)`.
pub(super) fn range(args: Args) -> Result<Value> {
    let given = args.positional.len();
    let [first, second, step] = args.bind("range", ["start", "stop", "step"])?;
    let number = |value: Option<Value>, default: i64| {
        let number = integer(&value, "range")?.unwrap_or(default.into());
        let fits = i64::try_from(number);
        fits.map(i128::from)
            .map_err(|_| TemplateError::new(format!("{number} is too large for range")))
    };
    let first = Some(required(first, "range")?);
    let (start, stop) = match given {
        1 => (0, number(first, 0)?),
        _ => (number(first, 0)?, number(second, 0)?),
    };
    let step = number(step, 1)?;
    if step == 0 {
        return fail("range() arg 3 must not be zero");
    }
    let distance = if step > 0 { stop - start } else { start - stop };
    let length = if distance > 0 { (distance - 1) / step.abs() + 1 } else { 0 };
    if length > MAX_RANGE {
        return fail(format!("a range of {length} is longer than {MAX_RANGE}"));
    }
    Ok(Value::Range(Range { start, step, length: length as usize }))
}

/// Python's `dict(pairs, name=value, ...)`.
pub(super) fn dict(args: Args, budget: &Budget) -> Result<Dict> {
    let Args { mut positional, named } = args;
    if positional.len() > 1 {
        return fail("dict expected at most 1 argument");
    }
    let mut pairs: Vec<Result<(Key, Value)>> = Vec::new();
    match positional.pop() {
        None => {}
        Some(Value::Dict(dict)) => {
            pairs.extend(dict.iter().map(|(key, value)| Ok((key.clone(), value.clone()))));
        }
        Some(list) => {
            for pair in list.iterate(budget)? {
                let Ok([key, value]) = <[Value; 2]>::try_from(pair.iterate(budget)?) else {
                    return fail("dict takes pairs");
                };
                pairs.push(Ok((Key::new(key, budget)?, value)));
            }
        }
    }
    pairs.extend(named.into_iter().map(|(name, value)| Ok(((&*name).into(), value))));
    Dict::new(pairs, budget)
}
