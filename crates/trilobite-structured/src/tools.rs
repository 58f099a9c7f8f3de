//! Tools: the functions that an answer can call.

use std::fmt::Write;

use serde_json::{Map, Value, json};
use trilobite_runtime::Message;

use crate::call::CallFormat;
use crate::compiler::{Compiler, Form};
use crate::error::{Error, Result};
use crate::grammar::{CALL_WHITESPACE, Grammar, WHITESPACE, bounded};

/// The functions that an answer can call, in the format of OpenAI's API.
#[derive(Clone, Debug, PartialEq)]
pub struct Tools {
    list: Vec<Value>,
    functions: Vec<Function>,
}

#[derive(Clone, Debug, PartialEq)]
struct Function {
    name: String,
    /// JSON schema of the arguments, which allows objects only.
    parameters: Value,
}

/// Whether an answer must call functions.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolChoice {
    /// The model decides.
    Auto,
    /// The answer calls at least one function.
    Required,
    /// The answer calls this function.
    Named(String),
}

impl ToolChoice {
    fn allows(&self, function: &str) -> bool {
        match self {
            Self::Named(name) => name == function,
            Self::Auto | Self::Required => true,
        }
    }
}

impl Tools {
    /// Parses a list of tools, each `{"type": "function", "function": {"name": ...}}`.
    ///
    /// # Errors
    /// A tool is not a function, has no name or that of another, takes no object, or a field has a value
    /// of another type.
    pub fn read(list: Vec<Value>) -> Result<Self> {
        let mut functions: Vec<Function> = Vec::new();
        for (index, tool) in list.iter().enumerate() {
            let wrong = |field, fault: String| Error::Tool { index, field, fault };
            if tool["type"] != "function" {
                let fault = format!("it is {}, expected \"function\"", tool["type"]);
                return Err(wrong(".type", fault));
            }
            let name = match tool["function"]["name"].as_str() {
                Some(name) if !name.is_empty() => name.to_owned(),
                _ => return Err(wrong(".function.name", "the function has no name".to_owned())),
            };
            if functions.iter().any(|known| known.name == name) {
                let fault = format!("another function is named {name:?} too");
                return Err(wrong(".function.name", fault));
            }
            let parameters = match &tool["function"]["parameters"] {
                Value::Null => {
                    json!({"type": "object", "properties": {}, "additionalProperties": false})
                }
                Value::Object(schema) => of_objects(schema).map_err(|kind| {
                    let fault =
                        format!("the type for function {name:?} is {kind}, expected \"object\"");
                    wrong(".function.parameters", fault)
                })?,
                other => {
                    let fault =
                        format!("for function {name:?} it is {other}, expected a JSON schema");
                    return Err(wrong(".function.parameters", fault));
                }
            };
            let function = &tool["function"];
            let is_text = |value: &Value| value.is_null() || value.is_string();
            let is_choice = |value: &Value| value.is_null() || value.is_boolean();
            if !is_text(&function["description"]) {
                let found = &function["description"];
                let fault = format!("for function {name:?} it is {found}, expected a text");
                return Err(wrong(".function.description", fault));
            }
            if !is_choice(&function["strict"]) {
                let found = &function["strict"];
                let fault = format!("for function {name:?} it is {found}, expected true or false");
                return Err(wrong(".function.strict", fault));
            }
            functions.push(Function { name, parameters });
        }
        Ok(Self { list, functions })
    }

    /// The tools as given.
    pub fn list(&self) -> &[Value] {
        &self.list
    }

    /// Whether a function of this name exists.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.functions.iter().any(|function| function.name == name)
    }

    /// Returns the grammar of an answer: calls with valid arguments or, if no call is required, JSON of
    /// the schema `answer`. Returns `None` if any text is allowed.
    ///
    /// # Errors
    /// The required function does not exist, or a schema is not an object.
    pub fn grammar(
        &self,
        format: CallFormat,
        choice: &ToolChoice,
        parallel: bool,
        answer: Option<&Value>,
    ) -> Result<Option<Grammar>> {
        let mut starts = vec!["calls"];
        let mut rules = String::new();
        match (choice, answer) {
            (ToolChoice::Auto, None) => return Ok(None),
            (ToolChoice::Auto, Some(schema)) => {
                starts.push("answer");
                rules += &format!("answer: %json {}\n", bounded(schema, WHITESPACE)?);
            }
            (ToolChoice::Required | ToolChoice::Named(_), _) => {}
        }
        let callable = self.functions.iter().filter(|function| choice.allows(&function.name));
        let mut calls = Vec::new();
        for (index, Function { name, parameters }) in callable.enumerate() {
            let (before, after) = format.around(name);
            let (before, after) = (Value::from(before), Value::from(after));
            let parameters = bounded(parameters, CALL_WHITESPACE)?;
            // Lark and JSON quote strings alike.
            _ = writeln!(rules, "call_{index}: {before} arguments_{index} {after}");
            _ = writeln!(rules, "arguments_{index}: %json {parameters}");
            calls.push(format!("call_{index}"));
        }
        if calls.is_empty() {
            let ToolChoice::Named(name) = choice else { return Ok(None) };
            return Err(Error::NoFunction(name.clone()));
        }
        let more = match format.between().filter(|_| parallel) {
            Some(between) => format!(" ({} call)*", Value::from(between)),
            None => String::new(),
        };
        let (starts, calls) = (starts.join(" | "), calls.join(" | "));
        Ok(Some(Grammar::Calls(format!(
            "start: {starts}\ncalls: call{more}\ncall: {calls}\n{rules}"
        ))))
    }

    /// Compiles a grammar of [`grammar`](Self::grammar) with the same format and choice.
    ///
    /// # Errors
    /// The schema of a function, which the error names, or of the answer cannot be followed.
    pub fn compile(
        &self,
        compiler: &Compiler,
        grammar: &Grammar,
        format: CallFormat,
        choice: &ToolChoice,
    ) -> Result<Form> {
        let compiled = compiler.compile(grammar);
        if !matches!(compiled, Err(Error::Grammar { .. })) {
            return compiled;
        }
        for (index, Function { name, .. }) in self.functions.iter().enumerate() {
            let only = ToolChoice::Named(name.clone());
            if choice.allows(name)
                && let Some(alone) = self.grammar(format, &only, false, None)?
                && let Err(Error::Grammar { fault, .. }) = compiler.compile(&alone)
            {
                let fault = format!("the schema of function {name:?} cannot be followed: {fault}");
                return Err(Error::Tool { index, field: ".function.parameters", fault });
            }
        }
        compiled
    }

    /// Rewrites a conversation for a template that ignores tools, as [`calls_as_text`] does. The system
    /// message describes the tools.
    pub fn described(&self, messages: &[Message]) -> Vec<Message> {
        let functions: Vec<&Value> = self.list.iter().map(|tool| &tool["function"]).collect();
        let functions = Value::from(functions.into_iter().cloned().collect::<Vec<_>>());
        let description = format!(
            "You can call functions. To call one, answer with nothing but a JSON object: \
             {{\"name\": NAME, \"arguments\": ARGUMENTS}}. Its result comes in the next message. The \
             functions are: {functions}"
        );
        let mut described = Vec::new();
        let (system, rest) = match messages.split_first() {
            Some((first, rest)) if first.role() == "system" => (Some(first.text()), rest),
            _ => (None, messages),
        };
        let system = system.map(|text| format!("{text}\n\n")).unwrap_or_default() + &description;
        described.push(Message::new("system", system));
        described.extend(calls_as_text(rest));
        described
    }
}

/// Rewrites a conversation for a template that ignores tools. Calls become JSON in the assistant's
/// text, and results become user messages.
pub fn calls_as_text(messages: &[Message]) -> Vec<Message> {
    let mut written = Vec::new();
    let mut results: Vec<String> = Vec::new();
    for message in messages {
        if message.role() == "tool" {
            results.push(format!("The result of the call: {}", message.text()));
            continue;
        }
        flush(&mut results, &mut written);
        let calls = message.get("tool_calls").and_then(Value::as_array);
        let calls = calls.into_iter().flatten().map(|call| {
            let function = &call["function"];
            json!({"name": function["name"], "arguments": function["arguments"]}).to_string()
        });
        let texts = Some(message.text().to_owned()).into_iter().chain(calls);
        let texts: Vec<String> = texts.filter(|text| !text.is_empty()).collect();
        written.push(match message.get("tool_calls") {
            Some(_) => Message::new(message.role(), texts.join("\n")),
            None => message.clone(),
        });
    }
    flush(&mut results, &mut written);
    written
}

/// The schema of the objects that fit `schema`: calls have no other arguments.
///
/// # Errors
/// No object fits. Returns the type.
fn of_objects(schema: &Map<String, Value>) -> std::result::Result<Value, &Value> {
    let is_object = |kind: &Value| kind == "object";
    match schema.get("type") {
        Some(Value::Array(kinds)) if kinds.iter().any(is_object) => {}
        Some(kind) if !is_object(kind) => return Err(kind),
        _ => {}
    }
    let mut objects = schema.clone();
    objects.insert("type".to_owned(), "object".into());
    Ok(objects.into())
}

/// Appends results as one message, because templates expect alternating turns.
fn flush(results: &mut Vec<String>, messages: &mut Vec<Message>) {
    if !results.is_empty() {
        messages.push(Message::new("user", results.join("\n")));
        results.clear();
    }
}
