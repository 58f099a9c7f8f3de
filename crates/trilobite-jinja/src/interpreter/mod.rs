//! The interpreter of templates.

mod evaluate;
mod functions;
mod scopes;

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use scopes::Scopes;

use super::ast::{Body, For, Macro, PostfixStep, Statement, StatementKind, Target};
use super::budget::Budget;
use super::clock::Clock;
use super::error::{Result, fail};
use super::value::context::Context;
use super::value::{Function, Items, Loop, Value};

/// Maximum nesting of statements, expressions and calls at run time.
const MAX_DEPTH: usize = 1500;

pub(super) struct Interpreter {
    context: Context,
    clock: Clock,
    scopes: Scopes,
    loops: usize,
    depth: usize,
}

/// The continuation after a statement.
#[derive(PartialEq)]
enum Flow {
    Next,
    Break,
    Continue,
}

impl Interpreter {
    pub(super) fn new(variables: HashMap<Rc<str>, Value>, budget: Budget, clock: Clock) -> Self {
        let (context, scopes) = (Context::new(budget), Scopes::new(variables));
        Self { context, clock, scopes, loops: 0, depth: 0 }
    }

    /// Renders a template to text.
    pub(super) fn render(&mut self, template: &Body) -> Result<String> {
        let mut out = String::new();
        self.run(template, &mut out)?;
        Ok(out)
    }

    /// Runs a function one level deeper.
    fn nested<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.context.budget.spend(1)?;
        if self.depth >= MAX_DEPTH {
            return fail(format!("calls and expressions are nested more than {MAX_DEPTH} deep"));
        }
        self.depth += 1;
        let result = run(self);
        self.depth -= 1;
        result
    }

    /// Runs a function in a new scope within another.
    fn scoped<T>(&mut self, parent: usize, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.context.budget.spend(4)?;
        let before = self.scopes.innermost();
        self.scopes.enter(parent);
        let result = run(self);
        self.scopes.leave(before);
        result
    }

    fn write(&self, out: &mut String, text: &str) -> Result<()> {
        self.context.budget.bytes(text.len())?;
        out.push_str(text);
        Ok(())
    }

    fn run(&mut self, body: &Body, out: &mut String) -> Result<Flow> {
        self.nested(|machine| {
            for statement in body {
                let flow = machine.statement(statement, out);
                match flow.map_err(|error| error.at(statement.line))? {
                    Flow::Next => {}
                    flow => return Ok(flow),
                }
            }
            Ok(Flow::Next)
        })
    }

    /// Renders a body in a new scope.
    fn capture(&mut self, body: &Body) -> Result<String> {
        let mut out = String::new();
        self.scoped(self.scopes.innermost(), |machine| machine.run(body, &mut out))?;
        Ok(out)
    }

    fn statement(&mut self, statement: &Statement, out: &mut String) -> Result<Flow> {
        self.context.budget.spend(1)?;
        match &statement.kind {
            StatementKind::Text(text) => self.write(out, text)?,
            StatementKind::Output(value) => {
                let value = self.evaluate(value)?;
                match value.as_str() {
                    Some(text) => self.write(out, text)?,
                    None => out.push_str(&value.to_text(&self.context)?),
                }
            }
            StatementKind::If { branches, otherwise } => {
                for (condition, body) in branches {
                    if self.evaluate(condition)?.is_true() {
                        return self.run(body, out);
                    }
                }
                return self.run(otherwise, out);
            }
            StatementKind::For(definition) => {
                let values = self.evaluate(&definition.iterable)?.iterate(&self.context.budget)?;
                self.repeat(definition, self.scopes.innermost(), values, 0, out)?;
            }
            StatementKind::Set { target, value } => {
                let value = self.evaluate(value)?;
                self.assign(target, value)?;
            }
            StatementKind::SetBlock { target, filters, body } => {
                let text = Value::str(self.capture(body)?);
                let value = self.filtered(text, filters)?;
                self.assign(target, value)?;
            }
            StatementKind::With { bindings, body } => {
                let mut values = Vec::with_capacity(bindings.len());
                for (_, value) in bindings {
                    values.push(self.evaluate(value)?);
                }
                return self.scoped(self.scopes.innermost(), |machine| {
                    for ((target, _), value) in bindings.iter().zip(values) {
                        machine.assign(target, value)?;
                    }
                    machine.run(body, out)
                });
            }
            StatementKind::Filter { filters, body } => {
                let text = Value::str(self.capture(body)?);
                let text = self.filtered(text, filters)?.to_text(&self.context)?;
                self.write(out, &text)?;
            }
            StatementKind::Macro(definition) => {
                let function = self.close_over(definition);
                self.assign(&Target::Name(Rc::clone(&definition.name)), function)?;
            }
            StatementKind::Call { call, caller } => {
                let caller = self.close_over(caller);
                let text = self.evaluate_call(call, caller)?.to_text(&self.context)?;
                self.write(out, &text)?;
            }
            StatementKind::Break => return Ok(Flow::Break),
            StatementKind::Continue => return Ok(Flow::Continue),
            StatementKind::Unsupported(tag) => {
                return fail(format!("{{% {tag} %}} is not supported: there is no other template"));
            }
        }
        Ok(Flow::Next)
    }

    fn filtered(&mut self, mut value: Value, filters: &[PostfixStep]) -> Result<Value> {
        for filter in filters {
            value = self.step(value, filter)?;
        }
        Ok(value)
    }

    /// A macro as a value. It captures the scope in which it is defined.
    fn close_over(&mut self, definition: &Rc<Macro>) -> Value {
        self.scopes.keep();
        let (definition, scope) = (Rc::clone(definition), self.scopes.innermost());
        Value::Function(Rc::new(Function::Macro { definition, scope }))
    }

    /// Runs the body of a loop for each of some values.
    fn repeat(
        &mut self,
        definition: &Rc<For>,
        scope: usize,
        mut values: Vec<Value>,
        depth: usize,
        out: &mut String,
    ) -> Result<()> {
        if let Some(condition) = &definition.condition {
            let mut kept = Vec::new();
            for value in values {
                let fits = self.scoped(scope, |machine| {
                    machine.assign(&definition.target, value.clone())?;
                    Ok(machine.evaluate(condition)?.is_true())
                })?;
                if fits {
                    kept.push(value);
                }
            }
            values = kept;
        }
        let state = Rc::new(Loop {
            definition: Rc::clone(definition),
            scope,
            items: Items::new(values, false)?,
            index: Cell::new(0),
            depth,
            id: self.loops,
        });
        self.loops += 1;
        // As in Jinja2, an iteration ended by `break` or `continue` does not count.
        let mut completed = false;
        for (index, item) in state.items.values.iter().enumerate() {
            state.index.set(index);
            let flow = self.scoped(scope, |machine| {
                machine.scopes.set("loop", Value::Loop(Rc::clone(&state)));
                machine.assign(&definition.target, item.clone())?;
                machine.run(&definition.body, out)
            })?;
            completed |= flow == Flow::Next;
            if flow == Flow::Break {
                break;
            }
        }
        if !completed {
            self.scoped(scope, |machine| machine.run(&definition.otherwise, out))?;
        }
        Ok(())
    }

    /// Calls `loop`, which runs its body for other values.
    fn recurse(&mut self, state: &Loop, values: &Value) -> Result<Value> {
        if !state.definition.recursive {
            return fail("only a loop that is marked recursive can be called");
        }
        let values = values.iterate(&self.context.budget)?;
        let mut out = String::new();
        self.nested(|machine| {
            machine.repeat(&state.definition, state.scope, values, state.depth + 1, &mut out)
        })?;
        Ok(Value::str(out))
    }

    fn assign(&mut self, target: &Target, value: Value) -> Result<()> {
        match target {
            Target::Name(name) => {
                self.scopes.set(name, value);
                Ok(())
            }
            Target::Attribute(name, attribute) => match self.lookup(name)? {
                Value::Namespace(id) => self.context.set_attribute(id, attribute, value),
                _ => fail(format!("cannot set {name}.{attribute}: {name} is no namespace")),
            },
            Target::Tuple(targets) => {
                let values = value.iterate(&self.context.budget)?;
                if values.len() != targets.len() {
                    let (found, expected) = (values.len(), targets.len());
                    return fail(format!("{found} values cannot be unpacked to {expected} names"));
                }
                targets
                    .iter()
                    .zip(values)
                    .try_for_each(|(target, value)| self.assign(target, value))
            }
        }
    }
}
