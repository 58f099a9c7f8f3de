//! The paths of the server.

mod blocking;
mod body;
mod chat;
mod completions;
mod description;
mod embeddings;
mod misc;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;

use crate::api::error::ApiError;
use crate::app::App;
use crate::engine::{Failure, panic_message};

/// All paths.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(misc::page))
        .route("/health", get(misc::health))
        .route("/metrics", get(misc::metrics))
        .route("/openapi.json", get(description::openapi))
        .route("/v1/models", get(misc::models))
        .route("/v1/models/{*id}", get(misc::model))
        .route("/v1/chat/completions", post(chat::chat_completions))
        .route("/v1/completions", post(completions::completions))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .route("/tokenize", post(misc::tokenize))
        .route("/detokenize", post(misc::detokenize))
        .route("/tokenizer_info", get(misc::tokenizer_info))
        .method_not_allowed_fallback(wrong_method)
        .fallback(no_such_path)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), count))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), guard))
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(app)
}

async fn wrong_method() -> ApiError {
    ApiError::status(StatusCode::METHOD_NOT_ALLOWED, "this path takes another method")
}

async fn no_such_path() -> ApiError {
    ApiError::status(StatusCode::NOT_FOUND, "there is no such path").with_code("not_found")
}

/// The response to a request whose handler panicked.
fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    ApiError::from(Failure::Panic(panic_message(&*panic))).into_response()
}

/// Passes allowed requests on and refuses others.
async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    app.guard.pass(request, next).await
}

/// Counts responses by path and status.
async fn count(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    // Clients choose the other paths, so their number is unlimited.
    app.metrics
        .count(path.as_ref().map_or("other", MatchedPath::as_str), response.status().as_u16());
    response
}
