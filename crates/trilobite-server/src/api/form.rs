//! The form that a request demands of its answers.

use serde::Serialize;
use serde_json::{Map, Value};
use trilobite_structured::Grammar;
use utoipa::ToSchema;

use super::error::{ApiError, ApiResult};
use super::fields::{Fields, not_supported};

/// A form, and the field that demands it.
#[derive(Debug)]
pub(crate) struct Demanded {
    pub(crate) field: &'static str,
    pub(crate) grammar: Grammar,
}

/// The fields that demand a form.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "the description of what `take` takes")]
pub(crate) struct FormFields {
    /// The form of the answer. Instead of it, `regex` (also `guided_regex`) demands a text that a regular
    /// expression matches as a whole, `grammar` (`guided_grammar`) one of a grammar in Lark's
    /// notation, and `guided_json` JSON of a schema.
    response_format: Option<ResponseFormat>,
}

/// The form of an answer.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "the description of a form")]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ResponseFormat {
    /// Any text.
    Text,
    /// A JSON object.
    JsonObject,
    /// JSON that a schema allows.
    JsonSchema {
        /// The schema.
        json_schema: JsonSchemaFormat,
    },
}

/// A JSON schema as a form.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "the description of a form")]
pub(crate) struct JsonSchemaFormat {
    /// Its name, which changes nothing.
    name: Option<String>,
    /// The schema. References go to its own `$defs`; keywords that are not supported are errors.
    #[schema(value_type = Object)]
    schema: Map<String, Value>,
    /// Accepted. Answers always fit the schema.
    strict: Option<bool>,
}

/// Takes the fields that demand a form: `response_format`, `regex`, `grammar`, and those of vLLM:
/// `guided_json`, `guided_regex`, `guided_grammar`.
pub(crate) fn take(fields: &mut Fields) -> ApiResult<Option<Demanded>> {
    let format = fields.take("response_format")?.map(of_format).transpose()?.flatten();
    let mut demanded = format.map(|grammar| Demanded { field: "response_format", grammar });
    let mut others = Vec::new();
    for field in ["regex", "guided_regex", "grammar", "guided_grammar"] {
        let Some(text) = fields.take(field)? else { continue };
        let is_regex = field.ends_with("regex");
        let grammar = if is_regex { Grammar::Regex(text) } else { Grammar::Lark(text) };
        others.push(Demanded { field, grammar });
    }
    let schema = fields.value("guided_json").map(schema_of_text).transpose()?;
    others.extend(schema.map(|grammar| Demanded { field: "guided_json", grammar }));
    for other in others {
        if let Some(first) = &demanded {
            let (field, first) = (other.field, first.field);
            let message = format!("{field} demands another form of the answer than {first}");
            return Err(ApiError::field(field, message));
        }
        demanded = Some(other);
    }
    Ok(demanded)
}

/// Parses the value of `guided_json`: a schema or its text.
fn schema_of_text(value: Value) -> ApiResult<Grammar> {
    let Value::String(text) = value else { return Ok(Grammar::Schema(value)) };
    let schema = serde_json::from_str(&text);
    let schema =
        schema.map_err(|error| ApiError::field("guided_json", format!("guided_json: {error}")));
    schema.map(Grammar::Schema)
}

fn of_format(format: Map<String, Value>) -> ApiResult<Option<Grammar>> {
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(Grammar::Json)),
        Some("json_schema") => {
            of_schema(format.get("json_schema").unwrap_or(&Value::Null)).map(Some)
        }
        Some(_) => Err(not_supported("response_format")),
        None => {
            let field = "response_format.type";
            Err(ApiError::field(field, format!("{field} is missing or no string")))
        }
    }
}

fn of_schema(format: &Value) -> ApiResult<Grammar> {
    let wrong = |key: &str, fault: &str| {
        let field = format!("response_format.json_schema.{key}");
        Err(ApiError::field(&field, format!("{field} {fault}")))
    };
    if !(format["name"].is_null() || format["name"].is_string()) {
        return wrong("name", "is no string");
    }
    if !(format["strict"].is_null() || format["strict"].is_boolean()) {
        return wrong("strict", "is neither true nor false");
    }
    match format.get("schema") {
        Some(schema) => Ok(Grammar::Schema(schema.clone())),
        None => wrong("schema", "is missing"),
    }
}
