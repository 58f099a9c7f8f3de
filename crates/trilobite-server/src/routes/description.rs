//! `/openapi.json`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::{chat, completions, embeddings, misc};
use crate::api::error::{ApiError, ApiResult};
use crate::api::fields::HARMLESS;
use crate::app::App;

/// The part of the description that the types define.
#[derive(OpenApi)]
#[openapi(
    info(title = "Trilobite", description = "1.58-bit language models in OpenAI's protocol"),
    paths(
        chat::chat_completions,
        completions::completions,
        embeddings::embeddings,
        misc::models,
        misc::model,
        misc::tokenize,
        misc::detokenize,
        misc::tokenizer_info,
        misc::health,
        misc::metrics,
    ),
    components(schemas(
        crate::api::chat::ChatChunk,
        crate::api::form::FormFields,
        crate::api::tools::ToolFields
    ))
)]
struct Description;

/// The description of the server.
pub(super) async fn openapi(State(app): State<Arc<App>>) -> ApiResult<Json<Value>> {
    let described = serde_json::to_value(Description::openapi());
    let mut described = described.map_err(|error| ApiError::internal(error.to_string()))?;
    if let Some(schemas) =
        described.pointer_mut("/components/schemas").and_then(Value::as_object_mut)
    {
        complete(schemas, &app);
    }
    Ok(Json(described))
}

/// Adds what the types do not define: the known fields and the range of token ids.
fn complete(schemas: &mut Map<String, Value>, app: &App) {
    for name in [
        "ChatRequest",
        "CompletionRequest",
        "EmbeddingRequest",
        "TokenizeRequest",
        "DetokenizeRequest",
    ] {
        let Some(schema) = schemas.get(name).cloned() else { continue };
        let mut whole = json!({"type": "object", "properties": {}, "required": []});
        merge(&mut whole, &schema, schemas);
        let further: &[&str] = match name {
            "ChatRequest" => &["FormFields", "ToolFields"],
            "CompletionRequest" => &["FormFields"],
            _ => &[],
        };
        for fields in further.iter().filter_map(|fields| schemas.get(*fields)) {
            merge(&mut whole, fields, schemas);
        }
        if !name.ends_with("kenizeRequest") {
            for field in HARMLESS {
                if whole["properties"].get(field).is_none() {
                    whole["properties"][field] = json!({"description": "Changes no answer."});
                }
            }
        }
        if let Some(seed) = whole["properties"].get_mut("seed") {
            (seed["minimum"], seed["maximum"]) = (i64::MIN.into(), u64::MAX.into());
            // The range exceeds that of int64.
            if let Some(seed) = seed.as_object_mut() {
                seed.shift_remove("format");
            }
        }
        // Unknown fields must be null.
        whole["additionalProperties"] = json!({"type": "null"});
        schemas.insert(name.to_owned(), whole);
    }
    let embedding = app.models.iter().filter(|model| model.embeds().is_ok());
    let widths = embedding.map(|model| model.model().config().hidden);
    if let (Some(least), Some(most)) = (widths.clone().min(), widths.max())
        && let Some(request) = schemas.get_mut("EmbeddingRequest")
    {
        let dimensions = &mut request["properties"]["dimensions"];
        (dimensions["minimum"], dimensions["maximum"]) = (least.into(), most.into());
    }
    // A model with fewer tokens refuses the others.
    let vocab = app.models.iter().map(|model| model.model().config().vocab).max();
    let last = vocab.unwrap_or(1).saturating_sub(1);
    if let Some(id) = schemas.get_mut("TokenId") {
        id["maximum"] = last.into();
    }
    for name in ["ChatRequest", "CompletionRequest"] {
        let bias = schemas.get_mut(name).and_then(|all| all["properties"].get_mut("logit_bias"));
        if let Some(bias) = bias {
            bias["propertyNames"] = json!({"pattern": numbers_to(last)});
            bias["additionalProperties"] =
                json!({"type": "number", "minimum": -100, "maximum": 100});
        }
    }
    schemas.get_mut("Prompts").into_iter().for_each(need_items);
    if let Some(chat) = schemas.get_mut("ChatRequest") {
        let shown = json!({"properties": {"logprobs": {"const": true}}, "required": ["logprobs"]});
        let none = json!({"properties": {"top_logprobs": {"enum": [0, null]}}});
        chat["anyOf"] = json!([shown, none]);
        let tools = json!({"properties": {"tools": {"type": "array", "minItems": 1}}, "required": ["tools"]});
        let free = json!({"properties": {"tool_choice": {"enum": ["none", "auto", null]}}});
        chat["allOf"] = json!([{"anyOf": [tools, free]}]);
    }
}

/// Adds the fields of a schema and of the schemas it refers to.
fn merge(whole: &mut Value, schema: &Value, schemas: &Map<String, Value>) {
    let name = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next());
    let named = name.and_then(|name| schemas.get(name)).into_iter();
    for part in named.chain(schema["allOf"].as_array().into_iter().flatten()) {
        merge(whole, part, schemas);
    }
    if let (Some(all), Some(own)) =
        (whole["properties"].as_object_mut(), schema["properties"].as_object())
    {
        all.extend(own.clone());
    }
    if let (Some(all), Some(own)) =
        (whole["required"].as_array_mut(), schema["required"].as_array())
    {
        all.extend(own.clone());
    }
}

/// A regular expression of the numbers from 0 to `last`.
fn numbers_to(last: usize) -> String {
    let digits = last.to_string();
    let mut cases = vec![digits.clone()];
    if digits.len() > 1 {
        cases.push(format!("0|[1-9][0-9]{{0,{}}}", digits.len() - 2));
    }
    for (place, digit) in digits.char_indices() {
        let least = if place == 0 && digits.len() > 1 { '1' } else { '0' };
        if digit > least {
            let (before, less) = (&digits[..place], (digit as u8 - 1) as char);
            let rest = digits.len() - place - 1;
            cases.push(format!("{before}[{least}-{less}][0-9]{{{rest}}}"));
        }
    }
    format!("^({})$", cases.join("|"))
}

/// Requires every list to have an item.
fn need_items(schema: &mut Value) {
    if schema["type"] == "array" {
        schema["minItems"] = 1.into();
    }
    let inner = schema.as_object_mut().into_iter().flat_map(|fields| fields.values_mut());
    for value in inner {
        match value {
            Value::Array(list) => list.iter_mut().filter(|v| v.is_object()).for_each(need_items),
            Value::Object(_) => need_items(value),
            _ => {}
        }
    }
}
