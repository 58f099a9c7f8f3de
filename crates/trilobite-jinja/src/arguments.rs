//! The arguments of a call.

use std::rc::Rc;

use super::error::{Result, TemplateError, fail};
use super::value::Value;

#[derive(Clone, Default)]
pub(super) struct Args {
    pub(super) positional: Vec<Value>,
    pub(super) named: Vec<(Rc<str>, Value)>,
}

impl Args {
    /// Binds arguments to these parameters, each by position, by name or not at all.
    pub(super) fn bind<const N: usize>(
        self,
        function: &str,
        names: [&str; N],
    ) -> Result<[Option<Value>; N]> {
        if self.positional.len() > N {
            let found = self.positional.len();
            return fail(format!("{function} takes at most {N} arguments, not {found}"));
        }
        let mut bound = [const { None }; N];
        for (place, value) in bound.iter_mut().zip(self.positional) {
            *place = Some(value);
        }
        for (name, value) in self.named {
            match names.iter().position(|known| *known == &*name) {
                Some(index) if bound[index].is_none() => bound[index] = Some(value),
                Some(_) => return fail(format!("{function} got {name} twice")),
                None => return fail(format!("{function} takes no argument {name:?}")),
            }
        }
        Ok(bound)
    }

    pub(super) fn len(&self) -> usize {
        self.positional.len() + self.named.len()
    }

    /// Removes a named argument.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        let index = self.named.iter().position(|(known, _)| &**known == name)?;
        Some(self.named.remove(index).1)
    }
}

/// The value of a required argument.
pub(super) fn required(value: Option<Value>, function: &str) -> Result<Value> {
    value.ok_or_else(|| TemplateError::new(format!("{function} needs another argument")))
}

/// The value of an optional integer argument. `None` counts as absent.
pub(super) fn integer(value: &Option<Value>, function: &str) -> Result<Option<i128>> {
    match value {
        None | Some(Value::None) => Ok(None),
        Some(value) => match value.as_int() {
            Some(number) => Ok(Some(number)),
            None => fail(format!("{function} takes an integer, not {}", value.type_name())),
        },
    }
}

/// The value of an optional string argument. `None` counts as absent.
pub(super) fn text<'a>(value: &'a Option<Value>, function: &str) -> Result<Option<&'a str>> {
    match value {
        None | Some(Value::None) => Ok(None),
        Some(value) => match value.as_str() {
            Some(text) => Ok(Some(text)),
            None => fail(format!("{function} takes a string, not {}", value.type_name())),
        },
    }
}

/// Whether an optional argument is present and true.
pub(super) fn flag(value: &Option<Value>) -> bool {
    value.as_ref().is_some_and(Value::is_true)
}

/// An optional count. A negative one means no limit.
pub(super) fn limit(value: &Option<Value>, function: &str) -> Result<Option<usize>> {
    Ok(integer(value, function)?.and_then(|number| usize::try_from(number).ok()))
}

/// The part of a sequence between the `start` and `stop` of `find` and `index`.
pub(super) fn bounds(
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
