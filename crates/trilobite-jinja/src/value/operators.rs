//! Arithmetic, comparison and membership.

use std::cmp::Ordering;
use std::rc::Rc;

use super::context::Context;
use super::{DictView, Key, Value, percent};
use crate::ast::{Comparison, Operator};
use crate::budget::Budget;
use crate::error::{Result, TemplateError, fail};
use crate::escape::escape;

/// `a == b`
pub(crate) fn equal(a: &Value, b: &Value, budget: &Budget) -> Result<bool> {
    budget.spend(1)?;
    let all = |a: &[Value], b: &[Value]| {
        if a.len() != b.len() {
            return Ok(false);
        }
        for (a, b) in a.iter().zip(b) {
            if !equal(a, b, budget)? {
                return Ok(false);
            }
        }
        Ok(true)
    };
    Ok(match (a, b) {
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            Rc::ptr_eq(a, b) || all(&a.values, &b.values)?
        }
        (Value::Dict(a), Value::Dict(b)) if a.len() != b.len() => false,
        (Value::Dict(a), Value::Dict(b)) => {
            for (key, value) in a.iter() {
                budget.spend(key.weight())?;
                match b.get(key) {
                    Some(other) if equal(value, other, budget)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
        (Value::Range(a), Value::Range(b)) => {
            a.length == b.length
                && (a.length == 0 || a.start == b.start)
                && (a.length < 2 || a.step == b.step)
        }
        (Value::View(a, x), Value::View(b, y)) => a == b && Rc::ptr_eq(x, y),
        (Value::Iterator(a), Value::Iterator(b)) => Rc::ptr_eq(a, b),
        (Value::Namespace(a), Value::Namespace(b)) => a == b,
        (Value::Loop(a), Value::Loop(b)) => Rc::ptr_eq(a, b),
        (Value::Function(a), Value::Function(b)) => Rc::ptr_eq(a, b),
        _ => match (a.as_str(), b.as_str()) {
            (Some(a), Some(b)) => {
                budget.bytes(a.len())?;
                a == b
            }
            (None, None) => numbers(a, b) == Some(Some(Ordering::Equal)),
            _ => false,
        },
    })
}

/// Compares two numbers: `None` if one of them is not a number, `Some(None)` with NaN.
fn numbers(a: &Value, b: &Value) -> Option<Option<Ordering>> {
    match (a.as_int(), b.as_int()) {
        (Some(a), Some(b)) => Some(Some(a.cmp(&b))),
        _ => Some(a.as_float()?.partial_cmp(&b.as_float()?)),
    }
}

/// The order of two values, or `None` with NaN. `symbol` is the operator in errors.
pub(crate) fn ordering(
    a: &Value,
    b: &Value,
    symbol: &str,
    budget: &Budget,
) -> Result<Option<Ordering>> {
    budget.spend(1)?;
    if let Some(order) = numbers(a, b) {
        return Ok(order);
    }
    if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
        budget.bytes(a.len().min(b.len()))?;
        return Ok(Some(a.cmp(b)));
    }
    match (a.defined()?, b.defined()?) {
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            for (a, b) in a.values.iter().zip(&b.values) {
                if !equal(a, b, budget)? {
                    return ordering(a, b, symbol, budget);
                }
            }
            Ok(Some(a.values.len().cmp(&b.values.len())))
        }
        _ => {
            let (a, b) = (a.type_name(), b.type_name());
            fail(format!("'{symbol}' not supported between instances of '{a}' and '{b}'"))
        }
    }
}

/// A comparison of two values.
pub(crate) fn compare(
    a: &Value,
    comparison: Comparison,
    b: &Value,
    budget: &Budget,
) -> Result<bool> {
    let order = |symbol: &str, fits: fn(Ordering) -> bool| {
        Ok(ordering(a, b, symbol, budget)?.is_some_and(fits))
    };
    match comparison {
        Comparison::Equal => equal(a, b, budget),
        Comparison::NotEqual => Ok(!equal(a, b, budget)?),
        Comparison::Less => order("<", Ordering::is_lt),
        Comparison::LessEqual => order("<=", Ordering::is_le),
        Comparison::Greater => order(">", Ordering::is_gt),
        Comparison::GreaterEqual => order(">=", Ordering::is_ge),
        Comparison::In => contains(b, a, budget),
        Comparison::NotIn => Ok(!contains(b, a, budget)?),
    }
}

/// `item in container`
pub(crate) fn contains(container: &Value, item: &Value, budget: &Budget) -> Result<bool> {
    match container {
        Value::Str(text) | Value::Markup(text) => {
            budget.bytes(text.len())?;
            match item.as_str() {
                Some(part) => Ok(text.contains(part)),
                None => {
                    let found = item.type_name();
                    fail(format!("'in <string>' requires string as left operand, not {found}"))
                }
            }
        }
        Value::Dict(dict) | Value::View(DictView::Keys, dict) => {
            Ok(dict.get(&Key::new(item.clone(), budget)?).is_some())
        }
        Value::Iterator(stream) => {
            // A search consumes the iterator.
            while let Some(value) = stream.next() {
                if equal(&value, item, budget)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Value::Range(range) => Ok(item.as_int().is_some_and(|number| {
            let from_start = number.checked_sub(range.start);
            let steps = from_start.and_then(|n| n.checked_div(range.step)).unwrap_or(-1);
            usize::try_from(steps).is_ok_and(|steps| steps < range.length)
                && range.start + steps * range.step == number
        })),
        Value::List(items) | Value::Tuple(items) => {
            for value in &items.values {
                if equal(value, item, budget)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ if container.is_iterable() => {
            for value in container.iterate(budget)? {
                if equal(&value, item, budget)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => fail(format!("argument of type '{}' is not iterable", container.type_name())),
    }
}

impl Operator {
    fn symbol(self) -> &'static str {
        match self {
            Operator::Add => "+",
            Operator::Subtract => "-",
            Operator::Multiply => "*",
            Operator::Divide => "/",
            Operator::FloorDivide => "//",
            Operator::Remainder => "%",
            Operator::Power => "**",
        }
    }
}

/// Applies an arithmetic operator to two values.
pub(crate) fn arithmetic(
    a: &Value,
    operator: Operator,
    b: &Value,
    context: &Context,
) -> Result<Value> {
    a.defined()?;
    if let (Operator::Remainder, Some(_)) = (operator, a.as_str()) {
        return percent::format(a, b, context);
    }
    b.defined()?;
    if let (Some(x), Some(y)) = (a.as_int(), b.as_int()) {
        return integers(x, operator, y);
    }
    if let (Some(x), Some(y)) = (a.as_float(), b.as_float()) {
        return floats(x, operator, y);
    }
    let budget = &context.budget;
    match operator {
        Operator::Add => match (a, b) {
            (Value::List(x), Value::List(y)) | (Value::Tuple(x), Value::Tuple(y)) => {
                budget.spend(x.values.len() + y.values.len())?;
                let both = x.values.iter().chain(&y.values).cloned().collect();
                return if let Value::List(_) = a { Value::list(both) } else { Value::tuple(both) };
            }
            _ => {
                if let (Some(x), Some(y)) = (a.as_str(), b.as_str()) {
                    budget.bytes(x.len() + y.len())?;
                    return Ok(match (a, b) {
                        (Value::Str(_), Value::Str(_)) => Value::str([x, y].concat()),
                        (Value::Str(_), _) => Value::Markup([&*escape(x), y].concat().into()),
                        (_, Value::Str(_)) => Value::Markup([x, &*escape(y)].concat().into()),
                        _ => Value::Markup([x, y].concat().into()),
                    });
                }
            }
        },
        Operator::Multiply => {
            let (repeated, times) = if a.as_int().is_some() { (b, a) } else { (a, b) };
            if let Some(times) = times.as_int() {
                let times = usize::try_from(times.max(0)).unwrap_or(usize::MAX);
                match repeated {
                    Value::Str(text) | Value::Markup(text) => {
                        budget.bytes(text.len().saturating_mul(times))?;
                        return Ok(repeated.same_kind(text.repeat(times)));
                    }
                    Value::List(items) | Value::Tuple(items) => {
                        budget.spend(items.values.len().saturating_mul(times))?;
                        let times = if items.values.is_empty() { 0 } else { times };
                        let values = std::iter::repeat_n(&items.values, times).flatten();
                        let values = values.cloned().collect();
                        return match repeated {
                            Value::List(_) => Value::list(values),
                            _ => Value::tuple(values),
                        };
                    }
                    _ => {}
                }
            }
        }
        _ => {}
    }
    let (symbol, x, y) = (operator.symbol(), a.type_name(), b.type_name());
    fail(format!("unsupported operand types for {symbol}: '{x}' and '{y}'"))
}

fn integers(a: i128, operator: Operator, b: i128) -> Result<Value> {
    let floor = || {
        let (quotient, rest) = (a.checked_div(b)?, a.checked_rem(b)?);
        let below = rest != 0 && (rest < 0) != (b < 0);
        Some(if below { (quotient - 1, rest + b) } else { (quotient, rest) })
    };
    let result = match operator {
        Operator::Divide | Operator::FloorDivide | Operator::Remainder if b == 0 => {
            return fail("division by zero");
        }
        Operator::Divide => return Ok(Value::Float(a as f64 / b as f64)),
        Operator::Power if matches!(a, -1..=1) && b > 1 => Some(if b % 2 == 0 { a * a } else { a }),
        Operator::Power if b < 0 => return floats(a as f64, operator, b as f64),
        Operator::Add => a.checked_add(b),
        Operator::Subtract => a.checked_sub(b),
        Operator::Multiply => a.checked_mul(b),
        Operator::FloorDivide => floor().map(|(quotient, _)| quotient),
        Operator::Remainder => floor().map(|(_, rest)| rest),
        Operator::Power => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
    };
    let symbol = operator.symbol();
    result
        .map(Value::Int)
        .ok_or_else(|| TemplateError::new(format!("{a} {symbol} {b} is too large")))
}

fn floats(a: f64, operator: Operator, b: f64) -> Result<Value> {
    // Python's floor division and remainder, which have the sign of the divisor.
    let floor = || {
        let mut rest = a % b;
        let mut quotient = (a - rest) / b;
        if rest == 0.0 {
            rest = 0.0f64.copysign(b);
        } else if (rest < 0.0) != (b < 0.0) {
            rest += b;
            quotient -= 1.0;
        }
        let mut whole = quotient.floor();
        if quotient - whole > 0.5 {
            whole += 1.0;
        }
        (if quotient == 0.0 { 0.0f64.copysign(a / b) } else { whole }, rest)
    };
    let result = match operator {
        Operator::Divide | Operator::FloorDivide | Operator::Remainder if b == 0.0 => {
            return fail("division by zero");
        }
        Operator::Power if a == 0.0 && b < 0.0 => return fail("0 to a negative power"),
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide => a / b,
        Operator::FloorDivide => floor().0,
        Operator::Remainder => floor().1,
        Operator::Power => libm::pow(a, b),
    };
    match operator {
        Operator::Power if result.is_nan() && !a.is_nan() && !b.is_nan() => {
            fail("a negative number to a fractional power is complex")
        }
        Operator::Power if result.is_infinite() && a.is_finite() && b.is_finite() => {
            fail("the power is too large for a float")
        }
        _ => Ok(Value::Float(result)),
    }
}
