//! Templates and expressions over a record.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, UndefinedBehavior};

use crate::error::{Error, Result};
use crate::grade;
use crate::record::Record;
use crate::task::Task;

/// Units of budget for a template or an expression over one record: a unit for an instruction or 64
/// bytes. Chat templates have as many, and more for long conversations.
const FUEL: u64 = 2_000_000;

/// The environment of the templates and expressions of tasks. A missing field is an error.
pub(crate) fn environment() -> std::result::Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build()?);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // Errors then name the undefined variable, in release builds too.
    environment.set_debug(true);
    // A definition can come from anyone, so neither its time nor its memory is unlimited.
    environment.set_fuel(Some(FUEL));
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("position", position);
    environment.add_filter("lettered", lettered);
    environment.add_filter("hellaswag_context", hellaswag_context);
    environment.add_filter("triviaqa_question", grade::triviaqa_question);
    Ok(environment)
}

/// The variables of a template: the record's fields and a few more.
fn context(record: &Record, group: Option<&str>, choice: Option<&str>) -> Value {
    let this = Value::from_pairs(record.fields.clone());
    let more = [
        ("this".to_owned(), this),
        ("index".to_owned(), record.index.into()),
        ("group".to_owned(), group.into()),
        ("choice".to_owned(), choice.into()),
    ];
    Value::from_pairs(record.fields.clone().into_iter().chain(more))
}

/// Templates rendered over records.
pub(crate) struct Templates<'a> {
    environment: &'a Environment<'a>,
    task: &'a Task,
}

impl<'a> Templates<'a> {
    /// Creates the templates of a task in an environment.
    pub(crate) fn new(environment: &'a Environment<'a>, task: &'a Task) -> Self {
        Self { environment, task }
    }

    /// Renders a template over a record. `key` is its name in errors.
    pub(crate) fn render(
        &self,
        (key, template): (&str, &str),
        record: &Record,
        group: Option<&str>,
        choice: Option<&str>,
    ) -> Result<String> {
        let context = context(record, group, choice);
        let rendered = self.environment.render_str(template, context);
        rendered.map_err(|error| fault(self.task, key, record, &error))
    }
}

/// An expression of a task's definition.
pub(crate) struct Expression<'a> {
    task: &'a Task,
    key: &'static str,
    compiled: minijinja::Expression<'a, 'a>,
}

impl<'a> Expression<'a> {
    /// Compiles an expression. `key` is its name in errors.
    pub(crate) fn new(
        environment: &'a Environment<'a>,
        task: &'a Task,
        key: &'static str,
        source: &'a str,
    ) -> Result<Self> {
        let compiled = environment.compile_expression(source).map_err(|error| {
            let message = format!("{key}: {}", reason(&error));
            Error::Definition { task: task.name.clone(), message }
        })?;
        Ok(Self { task, key, compiled })
    }

    /// The value of the expression over a record.
    pub(crate) fn value(&self, record: &Record, group: Option<&str>) -> Result<Value> {
        let value = self.compiled.eval(context(record, group, None));
        // An expression that is only an unknown name is not an error by itself.
        let value = value.and_then(|value| match value.len() {
            _ if value.is_undefined() => Err(minijinja::Error::from(ErrorKind::UndefinedError)),
            // The items of a repeated list are made when it is read.
            Some(items) if items as u64 > FUEL => Err(ErrorKind::OutOfFuel.into()),
            _ => Ok(value),
        });
        value.map_err(|error| fault(self.task, self.key, record, &error))
    }
}

/// The error of a template or an expression over a record.
fn fault(task: &Task, key: &str, record: &Record, error: &minijinja::Error) -> Error {
    if error.kind() == ErrorKind::OutOfFuel {
        let (data, line) = (record.path.display(), record.line);
        let message = format!("{key}: it takes too much time or memory over {data} line {line}");
        let path = task.path.as_ref();
        let task = path.map_or_else(|| task.name.clone(), |path| path.display().to_string());
        return Error::Definition { task, message };
    }
    let mut message = format!("{key}: {}", reason(error));
    if error.kind() == ErrorKind::UndefinedError {
        let fields: Vec<&str> = record.fields.keys().map(String::as_str).collect();
        message += &format!("; the record has {}", fields.join(", "));
    }
    record.error(message)
}

/// Converts an error of a task's own template, for `map_err`.
pub(crate) fn definition(task: &Task) -> impl Fn(minijinja::Error) -> Error + use<> {
    let task = task.name.clone();
    move |error| Error::Definition { task: task.clone(), message: error.to_string() }
}

/// The message of a template's error.
fn reason(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
}

/// The index of a value in a list.
fn position(list: Value, wanted: Value) -> std::result::Result<usize, minijinja::Error> {
    list.try_iter()?.position(|value| value == wanted).ok_or_else(|| {
        minijinja::Error::new(ErrorKind::InvalidOperation, format!("{wanted:?} is none of {list}"))
    })
}

/// The choices in `(A) one (B) two`.
fn lettered(text: &str) -> Vec<String> {
    let mut rest = text;
    let mut choices = Vec::new();
    for letter in 'A'..='Z' {
        let mark = format!("({letter}) ");
        let next = if letter == 'A' { rest.find(&mark) } else { rest.find(&format!(" {mark}")) };
        let Some(at) = next else { break };
        if letter != 'A' {
            choices.push(rest[..at].to_owned());
        }
        rest = &rest[at + mark.len() + usize::from(letter != 'A')..];
    }
    choices.push(rest.to_owned());
    choices
}

/// The context of a HellaSwag item. A context from ActivityNet ends with a fragment that the
/// harness capitalises (first letter upper, the rest lower case). The data do not mark where the
/// fragment begins: it is after the last end of a sentence.
fn hellaswag_context(text: &str, activity_net: bool) -> String {
    if !activity_net {
        return text.to_owned();
    }
    let from = text.find(": ").map_or(0, |at| at + 2);
    let ends = text.char_indices().filter(|&(_, c)| matches!(c, '.' | '!' | '?'));
    let after = |(at, _): (usize, char)| {
        let rest = text[at + 1..].trim_start_matches(['"', '\'', ')']);
        let start = rest.trim_start();
        (start.len() < rest.len()).then(|| text.len() - start.len())
    };
    let start = ends.rev().find_map(after).unwrap_or(from).max(from);
    let (before, fragment) = text.split_at(start);
    let mut chars = fragment.chars();
    let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{before}{first}{}", chars.as_str().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_of_activity_net_are_capitalised() {
        for (text, activity_net) in [
            (
                "Home: How to paint a wall. Buy paint. then",
                "Home: How to paint a wall. Buy paint. Then",
            ),
            ("Tea: A man says \"Go!\" the POT", "Tea: A man says \"Go!\" The pot"),
            ("Tea: he", "Tea: He"),
        ] {
            assert_eq!(hellaswag_context(text, true), activity_net);
            assert_eq!(hellaswag_context(text, false), text);
        }
    }
}
