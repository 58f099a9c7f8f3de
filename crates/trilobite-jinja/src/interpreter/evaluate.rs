//! Evaluation of expressions.

use std::rc::Rc;

use super::super::arguments::Args;
use super::super::ast::{Arguments, Expr, Operator, PostfixStep};
use super::super::error::{Result, fail};
use super::super::machine::Machine;
use super::super::value::operators::{arithmetic, compare};
use super::super::value::{Dict, Key, Value};
use super::super::{filters, predicates};
use super::Interpreter;
use super::functions::global;

impl Interpreter {
    pub(super) fn evaluate(&mut self, expression: &Expr) -> Result<Value> {
        self.nested(|machine| machine.value_of(expression))
    }

    fn all(&mut self, expressions: &[Expr]) -> Result<Vec<Value>> {
        self.context.budget.spend(expressions.len())?;
        expressions.iter().map(|expression| self.evaluate(expression)).collect()
    }

    fn value_of(&mut self, expression: &Expr) -> Result<Value> {
        Ok(match expression {
            Expr::None => Value::None,
            Expr::Bool(bit) => Value::Bool(*bit),
            Expr::Int(number) => Value::Int(*number),
            Expr::Float(number) => Value::Float(*number),
            Expr::Str(text) => Value::Str(Rc::clone(text)),
            Expr::Name(name) => self.lookup(name)?,
            Expr::List(items) => Value::list(self.all(items)?)?,
            Expr::Tuple(items) => Value::tuple(self.all(items)?)?,
            Expr::Dict(pairs) => {
                let mut all = Vec::with_capacity(pairs.len());
                for (key, value) in pairs {
                    let key = Key::new(self.evaluate(key)?, &self.context.budget)?;
                    all.push(Ok((key, self.evaluate(value)?)));
                }
                Value::Dict(Rc::new(Dict::new(all, &self.context.budget)?))
            }
            Expr::Not(operand) => Value::Bool(!self.evaluate(operand)?.is_true()),
            Expr::Negative(operand) => {
                let value = self.evaluate(operand)?;
                match value.defined()?.as_int() {
                    Some(_) => {
                        arithmetic(&Value::Int(0), Operator::Subtract, &value, &self.context)?
                    }
                    None => match value.as_float() {
                        Some(number) => Value::Float(-number),
                        None => return fail(format!("bad operand for -: '{}'", value.type_name())),
                    },
                }
            }
            Expr::Positive(operand) => {
                let value = self.evaluate(operand)?;
                match (value.defined()?.as_int(), value.as_float()) {
                    (Some(number), _) => Value::Int(number),
                    (None, Some(_)) => value,
                    _ => return fail(format!("bad operand for +: '{}'", value.type_name())),
                }
            }
            Expr::Arithmetic(first, rest) => {
                let mut value = self.evaluate(first)?;
                for (operator, operand) in rest {
                    let operand = self.evaluate(operand)?;
                    value = arithmetic(&value, *operator, &operand, &self.context)?;
                }
                value
            }
            Expr::Concat(parts) => {
                let mut text = String::new();
                for part in parts {
                    text += &self.evaluate(part)?.to_text(&self.context)?;
                }
                Value::str(text)
            }
            Expr::Compare(first, rest) => {
                let mut left = self.evaluate(first)?;
                for (comparison, right) in rest {
                    let right = self.evaluate(right)?;
                    if !compare(&left, *comparison, &right, &self.context.budget)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Value::Bool(true)
            }
            Expr::And(operands) => self.first(operands, |value| !value.is_true())?,
            Expr::Or(operands) => self.first(operands, Value::is_true)?,
            Expr::Conditional(branches, otherwise) => {
                for (condition, value) in branches {
                    if self.evaluate(condition)?.is_true() {
                        return self.evaluate(value);
                    }
                }
                match otherwise {
                    Some(otherwise) => self.evaluate(otherwise)?,
                    None => Value::Undefined("the inline if-expression has no else section".into()),
                }
            }
            Expr::Postfix(base, steps) => {
                let mut value = self.evaluate(base)?;
                for step in steps {
                    value = self.step(value, step)?;
                }
                value
            }
        })
    }

    /// The first operand for which `decides` is true, or the last operand.
    fn first(&mut self, operands: &[Expr], decides: fn(&Value) -> bool) -> Result<Value> {
        let mut value = Value::None;
        for operand in operands {
            value = self.evaluate(operand)?;
            if decides(&value) {
                break;
            }
        }
        Ok(value)
    }

    fn arguments(&mut self, arguments: &Arguments) -> Result<Args> {
        let mut args = Args { positional: self.all(&arguments.positional)?, named: Vec::new() };
        for (name, value) in &arguments.named {
            args.named.push((Rc::clone(name), self.evaluate(value)?));
        }
        if let Some(more) = &arguments.more_positional {
            let more = self.evaluate(more)?.iterate(&self.context.budget)?;
            args.positional.extend(more);
        }
        if let Some(more) = &arguments.more_named {
            let Value::Dict(more) = self.evaluate(more)? else {
                return fail("the argument after ** must be a dict");
            };
            for (name, value) in more.iter() {
                let Some(name) = name.value().as_str() else {
                    return fail("names of arguments must be strings");
                };
                self.context.budget.spend(1)?;
                args.named.push((name.into(), value.clone()));
            }
        }
        Ok(args)
    }

    /// Applies a postfix operator.
    pub(super) fn step(&mut self, value: Value, step: &PostfixStep) -> Result<Value> {
        self.context.budget.spend(1)?;
        match step {
            PostfixStep::Attribute(name) => self.attribute(&value, name),
            PostfixStep::Item(key) => {
                let key = self.evaluate(key)?;
                self.subscript(&value, &key)
            }
            PostfixStep::Slice(bounds) => {
                let mut values = [Value::None, Value::None, Value::None];
                for (value, bound) in values.iter_mut().zip(bounds) {
                    if let Some(bound) = bound {
                        *value = self.evaluate(bound)?;
                    }
                }
                value.slice(values, &self.context.budget)
            }
            PostfixStep::Call(arguments) => {
                let args = self.arguments(arguments)?;
                self.call(&value, args)
            }
            PostfixStep::Filter(name, arguments) => {
                let args = self.arguments(arguments)?;
                filters::apply(self, name, value, args)
            }
            PostfixStep::Test { name, arguments, negated } => {
                let args = self.arguments(arguments)?;
                Ok(Value::Bool(predicates::passes(self, name, &value, args)? != *negated))
            }
        }
    }

    /// The value of a variable, or the global function with its name.
    pub(super) fn lookup(&self, name: &str) -> Result<Value> {
        let value = self.scopes.get(name, &self.context.budget)?;
        Ok(value.or_else(|| global(name)).unwrap_or_else(|| Value::undefined(name)))
    }

    /// Calls the callee of `{% call %}`, with `caller` as an additional argument.
    pub(super) fn evaluate_call(&mut self, call: &Expr, caller: Value) -> Result<Value> {
        let Expr::Postfix(base, steps) = call else { return fail("{% call %} needs a call") };
        let Some((PostfixStep::Call(arguments), steps)) = steps.split_last() else {
            return fail("{% call %} needs a call");
        };
        let mut callee = self.evaluate(base)?;
        for step in steps {
            callee = self.step(callee, step)?;
        }
        let mut args = self.arguments(arguments)?;
        args.named.push(("caller".into(), caller));
        self.call(&callee, args)
    }
}
