//! What values need of the rendering that they belong to.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::{Dict, Loop, Value};
use crate::budget::Budget;
use crate::error::{Result, TemplateError};

/// The budget of a rendering, and what could make values contain themselves.
pub(crate) struct Context {
    pub(crate) budget: Budget,
    namespaces: RefCell<Vec<Rc<Dict>>>,
    /// The arguments of the last call of each loop's `changed`.
    changed: RefCell<HashMap<usize, Value>>,
}

impl Context {
    pub(crate) fn new(budget: Budget) -> Self {
        Self { budget, namespaces: RefCell::default(), changed: RefCell::default() }
    }

    /// Creates a namespace.
    pub(crate) fn new_namespace(&self, pairs: Dict) -> Result<Value> {
        for (name, _) in pairs.iter() {
            check_attribute(name.value().as_str().unwrap_or_default())?;
        }
        self.budget.spend(2 + 4 * pairs.len())?;
        let mut namespaces = self.namespaces.borrow_mut();
        namespaces.push(Rc::new(pairs));
        Ok(Value::Namespace(namespaces.len() - 1))
    }

    /// The contents of a namespace.
    pub(crate) fn namespace(&self, id: usize) -> Rc<Dict> {
        self.namespaces.borrow().get(id).map_or_else(Rc::default, Rc::clone)
    }

    /// Sets an attribute of a namespace.
    pub(crate) fn set_attribute(&self, id: usize, name: &str, value: Value) -> Result<()> {
        check_attribute(name)?;
        self.budget.spend(1)?;
        if let Some(namespace) = self.namespaces.borrow_mut().get_mut(id) {
            if Rc::strong_count(namespace) > 1 {
                self.budget.spend(4 * namespace.len())?;
            }
            Rc::make_mut(namespace).set(name, value);
        }
        Ok(())
    }

    /// Stores the arguments of a loop's `changed`, and returns those of the call before.
    pub(crate) fn changed(&self, state: &Loop, now: Value) -> Option<Value> {
        self.changed.borrow_mut().insert(state.id, now)
    }
}

/// Returns an error for a name that begins with an underscore, which is reserved for Python.
fn check_attribute(name: &str) -> Result<()> {
    match name.starts_with('_') {
        true => Err(TemplateError::new(format!("a namespace cannot have an attribute {name:?}"))),
        false => Ok(()),
    }
}
