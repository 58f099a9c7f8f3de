//! Jinja templates with the values, the filters and the errors of Python: what transformers renders
//! chat templates with (`ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)`, its
//! own `tojson`, `strftime_now`, `raise_exception` and `{% generation %}`).
//!
//! A template comes with a model's file and is a program that nobody has looked at. Every step, item
//! and byte is paid for from a [`Budget`]. Nesting is bounded in the source, in values and while the
//! template runs, which it does on a thread with a stack of a known size. Only namespaces can form a
//! cycle, so values hold their numbers.
//!
//! Not supported, and errors that say so: blocks and inheritance, `{% autoescape %}`, the filters
//! that [`filters::unknown`] names, `\N{...}` in strings, integers beyond 128 bits.

mod ast;
mod budget;
mod clock;
mod error;
mod filters;
mod format;
mod lexer;
mod machine;
mod methods;
mod parser;
mod percent;
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
pub(crate) use clock::Clock;
pub(crate) use error::Error;
use error::{Result, fail};
use machine::Machine;
use value::Value;

/// Largest source of a template. Published ones have up to 20 kB.
const MAX_SOURCE: usize = 1 << 18;
/// Stack of the thread that a template runs on.
const STACK: usize = 64 << 20;
/// Steps that any template has.
const BASE_STEPS: u64 = 2_000_000;
/// Steps for every byte of the conversation.
const STEPS_PER_BYTE: u64 = 64;
/// Longest text that any template may make.
const BASE_OUTPUT: usize = 1 << 20;
/// Bytes of that text for every byte of the conversation.
const OUTPUT_PER_BYTE: usize = 16;

/// The text that a template makes of these variables.
pub(crate) fn render(source: &str, variables: &Map<String, Json>, clock: Clock) -> Result<String> {
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
        let text = Machine::new(values, budget, clock).render(&template)?;
        let most = BASE_OUTPUT + OUTPUT_PER_BYTE * bytes;
        if text.len() > most {
            let length = text.len();
            return fail(format!("it makes a text of {length} bytes, expected at most {most}"));
        }
        Ok(text)
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, run);
        let thread =
            thread.map_err(|error| Error::new(format!("no thread to run it on: {error}")))?;
        thread.join().unwrap_or_else(|_| fail("it makes the template engine panic"))
    })
}

/// The size of a value, in bytes of JSON or thereabouts.
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

/// A text with the characters escaped that mean something in HTML.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&#34;",
            '\'' => out += "&#39;",
            _ => out.push(c),
        }
    }
    out
}
