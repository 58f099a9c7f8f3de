//! From JSON to values, and from floats to integers.

use std::rc::Rc;

use serde_json::Value as Json;

use super::{Dict, Value};
use crate::budget::Budget;
use crate::error::{Result, fail};

impl Value {
    /// Converts JSON as Python's `json` module does.
    pub(crate) fn from_json(json: &Json, budget: &Budget) -> Result<Self> {
        Ok(match json {
            Json::Null => Value::None,
            Json::Bool(bit) => Value::Bool(*bit),
            Json::Number(number) => match number.as_i128() {
                Some(integer) => Value::Int(integer),
                None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::str(&**text),
            Json::Array(items) => {
                let items = items.iter().map(|item| Value::from_json(item, budget));
                Value::list(items.collect::<Result<_>>()?)?
            }
            Json::Object(pairs) => {
                let pair = |(key, value): (&String, &Json)| {
                    Ok((key.as_str().into(), Value::from_json(value, budget)?))
                };
                Value::Dict(Rc::new(Dict::new(pairs.iter().map(pair), budget)?))
            }
        })
    }
}

/// The integer part of a float.
pub(crate) fn truncated(number: f64) -> Result<i128> {
    let whole = number.trunc();
    // Floats that need more than 128 bits or are not finite have no such integer.
    match whole.abs() < i128::MAX as f64 {
        true => Ok(whole as i128),
        false => fail(format!("{number} is no integer of 128 bits")),
    }
}
