//! The values of a template, which behave like Python's.

pub(super) mod context;
pub(super) mod convert;
mod dict;
pub(super) mod field;
mod index;
pub(super) mod operators;
pub(super) mod percent;
pub(super) mod sort;
pub(super) mod text;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

pub(super) use dict::{Dict, Key};

use super::ast::{For, Macro};
use super::budget::Budget;
use super::error::{Result, TemplateError, fail};

/// Maximum nesting of lists, dicts and other containers, so that visiting them needs little stack.
const MAX_DEPTH: u16 = 200;

#[derive(Clone)]
pub(super) enum Value {
    /// An undefined value, with the reason. Most uses of it are errors with this message.
    Undefined(Rc<str>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Rc<str>),
    /// A string that is safe HTML. Strings added to it are escaped.
    Markup(Rc<str>),
    List(Rc<Items>),
    Tuple(Rc<Items>),
    Dict(Rc<Dict>),
    Range(Range),
    View(DictView, Rc<Dict>),
    /// The result of filters such as `map`: it can be read once and has no length.
    Iterator(Rc<Stream>),
    /// The number of a namespace of the machine. Namespaces are the only mutable values, and so the
    /// only ones that can contain themselves.
    Namespace(usize),
    Loop(Rc<Loop>),
    Function(Rc<Function>),
}

/// The items of a list or a tuple.
pub(super) struct Items {
    pub(super) values: Vec<Value>,
    depth: u16,
    /// Whether this is a group of `groupby`, whose items also have names.
    pub(super) group: bool,
}

/// The remaining values of an iterator.
pub(super) struct Stream {
    values: RefCell<VecDeque<Value>>,
    depth: u16,
}

impl Stream {
    pub(super) fn next(&self) -> Option<Value> {
        self.values.borrow_mut().pop_front()
    }
}

/// `range(start, stop, step)`, stored as its first item, step and length.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Range {
    pub(super) start: i128,
    pub(super) step: i128,
    pub(super) length: usize,
}

impl Range {
    pub(super) fn get(self, index: usize) -> Value {
        Value::Int(self.start + self.step * index as i128)
    }
}

/// The results of `dict.items`, `dict.keys` and `dict.values`.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum DictView {
    Items,
    Keys,
    Values,
}

/// A loop, running or finished.
pub(super) struct Loop {
    pub(super) definition: Rc<For>,
    /// The scope around the loop.
    pub(super) scope: usize,
    pub(super) items: Rc<Items>,
    pub(super) index: Cell<usize>,
    /// Number of recursive calls of `loop` around it.
    pub(super) depth: usize,
    /// Its number among the loops of the rendering.
    pub(super) id: usize,
}

/// A callable: a global function and a method by their names, a macro by its definition.
pub(super) enum Function {
    Global(&'static str),
    Method { receiver: Value, name: Rc<str> },
    Macro { definition: Rc<Macro>, scope: usize },
}

impl Function {
    fn type_name(&self) -> &'static str {
        match self {
            Function::Global(_) => "function",
            Function::Method { .. } => "builtin_function_or_method",
            Function::Macro { .. } => "Macro",
        }
    }
}

impl Value {
    pub(super) fn str(text: impl Into<Rc<str>>) -> Self {
        Value::Str(text.into())
    }

    pub(super) fn undefined(name: &str) -> Self {
        Value::Undefined(format!("'{name}' is undefined").into())
    }

    pub(super) fn list(values: Vec<Value>) -> Result<Self> {
        Ok(Value::List(Items::new(values, false)?))
    }

    pub(super) fn tuple(values: Vec<Value>) -> Result<Self> {
        Ok(Value::Tuple(Items::new(values, false)?))
    }

    /// A group of `groupby`.
    pub(super) fn group(key: Value, values: Vec<Value>) -> Result<Self> {
        Ok(Value::Tuple(Items::new(vec![key, Value::list(values)?], true)?))
    }

    pub(super) fn iterator(values: Vec<Value>) -> Result<Self> {
        let depth = nested(values.iter())?;
        Ok(Value::Iterator(Rc::new(Stream { values: RefCell::new(values.into()), depth })))
    }

    /// The text of a string or HTML string.
    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) | Value::Markup(text) => Some(text),
            _ => None,
        }
    }

    /// The value of an integer or a boolean.
    pub(super) fn as_int(&self) -> Option<i128> {
        match *self {
            Value::Int(number) => Some(number),
            Value::Bool(bit) => Some(bit.into()),
            _ => None,
        }
    }

    pub(super) fn as_float(&self) -> Option<f64> {
        match *self {
            Value::Float(number) => Some(number),
            _ => self.as_int().map(|number| number as f64),
        }
    }

    pub(super) fn is_undefined(&self) -> bool {
        matches!(self, Value::Undefined(_))
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Value::Undefined(_) | Value::None => false,
            Value::Bool(bit) => *bit,
            Value::Int(number) => *number != 0,
            Value::Float(number) => *number != 0.0,
            Value::Str(text) | Value::Markup(text) => !text.is_empty(),
            Value::List(items) | Value::Tuple(items) => !items.values.is_empty(),
            Value::Dict(dict) | Value::View(_, dict) => !dict.is_empty(),
            Value::Range(range) => range.length > 0,
            Value::Iterator(_) | Value::Namespace(_) | Value::Loop(_) | Value::Function(_) => true,
        }
    }

    /// The name of its type in Python.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Undefined(_) => "Undefined",
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Str(_) => "str",
            Value::Markup(_) => "Markup",
            Value::List(_) => "list",
            Value::Tuple(_) => "tuple",
            Value::Dict(_) => "dict",
            Value::Range(_) => "range",
            Value::View(DictView::Items, _) => "dict_items",
            Value::View(DictView::Keys, _) => "dict_keys",
            Value::View(DictView::Values, _) => "dict_values",
            Value::Iterator(_) => "generator",
            Value::Namespace(_) => "Namespace",
            Value::Loop(_) => "LoopContext",
            Value::Function(function) => function.type_name(),
        }
    }

    /// Python's `len`, or an error for a value without one.
    pub(super) fn length(&self, budget: &Budget) -> Result<usize> {
        Ok(match self {
            Value::Undefined(_) => 0,
            Value::Str(text) | Value::Markup(text) => {
                budget.bytes(text.len())?;
                text.chars().count()
            }
            Value::List(items) | Value::Tuple(items) => items.values.len(),
            Value::Dict(dict) | Value::View(_, dict) => dict.len(),
            Value::Range(range) => range.length,
            Value::Loop(state) => state.items.values.len(),
            _ => return fail(format!("object of type '{}' has no len()", self.type_name())),
        })
    }

    /// Whether it can be iterated over.
    pub(super) fn is_iterable(&self) -> bool {
        use Value::{Dict, Iterator, List, Markup, Range, Str, Tuple, Undefined, View};
        matches!(
            self,
            Undefined(_)
                | Str(_)
                | Markup(_)
                | List(_)
                | Tuple(_)
                | Dict(_)
                | Range(_)
                | View(..)
                | Iterator(_)
        )
    }

    /// All items of an iterable. Reading an iterator consumes it.
    pub(super) fn iterate(&self, budget: &Budget) -> Result<Vec<Value>> {
        if let Value::Iterator(stream) = self {
            let values = stream.values.take();
            budget.spend(values.len())?;
            return Ok(values.into());
        }
        if !self.is_iterable() {
            return fail(format!("'{}' object is not iterable", self.type_name()));
        }
        // Each character becomes a string.
        let cost = if self.as_str().is_some() { 3 } else { 1 };
        budget.spend(self.length(budget)?.saturating_mul(cost))?;
        Ok(match self {
            Value::Str(text) | Value::Markup(text) => {
                text.chars().map(|c| Value::str(c.to_string())).collect()
            }
            Value::List(items) | Value::Tuple(items) => items.values.clone(),
            Value::Range(range) => (0..range.length).map(|index| range.get(index)).collect(),
            Value::Dict(dict) | Value::View(DictView::Keys, dict) => dict.keys().collect(),
            Value::View(DictView::Values, dict) => dict.values().cloned().collect(),
            Value::View(DictView::Items, dict) => dict
                .iter()
                .map(|(key, value)| Value::tuple(vec![key.value().clone(), value.clone()]))
                .collect::<Result<_>>()?,
            _ => Vec::new(),
        })
    }

    fn depth(&self) -> u16 {
        match self {
            Value::List(items) | Value::Tuple(items) => items.depth,
            Value::Dict(dict) | Value::View(_, dict) => dict.depth(),
            Value::Iterator(stream) => stream.depth,
            Value::Loop(state) => state.items.depth,
            Value::Function(function) => match &**function {
                Function::Method { receiver, .. } => 1 + receiver.depth(),
                _ => 0,
            },
            _ => 0,
        }
    }

    /// Returns the error of an undefined value.
    pub(super) fn defined(&self) -> Result<&Self> {
        match self {
            Value::Undefined(reason) => Err(TemplateError::new(&**reason)),
            _ => Ok(self),
        }
    }
}

impl Items {
    pub(super) fn new(values: Vec<Value>, group: bool) -> Result<Rc<Self>> {
        let depth = nested(values.iter())?;
        Ok(Rc::new(Self { values, depth, group }))
    }
}

/// The depth of a container with these values.
fn nested<'a>(values: impl Iterator<Item = &'a Value>) -> Result<u16> {
    match 1 + values.map(Value::depth).max().unwrap_or(0) {
        depth if depth > MAX_DEPTH => fail(format!("lists or dicts are nested {depth} deep")),
        depth => Ok(depth),
    }
}
