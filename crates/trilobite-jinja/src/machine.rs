//! What methods, tests and filters call of the interpreter.

use super::arguments::Args;
use super::budget::Budget;
use super::error::Result;
use super::value::Value;
use super::value::context::Context;

/// A method of a value, the receiver.
pub(super) type Method = fn(&mut dyn Machine, &Value, Args) -> Result<Value>;

/// A rendering in progress.
pub(super) trait Machine {
    fn context(&self) -> &Context;

    fn budget(&self) -> &Budget {
        &self.context().budget
    }

    /// Calls a value.
    fn call(&mut self, callee: &Value, args: Args) -> Result<Value>;

    /// `value.name`: an attribute, or else an item.
    fn attribute(&self, value: &Value, name: &str) -> Result<Value>;

    /// `value[key]`: an item, or else an attribute.
    fn subscript(&self, value: &Value, key: &Value) -> Result<Value>;

    /// `value|name(args)`
    fn filter(&mut self, name: &str, value: Value, args: Args) -> Result<Value>;

    /// `value is name(args)`
    fn test(&mut self, name: &str, value: &Value, args: Args) -> Result<bool>;
}
