//! A Jinja template engine with the values, filters and errors of Python. It matches the engine
//! with which transformers renders chat templates (`ImmutableSandboxedEnvironment(trim_blocks=True,
//! lstrip_blocks=True)` with its own `tojson`, `strftime_now`, `raise_exception` and
//! `{% generation %}`).
//!
//! ```
//! use serde_json::{Map, json};
//! use trilobite_jinja::{Clock, render};
//!
//! let variables = Map::from_iter([("names".to_owned(), json!(["Ada", "Grace"]))]);
//! let text = render("{{ names | join(' and ') }}: {{ names }}", &variables, Clock::System)?;
//! assert_eq!(text, "Ada and Grace: ['Ada', 'Grace']");
//! # Ok::<(), trilobite_jinja::TemplateError>(())
//! ```
//!
//! A template comes with a model file and is untrusted code. A budget pays for every step, item
//! and byte. Nesting is limited in the source, in values and at run time, and the template runs on
//! a thread with a stack of known size. Only namespaces can form cycles, so values refer to them by
//! number.
//!
//! From the bottom up: the `budget`, the `value`s with their operators, the `machine` as the
//! methods, tests and filters see it, the methods, tests and filters themselves, the `parser`, and
//! the `interpreter`, which is the machine.
//!
//! These are not supported and raise an error: blocks and inheritance, `{% autoescape %}`, the
//! filters in `filters::unknown`, `\N{...}` in strings, and integers beyond 128 bits.

#![forbid(unsafe_code)]

mod arguments;
mod ast;
mod budget;
mod clock;
mod constructors;
mod error;
mod escape;
#[cfg(test)]
mod expression_tests;
mod filters;
mod format;
mod interpreter;
mod lexer;
mod machine;
mod methods;
mod parser;
mod predicates;
#[cfg(test)]
mod tests;
mod unicode;
mod value;

use std::collections::HashMap;
use std::rc::Rc;
use std::thread;

use serde_json::{Map, Value as Json};

use budget::Budget;
pub use clock::Clock;
pub use error::TemplateError;
use error::fail;
use interpreter::Interpreter;
use value::Value;

/// Maximum size of a template's source in bytes. Published ones have up to 20 kB.
const MAX_SOURCE: usize = 1 << 18;
/// Stack size of the thread that runs a template, in bytes.
const STACK: usize = 64 << 20;
/// Units of budget for any template.
const BASE_STEPS: u64 = 2_000_000;
/// Additional units for every byte of the conversation.
const STEPS_PER_BYTE: u64 = 64;
/// Maximum length of the output in bytes, for any template.
const BASE_OUTPUT: usize = 1 << 20;
/// Additional bytes of output for every byte of the conversation.
const OUTPUT_PER_BYTE: usize = 16;

/// Renders a template with these variables.
///
/// # Errors
/// The template is invalid, takes too much time or memory, or raises an exception.
pub fn render(
    source: &str,
    variables: &Map<String, Json>,
    clock: Clock,
) -> Result<String, TemplateError> {
    if source.len() > MAX_SOURCE {
        let length = source.len();
        return fail(format!("its source has {length} bytes, expected at most {MAX_SOURCE}"));
    }
    let run = || {
        let template = parser::parse(source)?;
        let bytes = variables.values().map(weight).sum::<usize>();
        let budget = Budget::new(BASE_STEPS + STEPS_PER_BYTE * bytes as u64);
        let mut values = HashMap::new();
        for (name, value) in variables {
            values.insert(Rc::from(&**name), Value::from_json(value, &budget)?);
        }
        let text = Interpreter::new(values, budget, clock).render(&template)?;
        let most = BASE_OUTPUT + OUTPUT_PER_BYTE * bytes;
        if text.len() > most {
            let length = text.len();
            return fail(format!("it makes a text of {length} bytes, expected at most {most}"));
        }
        Ok(text)
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, run);
        let thread = thread
            .map_err(|error| TemplateError::new(format!("no thread to run it on: {error}")))?;
        thread.join().unwrap_or_else(|_| fail("it makes the template engine panic"))
    })
}

/// The approximate size of a value in bytes of JSON.
fn weight(value: &Json) -> usize {
    match value {
        Json::String(text) => 2 + text.len(),
        Json::Array(items) => 2 + items.iter().map(weight).sum::<usize>(),
        Json::Object(pairs) => {
            2 + pairs.iter().map(|(k, v)| 4 + k.len() + weight(v)).sum::<usize>()
        }
        _ => 5,
    }
}
