//! Tools of a chat.

use serde::Serialize;
use serde_json::{Map, Value};
use trilobite_structured::{Call, Error, ToolChoice, Tools};
use utoipa::ToSchema;

use super::error::{ApiError, ApiResult};
use super::fields::{Fields, not_supported};
use super::random;

/// Tools, and whether to call them.
#[derive(Debug)]
pub(crate) struct Callable {
    pub(crate) tools: Tools,
    pub(crate) choice: ToolChoice,
    /// Whether an answer can have several calls.
    pub(crate) parallel: bool,
}

/// The fields of functions.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "the description of what `Callable::take` takes")]
pub(crate) struct ToolFields {
    /// Functions that the answer can call. If the model's template ignores them, the system message
    /// describes them.
    tools: Option<Vec<Tool>>,
    /// Whether functions are called. `{"type": "function", "function": {"name": ...}}` demands a call of
    /// one function. The arguments of demanded calls fit the function's schema.
    tool_choice: Option<ToolChoiceName>,
    /// Whether an answer can have several calls.
    #[schema(default = true)]
    parallel_tool_calls: Option<bool>,
}

/// A tool.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "the description of a tool")]
pub(crate) struct Tool {
    /// Its kind.
    r#type: ToolType,
    /// The function.
    function: Function,
}

/// A kind of tools.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "the description of a tool")]
#[serde(rename_all = "lowercase")]
pub(crate) enum ToolType {
    /// A function of the client.
    Function,
}

/// A function.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "the description of a tool")]
pub(crate) struct Function {
    /// Its name.
    #[schema(min_length = 1)]
    name: String,
    /// What it does.
    description: Option<String>,
    /// The JSON schema of its arguments.
    #[schema(value_type = Option<Object>)]
    parameters: Option<Map<String, Value>>,
    /// Accepted. The arguments of demanded calls always fit the schema.
    strict: Option<bool>,
}

/// Whether to call functions.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "the description of a choice")]
#[serde(rename_all = "lowercase")]
pub(crate) enum ToolChoiceName {
    /// The answer calls no function.
    None,
    /// The model decides.
    Auto,
    /// The answer calls at least one function.
    Required,
}

/// A call of a function.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ToolCall {
    /// Its index in the answer.
    pub(crate) index: usize,
    /// The call's id.
    pub(crate) id: String,
    /// `function`.
    pub(crate) r#type: &'static str,
    /// The function and its arguments.
    pub(crate) function: FunctionCall,
}

/// A function and its arguments.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FunctionCall {
    /// The function's name.
    pub(crate) name: String,
    /// Its arguments, the text of a JSON object.
    pub(crate) arguments: String,
}

impl ToolCall {
    /// A call with a new id.
    pub(crate) fn new(index: usize, call: Call) -> Self {
        let function = FunctionCall { name: call.name, arguments: call.arguments };
        Self { index, id: format!("call_{:016x}", random()), r#type: "function", function }
    }
}

impl Callable {
    /// Takes `tools`, `tool_choice` and `parallel_tool_calls`. With the choice `none` the model sees no
    /// tools.
    pub(crate) fn take(fields: &mut Fields) -> ApiResult<Option<Self>> {
        let list: Vec<Value> = fields.take("tools")?.unwrap_or_default();
        let choice = choice(fields)?;
        let parallel = fields.take("parallel_tool_calls")?.unwrap_or(true);
        let tools = Tools::read(list).map_err(of_tools)?;
        match choice {
            None => Ok(None),
            Some(ToolChoice::Auto) if tools.list().is_empty() => Ok(None),
            Some(_) if tools.list().is_empty() => {
                let message = "tool_choice demands a call, but there are no tools";
                Err(ApiError::field("tool_choice", message))
            }
            Some(choice) => Ok(Some(Self { tools, choice, parallel })),
        }
    }
}

/// The error of tools that cannot be called.
pub(crate) fn of_tools(error: Error) -> ApiError {
    let field = match &error {
        Error::Tool { index, field, .. } => format!("tools[{index}]{field}"),
        _ => "tools".to_owned(),
    };
    ApiError::field(field, error.to_string())
}

fn choice(fields: &mut Fields) -> ApiResult<Option<ToolChoice>> {
    let Some(value) = fields.value("tool_choice") else { return Ok(Some(ToolChoice::Auto)) };
    match (value.as_str(), value["type"].as_str(), value["function"]["name"].as_str()) {
        (Some("none"), ..) => Ok(None),
        (Some("auto"), ..) => Ok(Some(ToolChoice::Auto)),
        (Some("required"), ..) => Ok(Some(ToolChoice::Required)),
        (None, Some("function"), Some(name)) => Ok(Some(ToolChoice::Named(name.to_owned()))),
        _ => Err(not_supported("tool_choice")),
    }
}

/// Parses the arguments of a message's calls into the objects that templates expect.
pub(crate) fn read_arguments(message: &mut Map<String, Value>) {
    let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
    for call in calls.into_iter().flatten() {
        let Some(arguments) = call.pointer_mut("/function/arguments") else { continue };
        let read = arguments.as_str().and_then(|text| serde_json::from_str(text).ok());
        // Models write invalid arguments too: the template gets their text.
        if let Some(object @ Value::Object(_)) = read {
            *arguments = object;
        }
    }
}
