//! Scopes of variables.

use std::collections::HashMap;
use std::rc::Rc;

use super::super::error::Result;
use super::super::value::Value;
use super::{Machine, global};

/// The variables of a block, such as one iteration of a loop.
pub(super) struct Scope {
    /// The enclosing scope; `None` for the variables that a template is given.
    parent: Option<usize>,
    names: HashMap<Rc<str>, Value>,
    /// Whether a macro captures the scope, so that it outlives its block.
    kept: bool,
}

impl Scope {
    pub(super) fn outermost(names: HashMap<Rc<str>, Value>) -> Self {
        Self { parent: None, names, kept: true }
    }

    pub(super) fn within(parent: usize) -> Self {
        Self { parent: Some(parent), names: HashMap::new(), kept: false }
    }
}

impl Machine {
    /// Runs a function in a new scope within another.
    pub(super) fn scoped<T>(
        &mut self,
        parent: usize,
        run: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        self.budget.spend(4)?;
        let (id, before) = (self.scopes.len(), self.scope);
        self.scopes.push(Scope::within(parent));
        self.scope = id;
        let result = run(self);
        self.scope = before;
        if self.scopes.len() == id + 1 && !self.scopes[id].kept {
            self.scopes.pop();
        }
        result
    }

    /// Keeps the current scope and all enclosing ones for a macro.
    pub(super) fn keep_scopes(&mut self) {
        let mut scope = Some(self.scope);
        while let Some(id) = scope.filter(|&id| !self.scopes[id].kept) {
            self.scopes[id].kept = true;
            scope = self.scopes[id].parent;
        }
    }

    /// Sets a variable of the innermost scope.
    pub(super) fn set(&mut self, name: &str, value: Value) {
        self.scopes[self.scope].names.insert(name.into(), value);
    }

    /// The value of a variable.
    pub(super) fn lookup(&self, name: &str) -> Result<Value> {
        let mut scope = Some(self.scope);
        while let Some(id) = scope {
            let Scope { names, parent, .. } = &self.scopes[id];
            if let Some(value) = names.get(name) {
                return Ok(value.clone());
            }
            self.budget.spend(usize::from(!names.is_empty()))?;
            scope = *parent;
        }
        Ok(global(name).unwrap_or_else(|| Value::undefined(name)))
    }
}
