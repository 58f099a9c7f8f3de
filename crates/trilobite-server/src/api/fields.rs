//! The fields of a request. Reading a field removes it, so unknown fields are left.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::error::{ApiError, ApiResult};

/// Fields that change no answer.
pub(crate) const HARMLESS: [&str; 9] = [
    "metadata",
    "parallel_tool_calls",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
];

/// Maximum characters of a value in an error.
const MAX_SHOWN: usize = 80;

/// The type of a field.
pub(crate) trait Field: DeserializeOwned {
    /// What its values are, in an error.
    const EXPECTED: &'static str;
}

/// Implements [`Field`].
macro_rules! fields {
    ($($type:ty: $expected:literal,)*) => {
        $(impl Field for $type {
            const EXPECTED: &'static str = $expected;
        })*
    };
}

fields! {
    bool: "true or false",
    f64: "a number",
    i64: "a whole number",
    i128: "a whole number",
    usize: "a whole number that is not negative",
    String: "a string",
    Map<String, Value>: "an object",
    BTreeMap<String, f64>: "an object of numbers",
    Vec<Value>: "a list",
    Vec<Map<String, Value>>: "a list of objects",
    Vec<u32>: "a list of token ids",
}

/// The unread fields of a request.
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// The fields of a JSON object.
    pub(crate) fn parse(body: &[u8]) -> ApiResult<Self> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(ApiError::invalid("the body is JSON, but no object")),
            Err(error) => Err(ApiError::invalid(format!("the body is no valid JSON: {error}"))),
        }
    }

    /// Takes a field's value. `null` counts as absent.
    pub(crate) fn take<T: Field>(&mut self, name: &str) -> ApiResult<Option<T>> {
        self.value(name).map(|value| read(name, value)).transpose()
    }

    /// A field's value, which stays there.
    pub(crate) fn peek<T: Field>(&self, name: &str) -> ApiResult<Option<T>> {
        let value = self.0.get(name).filter(|value| !value.is_null());
        value.map(|value| read(name, value.clone())).transpose()
    }

    /// Takes a field's JSON value. `null` counts as absent.
    pub(crate) fn value(&mut self, name: &str) -> Option<Value> {
        self.0.shift_remove(name).filter(|value| !value.is_null()).map(whole_numbers)
    }

    /// Takes a number within a range.
    pub(crate) fn number<T>(&mut self, name: &str, range: RangeInclusive<T>) -> ApiResult<Option<T>>
    where
        T: Field + PartialOrd + Display,
    {
        let number: Option<T> = self.take(name)?;
        if let Some(number) = number.as_ref().filter(|number| !range.contains(number)) {
            let (low, high) = range.into_inner();
            let message = format!("{name} is {number}, expected {low} to {high}");
            return Err(ApiError::field(name, message));
        }
        Ok(number)
    }

    /// Takes a number within a range. It is rounded after the comparison.
    pub(crate) fn float(
        &mut self,
        name: &str,
        range: RangeInclusive<f64>,
    ) -> ApiResult<Option<f32>> {
        Ok(self.number(name, range)?.map(|number| number as f32))
    }

    /// Takes a field of which only some values are supported.
    pub(crate) fn only(&mut self, name: &str, values: &[Value]) -> ApiResult<()> {
        match self.value(name) {
            Some(value) if !values.contains(&value) => Err(not_supported(name)),
            _ => Ok(()),
        }
    }

    /// Refuses the remaining fields, unless they change no answer.
    pub(crate) fn finish(mut self) -> ApiResult<()> {
        self.only("audio", &[])?;
        self.only("function_call", &[json!("none")])?;
        self.only("functions", &[json!([])])?;
        self.only("modalities", &[json!(["text"])])?;
        self.only("reasoning_effort", &[])?;
        self.only("suffix", &[json!("")])?;
        self.only("tool_choice", &[json!("none")])?;
        self.only("tools", &[json!([])])?;
        self.only("verbosity", &[])?;
        self.only("web_search_options", &[])?;
        let unknown = |name: &&String| !HARMLESS.contains(&name.as_str());
        match self
            .0
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, _)| name)
            .find(unknown)
        {
            Some(name) => Err(ApiError::field(name, format!("the field {name:?} is not known"))
                .with_code("unknown_parameter")),
            None => Ok(()),
        }
    }
}

/// Reads the value of the field `name`.
pub(crate) fn read<T: Field>(name: &str, value: Value) -> ApiResult<T> {
    T::deserialize(&value).map_err(|_| {
        let (text, expected) = (value.to_string(), T::EXPECTED);
        // A long text says no more than its beginning.
        let message = match text.char_indices().nth(MAX_SHOWN) {
            Some((end, _)) => format!("{name} is {}..., expected {expected}", &text[..end]),
            None => format!("{name} is {text}, expected {expected}"),
        };
        ApiError::field(name, message)
    })
}

/// Turns whole floats such as `1.0` into integers, also in lists. JSON Schema counts them as integers.
fn whole_numbers(value: Value) -> Value {
    /// Every integer below this is exact as a float.
    const EXACT: f64 = (1u64 << 53) as f64;
    match value {
        Value::Array(list) => list.into_iter().map(whole_numbers).collect(),
        Value::Number(number) => {
            let float = number.as_f64().filter(|_| number.is_f64());
            match float.filter(|float| float.fract() == 0.0 && float.abs() < EXACT) {
                Some(float) => (float as i64).into(),
                None => number.into(),
            }
        }
        other => other,
    }
}

/// The error of a known field or value that is not supported.
pub(crate) fn not_supported(name: &str) -> ApiError {
    ApiError::field(name, format!("the value of {name} is not supported by this server"))
        .with_code("unsupported_parameter")
}
