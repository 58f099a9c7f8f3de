//! Filters on numbers.

use super::super::arguments::{Args, integer};
use super::super::ast::Operator;
use super::super::error::{Result, TemplateError, fail};
use super::super::machine::Machine;
use super::super::unicode;
use super::super::value::Value;
use super::super::value::convert::truncated;
use super::super::value::operators::arithmetic;
use super::select::Path;

pub(super) fn abs(_: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [] = args.bind("it", [])?;
    match (value.defined()?.as_int(), value.as_float()) {
        (Some(number), _) => Ok(Value::Int(number.saturating_abs())),
        (None, Some(number)) => Ok(Value::Float(number.abs())),
        _ => fail(format!("bad operand type: '{}'", value.type_name())),
    }
}

/// Normalizes a number as Python's `int` and `float` accept it, with spaces around and `_` between
/// digits.
fn number(text: &str) -> Option<String> {
    let text = text.trim_matches(unicode::is_space);
    let between = |part: &str| !part.is_empty() && !part.ends_with('_') && !part.starts_with('_');
    (between(text) && !text.contains("__")).then(|| text.replace('_', ""))
}

fn parse_int(text: &str, base: u32) -> Option<i128> {
    let text = number(text)?;
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(&text);
    let prefixes = [("0x", 16), ("0o", 8), ("0b", 2)];
    let lower = unsigned.to_ascii_lowercase();
    let prefixed = prefixes
        .iter()
        .find(|(prefix, radix)| lower.starts_with(prefix) && (base == *radix || base == 0));
    let (digits, radix) = match prefixed {
        Some((prefix, radix)) => (&lower[prefix.len()..], *radix),
        None => (&*lower, if base == 0 { 10 } else { base }),
    };
    if !(2..=36).contains(&radix) || digits.starts_with(['+', '-']) {
        return None;
    }
    let magnitude = i128::from_str_radix(digits, radix).ok()?;
    if text.starts_with('-') { magnitude.checked_neg() } else { Some(magnitude) }
}

fn parse_float(text: &str) -> Option<f64> {
    number(text)?.parse().ok()
}

pub(super) fn int(machine: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [default, base] = args.bind("it", ["default", "base"])?;
    let base = integer(&base, "it")?.unwrap_or(10);
    let base = u32::try_from(base).unwrap_or(u32::MAX);
    let float = match value.defined()? {
        Value::Str(text) | Value::Markup(text) => {
            machine.budget().bytes(text.len())?;
            match parse_int(text, base) {
                Some(number) => return Ok(Value::Int(number)),
                None => parse_float(text),
            }
        }
        Value::Float(number) => Some(*number),
        _ => match value.as_int() {
            Some(number) => return Ok(Value::Int(number)),
            None => None,
        },
    };
    match float.filter(|number| number.is_finite()) {
        Some(number) => Ok(Value::Int(truncated(number)?)),
        None => Ok(default.unwrap_or(Value::Int(0))),
    }
}

pub(super) fn float(machine: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [default] = args.bind("it", ["default"])?;
    let number = match value.defined()? {
        Value::Str(text) | Value::Markup(text) => {
            machine.budget().bytes(text.len())?;
            parse_float(text)
        }
        _ => value.as_float(),
    };
    Ok(number.map(Value::Float).or(default).unwrap_or(Value::Float(0.0)))
}

pub(super) fn round(_: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [precision, method] = args.bind("it", ["precision", "method"])?;
    let precision = integer(&precision, "it")?.unwrap_or(0).clamp(-400, 400) as i32;
    let Some(number) = value.defined()?.as_float() else {
        return fail(format!("bad operand type: '{}'", value.type_name()));
    };
    let scale = libm::pow(10.0, precision.into());
    Ok(match method.as_ref().and_then(Value::as_str).unwrap_or("common") {
        "ceil" => Value::Float((number * scale).ceil() / scale),
        "floor" => Value::Float((number * scale).floor() / scale),
        "common" => match value.as_int() {
            Some(number) if precision >= 0 => Value::Int(number),
            Some(number) => Value::Int(to_a_multiple(number, precision.unsigned_abs())?),
            None if precision < 0 => Value::Float((number * scale).round_ties_even() / scale),
            // As in Python, rounding uses the exact decimal digits of the float.
            None => {
                let digits = precision as usize;
                Value::Float(format!("{number:.digits$}").parse().unwrap_or(number))
            }
        },
        _ => return fail("method must be common, ceil or floor"),
    })
}

/// Rounds an integer to a multiple of a power of ten, halves to even.
fn to_a_multiple(number: i128, power: u32) -> Result<i128> {
    let Some(unit) = 10i128.checked_pow(power) else { return Ok(0) };
    let (down, rest) = (number.div_euclid(unit), number.rem_euclid(unit));
    let left = unit - rest;
    let up = rest > left || (rest == left && down % 2 != 0);
    let multiple = (down + i128::from(up)).checked_mul(unit);
    multiple.ok_or_else(|| TemplateError::new(format!("{number} is too large to round")))
}

pub(super) fn sum(machine: &mut dyn Machine, value: Value, args: Args) -> Result<Value> {
    let [attribute, start] = args.bind("it", ["attribute", "start"])?;
    let path = Path::new(&attribute.unwrap_or(Value::None));
    let mut sum = start.unwrap_or(Value::Int(0));
    if sum.as_str().is_some() {
        return fail("can't sum strings");
    }
    for item in value.iterate(machine.budget())? {
        let item = path.of(machine, &item)?;
        sum = arithmetic(&sum, Operator::Add, &item, machine.context())?;
    }
    Ok(sum)
}
