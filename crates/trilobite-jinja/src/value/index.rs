//! Subscripts and slices.

use super::{DictView, Key, Value};
use crate::budget::Budget;
use crate::error::{Result, TemplateError, fail};

/// An upper bound of the length of any sequence.
const LONGEST: i128 = 1 << 40;

impl Value {
    /// `self[key]`, or `None` where Python raises a LookupError or a TypeError.
    pub(crate) fn item(&self, key: &Value, budget: &Budget) -> Result<Option<Value>> {
        let at = |length: usize| {
            let index = key.as_int()?;
            let index = if index < 0 { index + length as i128 } else { index };
            usize::try_from(index).ok().filter(|&index| index < length)
        };
        Ok(match self {
            Value::Undefined(_) => {
                self.defined()?;
                None
            }
            Value::Str(text) | Value::Markup(text) => {
                let length = if key.as_int().is_some() { self.length(budget)? } else { 0 };
                let character = at(length).and_then(|index| text.chars().nth(index));
                character.map(|c| self.same_kind(c.to_string()))
            }
            Value::List(items) | Value::Tuple(items) => {
                at(items.values.len()).map(|index| items.values[index].clone())
            }
            Value::Range(range) => at(range.length).map(|index| range.get(index)),
            Value::Dict(dict) => match key {
                Value::List(_)
                | Value::Dict(_)
                | Value::View(DictView::Items | DictView::Keys, _) => None,
                _ => dict.get(&Key::new(key.clone(), budget)?).cloned(),
            },
            _ => None,
        })
    }

    /// A string of the same type as this one.
    pub(crate) fn same_kind(&self, text: String) -> Value {
        match self {
            Value::Markup(_) => Value::Markup(text.into()),
            _ => Value::str(text),
        }
    }

    /// `self[start:stop:step]`
    pub(crate) fn slice(&self, bounds: [Value; 3], budget: &Budget) -> Result<Value> {
        let number = |value: &Value| match value {
            Value::None => Ok(None),
            _ => match value.defined()?.as_int() {
                Some(number) => Ok(Some(number)),
                None => fail("slice indices must be integers or None"),
            },
        };
        let [start, stop, step] = &bounds;
        let (start, stop, step) = (number(start)?, number(stop)?, number(step)?.unwrap_or(1));
        if step == 0 {
            return fail("slice step cannot be zero");
        }
        // All steps longer than the sequence are equivalent.
        let step = step.clamp(-LONGEST, LONGEST);
        let indices = |length: usize| indices(length, start, stop, step);
        Ok(match self.defined()? {
            Value::Str(text) | Value::Markup(text) => {
                budget.spend(text.len())?;
                let chars: Vec<char> = text.chars().collect();
                self.same_kind(indices(chars.len()).map(|index| chars[index]).collect())
            }
            Value::List(items) | Value::Tuple(items) => {
                let kept = indices(items.values.len()).map(|index| items.values[index].clone());
                let kept: Vec<Value> = kept.collect();
                budget.spend(kept.len())?;
                match self {
                    Value::List(_) => Value::list(kept)?,
                    _ => Value::tuple(kept)?,
                }
            }
            Value::Range(range) => {
                let mut kept = indices(range.length);
                let (first, length) = (kept.next(), kept.len() + 1);
                let start = range.start + range.step * first.unwrap_or(0) as i128;
                let length = first.map_or(0, |_| length);
                Value::Range(super::Range { start, step: range.step * step, length })
            }
            _ => {
                let message = format!("'{}' object is not subscriptable", self.type_name());
                return Err(TemplateError::new(message));
            }
        })
    }
}

/// The indices that a slice selects from a sequence of a given length.
fn indices(
    length: usize,
    start: Option<i128>,
    stop: Option<i128>,
    step: i128,
) -> impl ExactSizeIterator<Item = usize> {
    let all = length as i128;
    let (least, most) = if step > 0 { (0, all) } else { (-1, all - 1) };
    let bound = |bound: Option<i128>, default: i128| match bound {
        None => default,
        Some(bound) if bound < 0 => (bound.saturating_add(all)).max(least),
        Some(bound) => bound.min(most),
    };
    let (from, to) = if step > 0 { (0, all) } else { (all - 1, -1) };
    let (from, to) = (bound(start, from), bound(stop, to));
    let distance = if step > 0 { to - from } else { from - to };
    let count = if distance > 0 { ((distance - 1) / step.abs() + 1) as usize } else { 0 };
    (0..count).map(move |index| (from + step * index as i128) as usize)
}
