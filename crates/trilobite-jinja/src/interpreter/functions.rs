//! Callables: macros, methods, and the global functions.

use std::rc::Rc;

use super::super::arguments::{Args, required};
use super::super::ast::Macro;
use super::super::constructors::{dict, range};
use super::super::error::{Result, TemplateError, fail};
use super::super::machine::Machine;
use super::super::value::context::Context;
use super::super::value::{Dict, Function, Value};
use super::super::{filters, methods, predicates};
use super::Interpreter;

type Global = fn(&mut Interpreter, Args) -> Result<Value>;

const GLOBALS: [(&str, Global); 5] = [
    ("range", |_, args| range(args)),
    ("dict", |machine, args| Ok(Value::Dict(Rc::new(dict(args, machine.budget())?)))),
    ("namespace", |machine, args| machine.context.new_namespace(dict(args, machine.budget())?)),
    ("raise_exception", |machine, args| {
        let [message] = args.bind("raise_exception", ["message"])?;
        Err(TemplateError::new(required(message, "raise_exception")?.to_text(&machine.context)?))
    }),
    ("strftime_now", |machine, args| {
        let [format] = args.bind("strftime_now", ["format"])?;
        let format = required(format, "strftime_now")?;
        let format = format.as_str().ok_or_else(|| TemplateError::new("a format is a string"))?;
        Ok(Value::str(machine.clock.format(format, machine.budget())?))
    }),
];

fn find(name: &str) -> Option<&'static (&'static str, Global)> {
    GLOBALS.iter().find(|(known, _)| *known == name)
}

/// The global function with a name.
pub(super) fn global(name: &str) -> Option<Value> {
    find(name).map(|(name, _)| Value::Function(Rc::new(Function::Global(name))))
}

impl Machine for Interpreter {
    fn context(&self) -> &Context {
        &self.context
    }

    fn call(&mut self, callee: &Value, args: Args) -> Result<Value> {
        match callee.defined()? {
            Value::Function(function) => match &**function {
                Function::Global(name) => match find(name) {
                    Some((_, function)) => function(self, args),
                    None => fail(format!("'{name}' is undefined")),
                },
                Function::Method { receiver, name } => methods::call(self, receiver, name, args),
                Function::Macro { definition, scope } => {
                    let (definition, scope) = (Rc::clone(definition), *scope);
                    self.nested(|machine| machine.call_macro(&definition, scope, args))
                }
            },
            Value::Loop(state) => {
                let state = Rc::clone(state);
                let [values] = args.bind("loop", ["iterable"])?;
                self.recurse(&state, &required(values, "loop")?)
            }
            _ => fail(format!("'{}' object is not callable", callee.type_name())),
        }
    }

    fn attribute(&self, value: &Value, name: &str) -> Result<Value> {
        methods::attribute(value, name, &self.context)
    }

    fn subscript(&self, value: &Value, key: &Value) -> Result<Value> {
        if let Some(item) = value.item(key, &self.context.budget)? {
            return Ok(item);
        }
        match key.as_str() {
            Some(name) => methods::attribute_only(value, name, &self.context),
            None => {
                let key = key.repr(&self.context)?;
                let reason = format!("{} object has no element {key}", value.type_name());
                Ok(Value::Undefined(reason.into()))
            }
        }
    }

    fn filter(&mut self, name: &str, value: Value, args: Args) -> Result<Value> {
        self.nested(|machine| filters::apply(machine, name, value, args))
    }

    fn test(&mut self, name: &str, value: &Value, args: Args) -> Result<bool> {
        predicates::passes(self, name, value, args)
    }
}

impl Interpreter {
    fn call_macro(&mut self, definition: &Macro, scope: usize, mut args: Args) -> Result<Value> {
        let Macro { name, parameters, body, uses } = definition;
        self.context.budget.spend(parameters.len().saturating_mul(1 + args.named.len()))?;
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
                machine.scopes.set(parameter, value);
            }
            if uses.caller {
                let none = || Value::Undefined("No caller defined".into());
                machine.scopes.set("caller", caller.unwrap_or_else(none));
            }
            if uses.varargs {
                machine.scopes.set("varargs", Value::tuple(more)?);
            }
            if uses.kwargs {
                let pairs =
                    named.named.iter().map(|(name, value)| Ok(((&**name).into(), value.clone())));
                machine.scopes.set(
                    "kwargs",
                    Value::Dict(Rc::new(Dict::new(pairs, &machine.context.budget)?)),
                );
            }
            machine.run(body, &mut out)
        })?;
        Ok(Value::str(out))
    }
}
