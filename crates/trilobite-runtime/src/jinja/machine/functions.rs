//! Callables: macros, methods, and the global functions.

use std::rc::Rc;

use super::super::ast::Macro;
use super::super::error::{Error, Result, fail};
use super::super::methods::Method;
use super::super::value::{Dict, Key, Range, Value};
use super::arguments::{Args, integer, required};
use super::{Loop, Machine};

/// Maximum length of a range, as in Jinja2's sandbox.
const MAX_RANGE: i128 = 100_000;

pub(in crate::jinja) enum Function {
    Global(&'static str, fn(&mut Machine, Args) -> Result<Value>),
    Method { receiver: Value, name: Rc<str>, method: Method },
    Macro { definition: Rc<Macro>, scope: usize },
}

impl Function {
    pub(in crate::jinja) fn type_name(&self) -> &'static str {
        match self {
            Function::Global(..) => "function",
            Function::Method { .. } => "builtin_function_or_method",
            Function::Macro { .. } => "Macro",
        }
    }
}

/// A global function.
pub(in crate::jinja) fn global(name: &str) -> Option<Value> {
    let function = match name {
        "range" => Function::Global("range", range),
        "dict" => {
            Function::Global("dict", |machine, args| Ok(Value::Dict(Rc::new(dict(machine, args)?))))
        }
        "namespace" => Function::Global("namespace", |machine, args| {
            let pairs = dict(machine, args)?;
            machine.new_namespace(pairs)
        }),
        "raise_exception" => Function::Global("raise_exception", |machine, args| {
            let [message] = args.bind("raise_exception", ["message"])?;
            let message = required(message, "raise_exception")?.to_text(machine)?;
            Err(Error::new(message))
        }),
        "strftime_now" => Function::Global("strftime_now", |machine, args| {
            let [format] = args.bind("strftime_now", ["format"])?;
            let format = required(format, "strftime_now")?;
            let format = format.as_str().ok_or_else(|| Error::new("a format is a string"))?;
            Ok(Value::str(machine.clock.format(format, &machine.budget)?))
        }),
        _ => return None,
    };
    Some(Value::Function(Rc::new(function)))
}

fn range(_: &mut Machine, args: Args) -> Result<Value> {
    let given = args.positional.len();
    let [first, second, step] = args.bind("range", ["start", "stop", "step"])?;
    let number = |value: Option<Value>, default: i64| {
        let number = integer(&value, "range")?.unwrap_or(default.into());
        let fits = i64::try_from(number);
        fits.map(i128::from).map_err(|_| Error::new(format!("{number} is too large for range")))
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
fn dict(machine: &mut Machine, args: Args) -> Result<Dict> {
    let Args { mut positional, named } = args;
    if positional.len() > 1 {
        return fail("dict expected at most 1 argument");
    }
    let budget = &machine.budget;
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

impl Machine {
    /// Calls a value.
    pub(in crate::jinja) fn call(&mut self, callee: &Value, args: Args) -> Result<Value> {
        match callee.defined()? {
            Value::Function(function) => match &**function {
                Function::Global(_, function) => function(self, args),
                Function::Method { receiver, name, method } => {
                    method.call(self, receiver, name, args)
                }
                Function::Macro { definition, scope } => {
                    let (definition, scope) = (Rc::clone(definition), *scope);
                    self.nested(|machine| machine.call_macro(&definition, scope, args))
                }
            },
            Value::Loop(state) => {
                let state: Rc<Loop> = Rc::clone(state);
                let [values] = args.bind("loop", ["iterable"])?;
                self.recurse(&state, &required(values, "loop")?)
            }
            _ => fail(format!("'{}' object is not callable", callee.type_name())),
        }
    }

    fn call_macro(&mut self, definition: &Macro, scope: usize, mut args: Args) -> Result<Value> {
        let Macro { name, parameters, body, uses } = definition;
        self.budget.spend(parameters.len().saturating_mul(1 + args.named.len()))?;
        let more = args.positional.split_off(parameters.len().min(args.positional.len()));
        if !more.is_empty() && !uses.varargs {
            let most = parameters.len();
            return fail(format!("macro '{name}' takes not more than {most} argument(s)"));
        }
        let mut values = args.positional.into_iter().map(Some).collect::<Vec<_>>();
        let mut named = Args { positional: Vec::new(), named: args.named };
        for (parameter, _) in parameters.iter().skip(values.len()) {
            values.push(named.take(parameter));
        }
        let caller = if uses.caller { named.take("caller") } else { None };
        if let Some((unknown, _)) = named.named.first().filter(|_| !uses.kwargs) {
            return fail(format!("macro '{name}' takes no keyword argument '{unknown}'"));
        }
        let mut out = String::new();
        self.scoped(scope, |machine| {
            // A default can refer to the parameters before it.
            for ((parameter, default), value) in parameters.iter().zip(values) {
                let value = match (value, default) {
                    (Some(value), _) => value,
                    (None, Some(default)) => machine.evaluate(default)?,
                    (None, None) => {
                        let reason = format!("parameter '{parameter}' was not provided");
                        Value::Undefined(reason.into())
                    }
                };
                machine.set(parameter, value);
            }
            if uses.caller {
                let none = || Value::Undefined("No caller defined".into());
                machine.set("caller", caller.unwrap_or_else(none));
            }
            if uses.varargs {
                machine.set("varargs", Value::tuple(more)?);
            }
            if uses.kwargs {
                let pairs =
                    named.named.iter().map(|(name, value)| Ok(((&**name).into(), value.clone())));
                machine.set("kwargs", Value::Dict(Rc::new(Dict::new(pairs, &machine.budget)?)));
            }
            machine.run(body, &mut out)
        })?;
        Ok(Value::str(out))
    }
}
