//! Scopes of variables.

use std::collections::HashMap;
use std::rc::Rc;

use super::super::budget::Budget;
use super::super::error::Result;
use super::super::value::Value;

/// All scopes of a rendering.
pub(super) struct Scopes {
    all: Vec<Scope>,
    innermost: usize,
}

/// The variables of a block, such as one iteration of a loop.
struct Scope {
    /// The enclosing scope; `None` for the variables that a template is given.
    parent: Option<usize>,
    names: HashMap<Rc<str>, Value>,
    /// Whether a macro captures the scope, so that it outlives its block.
    kept: bool,
}

impl Scopes {
    /// The scope of the variables that a template is given, and one within it for its own.
    pub(super) fn new(variables: HashMap<Rc<str>, Value>) -> Self {
        let outermost = Scope { parent: None, names: variables, kept: true };
        let mut scopes = Self { all: vec![outermost], innermost: 0 };
        scopes.enter(0);
        scopes
    }

    /// The number of the innermost scope.
    pub(super) fn innermost(&self) -> usize {
        self.innermost
    }

    /// Enters a new scope within another.
    pub(super) fn enter(&mut self, parent: usize) {
        self.innermost = self.all.len();
        self.all.push(Scope { parent: Some(parent), names: HashMap::new(), kept: false });
    }

    /// Leaves the innermost scope for the one before it.
    pub(super) fn leave(&mut self, before: usize) {
        if self.all.len() == self.innermost + 1 && !self.all[self.innermost].kept {
            self.all.pop();
        }
        self.innermost = before;
    }

    /// Keeps the innermost scope and all enclosing ones for a macro.
    pub(super) fn keep(&mut self) {
        let mut scope = Some(self.innermost);
        while let Some(id) = scope.filter(|&id| !self.all[id].kept) {
            self.all[id].kept = true;
            scope = self.all[id].parent;
        }
    }

    /// Sets a variable of the innermost scope.
    pub(super) fn set(&mut self, name: &str, value: Value) {
        self.all[self.innermost].names.insert(name.into(), value);
    }

    /// The value of a variable.
    pub(super) fn get(&self, name: &str, budget: &Budget) -> Result<Option<Value>> {
        let mut scope = Some(self.innermost);
        while let Some(id) = scope {
            let Scope { names, parent, .. } = &self.all[id];
            if let Some(value) = names.get(name) {
                return Ok(Some(value.clone()));
            }
            budget.spend(usize::from(!names.is_empty()))?;
            scope = *parent;
        }
        Ok(None)
    }
}
