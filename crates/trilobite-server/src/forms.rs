//! Constraints of answers, and parsers for them.

use serde_json::{Value, json};
use trilobite_runtime::Sampler;
use trilobite_structured::{
    Answer, CallFormat, Compiler, Error, Form, Grammar, THINK, ToolChoice, Tools,
};

use crate::api::chat::ChatRequest;
use crate::api::error::{ApiError, ApiResult};
use crate::api::form::Demanded;
use crate::api::tools::{Callable, of_tools};
use crate::served::Served;

/// Number of last prompt tokens to search for `<think>`.
const TAIL: usize = 16;

/// How the answers of a chat are parsed.
pub(crate) struct Reading {
    /// Whether the prompt begins the reasoning.
    open: bool,
    calls: Option<(CallFormat, Tools, bool)>,
}

impl Reading {
    /// Returns the parser of a new answer.
    pub(crate) fn answer(&self) -> Answer {
        let answer = Answer::new(self.open);
        match &self.calls {
            Some((format, tools, parallel)) => answer.with_calls(*format, tools.clone(), *parallel),
            None => answer,
        }
    }
}

impl Served {
    /// Constrains samplers to the form that a request demands. Compiling a form can be slow.
    pub(crate) fn constrain(
        &self,
        samplers: Vec<Sampler>,
        demanded: Option<&Demanded>,
    ) -> ApiResult<Vec<Sampler>> {
        let Some(Demanded { field, grammar }) = demanded else { return Ok(samplers) };
        let form = compile(self.compiler()?, grammar, field)?;
        Ok(samplers.into_iter().map(|sampler| sampler.with_constraint(form.begin())).collect())
    }

    /// Constrains the samplers of a chat, and returns how its answers are parsed.
    pub(crate) fn constrain_chat(
        &self,
        samplers: Vec<Sampler>,
        request: &ChatRequest,
        prompt: &[u32],
    ) -> ApiResult<(Vec<Sampler>, Reading)> {
        let tail = &prompt[prompt.len().saturating_sub(TAIL)..];
        let open = self.tokenizer()?.decode(tail, true)?.trim_end().ends_with(THINK);
        let format = CallFormat::of_template(self.template_with_tools());
        let demanded = request.common.form.as_ref();
        let field = demanded.map_or("", |demanded| demanded.field);
        let grammar = match &request.callable {
            None => demanded.map(|demanded| demanded.grammar.clone()),
            Some(callable) => call_grammar(callable, format, demanded)?,
        };
        let budget = request.max_reasoning_tokens;
        let samplers = match (&grammar, budget) {
            (None, None) => samplers,
            _ => {
                let compiler = self.compiler()?;
                let form = grammar.as_ref().map(|grammar| match &request.callable {
                    None => compile(compiler, grammar, field),
                    Some(Callable { tools, choice, .. }) => {
                        let form = tools.compile(compiler, grammar, format, choice);
                        form.map_err(|error| at_fault(error, compiler, demanded))
                    }
                });
                let form = form.transpose()?;
                let constrained = samplers.into_iter().map(|mut sampler| {
                    sampler.constrain(compiler.with_reasoning(form.as_ref(), open, budget));
                    sampler
                });
                constrained.collect()
            }
        };
        let calls = request
            .callable
            .as_ref()
            .map(|Callable { tools, parallel, .. }| (format, tools.clone(), *parallel));
        Ok((samplers, Reading { open, calls }))
    }
}

/// Returns the grammar of answers with tools.
fn call_grammar(
    callable: &Callable,
    format: CallFormat,
    demanded: Option<&Demanded>,
) -> ApiResult<Option<Grammar>> {
    let Callable { tools, choice, parallel } = callable;
    let any = json!({"type": "object"});
    let answer: Option<&Value> = match demanded {
        None => None,
        Some(Demanded { grammar: Grammar::Json, .. }) => Some(&any),
        Some(Demanded { grammar: Grammar::Schema(schema), .. }) => Some(schema),
        Some(Demanded { field, .. }) => {
            let message = format!("{field} cannot be followed by answers that may call tools");
            return Err(ApiError::field(*field, message).with_code("unsupported_parameter"));
        }
    };
    tools.grammar(format, choice, *parallel, answer).map_err(|error| match (choice, &error) {
        (ToolChoice::Named(_), Error::NoFunction(_)) => {
            ApiError::field("tool_choice", error.to_string())
        }
        _ => of_tools(error),
    })
}

/// The error of a grammar of answers with tools, of which none or the demanded form may be at fault.
fn at_fault(error: Error, compiler: &Compiler, demanded: Option<&Demanded>) -> ApiError {
    let of_form = match (&error, demanded) {
        (Error::Grammar { .. }, Some(Demanded { field, grammar })) => {
            compile(compiler, grammar, field).err()
        }
        _ => None,
    };
    of_form.unwrap_or_else(|| of_tools(error))
}

fn compile(compiler: &Compiler, grammar: &Grammar, field: &str) -> ApiResult<Form> {
    compiler.compile(grammar).map_err(|error| ApiError::field(field, error.to_string()))
}
