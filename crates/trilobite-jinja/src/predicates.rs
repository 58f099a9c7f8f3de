//! Tests, which follow `is`, as defined by Jinja2.

use std::rc::Rc;

use super::arguments::{Args, required};
use super::ast::{Comparison, Operator};
use super::error::{Result, TemplateError};
use super::filters;
use super::machine::Machine;
use super::methods::{is_lower, is_upper};
use super::value::Value;
use super::value::operators::{arithmetic, compare, equal};

type Test = fn(&mut dyn Machine, &Value, Args) -> Result<bool>;

/// The test with a name.
fn test(name: &str) -> Option<Test> {
    Some(match name {
        "boolean" => |m, v, a| kind(m, v, a, |v| matches!(v, Value::Bool(_))),
        "callable" => |m, v, a| {
            kind(m, v, a, |v| {
                // An undefined value can be called too. The call is an error.
                matches!(v, Value::Function(_) | Value::Loop(_) | Value::Undefined(_))
            })
        },
        "defined" => |m, v, a| kind(m, v, a, |v| !v.is_undefined()),
        "divisibleby" => |m, v, a| {
            let [divisor] = a.bind("it", ["num"])?;
            divides(m, v, &required(divisor, "it")?, 0)
        },
        "eq" | "equalto" | "==" => |m, v, a| compared(m, v, a, Comparison::Equal),
        "escaped" => |m, v, a| kind(m, v, a, |v| matches!(v, Value::Markup(_))),
        "even" => |m, v, a| {
            let [] = a.bind("it", [])?;
            divides(m, v, &Value::Int(2), 0)
        },
        "false" => |m, v, a| kind(m, v, a, |v| matches!(v, Value::Bool(false))),
        "filter" => |m, v, a| kind(m, v, a, |v| v.as_str().is_some_and(filters::exists)),
        "float" => |m, v, a| kind(m, v, a, |v| matches!(v, Value::Float(_))),
        "ge" | ">=" => |m, v, a| compared(m, v, a, Comparison::GreaterEqual),
        "gt" | "greaterthan" | ">" => |m, v, a| compared(m, v, a, Comparison::Greater),
        "in" => |m, v, a| compared(m, v, a, Comparison::In),
        "integer" => |m, v, a| kind(m, v, a, |v| matches!(v, Value::Int(_))),
        "iterable" => |m, v, a| kind(m, v, a, Value::is_iterable),
        "le" | "<=" => |m, v, a| compared(m, v, a, Comparison::LessEqual),
        "lower" => |m, v, a| cased(m, v, a, is_lower),
        "lt" | "lessthan" | "<" => |m, v, a| compared(m, v, a, Comparison::Less),
        "mapping" => |m, v, a| kind(m, v, a, |v| matches!(v, Value::Dict(_))),
        "ne" | "!=" => |m, v, a| compared(m, v, a, Comparison::NotEqual),
        "none" => |m, v, a| kind(m, v, a, |v| matches!(v, Value::None)),
        "number" => |m, v, a| kind(m, v, a, |v| v.as_float().is_some()),
        "odd" => |m, v, a| {
            let [] = a.bind("it", [])?;
            divides(m, v, &Value::Int(2), 1)
        },
        "sameas" => |m, v, a| {
            let [other] = a.bind("it", ["other"])?;
            same(m, v, &required(other, "it")?)
        },
        "sequence" => |m, v, a| {
            kind(m, v, a, |v| v.is_iterable() && !matches!(v, Value::Iterator(_) | Value::View(..)))
        },
        "string" => |m, v, a| kind(m, v, a, |v| v.as_str().is_some()),
        "test" => |m, v, a| kind(m, v, a, |v| v.as_str().is_some_and(exists)),
        "true" => |m, v, a| kind(m, v, a, |v| matches!(v, Value::Bool(true))),
        "undefined" => |m, v, a| kind(m, v, a, Value::is_undefined),
        "upper" => |m, v, a| cased(m, v, a, is_upper),
        _ => return None,
    })
}

pub(super) fn exists(name: &str) -> bool {
    test(name).is_some()
}

/// The error of an unknown test.
pub(super) fn unknown(name: &str) -> TemplateError {
    TemplateError::new(format!("there is no test {name}"))
}

/// `value is name(args)`
pub(super) fn passes(
    machine: &mut dyn Machine,
    name: &str,
    value: &Value,
    args: Args,
) -> Result<bool> {
    let test = test(name).ok_or_else(|| unknown(name))?;
    test(machine, value, args).map_err(|error| error.within(|| name.to_owned()))
}

fn kind(_: &mut dyn Machine, value: &Value, args: Args, fits: fn(&Value) -> bool) -> Result<bool> {
    let [] = args.bind("it", [])?;
    Ok(fits(value))
}

fn compared(
    machine: &mut dyn Machine,
    value: &Value,
    args: Args,
    comparison: Comparison,
) -> Result<bool> {
    let [other] = args.bind("it", ["other"])?;
    compare(value, comparison, &required(other, "it")?, machine.budget())
}

fn cased(
    machine: &mut dyn Machine,
    value: &Value,
    args: Args,
    fits: fn(&str) -> bool,
) -> Result<bool> {
    let [] = args.bind("it", [])?;
    Ok(fits(&value.to_text(machine.context())?))
}

/// Whether a division leaves the remainder `rest`.
fn divides(machine: &mut dyn Machine, value: &Value, divisor: &Value, rest: i128) -> Result<bool> {
    let remainder = arithmetic(value, Operator::Remainder, divisor, machine.context())?;
    equal(&remainder, &Value::Int(rest), machine.budget())
}

/// Python's `is`.
fn same(machine: &mut dyn Machine, a: &Value, b: &Value) -> Result<bool> {
    Ok(match (a, b) {
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => Rc::ptr_eq(a, b),
        (Value::Dict(a), Value::Dict(b)) => Rc::ptr_eq(a, b),
        _ => a.type_name() == b.type_name() && equal(a, b, machine.budget())?,
    })
}
