//! The paths that generate no text.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{Html, IntoResponse, Response};
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::blocking::blocking;
use super::body::Body;
use crate::api::error::{ApiError, ApiResult, ErrorBody};
use crate::api::models::{ModelList, ModelObject};
use crate::api::tokens::{
    DetokenizeRequest, DetokenizeResponse, TokenizeRequest, TokenizeResponse, TokenizerInfo,
};
use crate::app::App;

/// The chat page: one file.
const PAGE: &str = include_str!("../page.html");
/// The text before the policy in the page. The policy ends at the next quotation mark.
const POLICY: &str = "<meta http-equiv=\"Content-Security-Policy\" content=\"";

/// The chat page. The header repeats the policy of the page, and adds the directives that only a
/// header can have.
pub(super) async fn page() -> ApiResult<Response> {
    let policy = PAGE.split_once(POLICY).and_then(|(_, rest)| rest.split_once('"'));
    let (policy, _) = policy.ok_or_else(|| ApiError::internal("the page has no policy"))?;
    let headers = [
        (CONTENT_SECURITY_POLICY, format!("{policy}; frame-ancestors 'none'")),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (REFERRER_POLICY, "same-origin".to_owned()),
        (CACHE_CONTROL, "no-cache".to_owned()),
    ];
    Ok((headers, Html(PAGE)).into_response())
}

/// The models that are served.
#[utoipa::path(get, path = "/v1/models", responses(
    (status = 200, description = "The models", body = ModelList),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
))]
pub(super) async fn models(State(app): State<Arc<App>>) -> Json<ModelList> {
    let data = app.models.iter().map(|model| model.object()).collect();
    Json(ModelList { object: "list", data })
}

/// One of the models.
#[utoipa::path(
    get,
    path = "/v1/models/{id}",
    params(("id" = String, Path, description = "The model's id")),
    responses(
        (status = 200, description = "The model", body = ModelObject),
        (status = "4XX", description = "There is none", body = ErrorBody),
    )
)]
pub(super) async fn model(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> ApiResult<Json<ModelObject>> {
    Ok(Json(app.model(Some(&id))?.object()))
}

/// The tokens of a text.
#[utoipa::path(
    post,
    path = "/tokenize",
    request_body = TokenizeRequest,
    responses(
        (status = 200, description = "The tokens", body = TokenizeResponse),
        (status = "4XX", description = "The request is wrong", body = ErrorBody),
    )
)]
pub(super) async fn tokenize(
    State(app): State<Arc<App>>,
    Body(fields): Body,
) -> ApiResult<Json<TokenizeResponse>> {
    let request = TokenizeRequest::read(fields)?;
    blocking(move || {
        let served = app.model(request.model.as_deref())?;
        let tokens = served.encode(&request.prompt, request.add_special_tokens.unwrap_or(true))?;
        let (count, max_model_len) = (tokens.len(), served.context());
        Ok(Json(TokenizeResponse { tokens, count, max_model_len }))
    })
    .await
}

/// The text of tokens.
#[utoipa::path(
    post,
    path = "/detokenize",
    request_body = DetokenizeRequest,
    responses(
        (status = 200, description = "The text", body = DetokenizeResponse),
        (status = "4XX", description = "The request is wrong", body = ErrorBody),
    )
)]
pub(super) async fn detokenize(
    State(app): State<Arc<App>>,
    Body(fields): Body,
) -> ApiResult<Json<DetokenizeResponse>> {
    let request = DetokenizeRequest::read(fields)?;
    blocking(move || {
        let served = app.model(request.model.as_deref())?;
        let tokens = served.checked(request.tokens, "tokens")?;
        Ok(Json(DetokenizeResponse { prompt: served.tokenizer()?.decode(&tokens, true)? }))
    })
    .await
}

/// The special tokens and the chat template of a model.
#[utoipa::path(
    get,
    path = "/tokenizer_info",
    params(("model" = Option<String>, Query, description = "The model's id, where several are served")),
    responses(
        (status = 200, description = "What a client needs to make prompts", body = TokenizerInfo),
        (status = "4XX", description = "The request is wrong", body = ErrorBody),
    )
)]
pub(super) async fn tokenizer_info(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> ApiResult<Json<TokenizerInfo>> {
    let model = model_of(query.as_deref().unwrap_or_default())?;
    Ok(Json(app.model(model.as_deref())?.tokenizer_info()?))
}

/// The model that a query names.
fn model_of(query: &str) -> ApiResult<Option<String>> {
    let mut values = query.split('&').filter_map(|field| field.strip_prefix("model="));
    let Some(value) = values.next() else { return Ok(None) };
    let value = value.replace('+', " ");
    match percent_decode_str(&value).decode_utf8() {
        Ok(name) => Ok(Some(name.into_owned())),
        Err(_) => Err(ApiError::field("model", "the model's name is no UTF-8")),
    }
}

/// Whether the server can answer.
#[utoipa::path(get, path = "/health", responses(
    (status = 200, description = "It can", body = serde_json::Value),
    (status = 503, description = "It cannot", body = serde_json::Value),
))]
pub(super) async fn health(State(app): State<Arc<App>>) -> Response {
    let dead = app.models.iter().find(|model| model.has_ended());
    match dead {
        None => Json(json!({"status": "ok"})).into_response(),
        Some(model) => {
            let status = json!({"status": "unavailable", "model": model.name()});
            (StatusCode::SERVICE_UNAVAILABLE, Json(status)).into_response()
        }
    }
}

/// Counters, gauges and histograms for Prometheus.
#[utoipa::path(get, path = "/metrics", responses(
    (status = 200, description = "The metrics", body = String, content_type = "application/openmetrics-text"),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
))]
pub(super) async fn metrics(State(app): State<Arc<App>>) -> ApiResult<Response> {
    let text = app.metrics.text().ok_or_else(|| ApiError::internal("the metrics are no text"))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(CONTENT_TYPE, kind)], text).into_response())
}
