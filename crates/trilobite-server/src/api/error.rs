//! Errors in OpenAI's shape.

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::engine::{Failure, Refused};

/// Seconds after which a client may try again.
const RETRY_SECONDS: &str = "1";

/// The body of every answer that is an error.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// The error.
    pub(crate) error: ErrorObject,
}

/// An error.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ErrorObject {
    /// The fault.
    pub(crate) message: String,
    /// The kind of error, such as `invalid_request_error`.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// The faulty field of the request.
    pub(crate) param: Option<String>,
    /// The error's name, such as `context_length_exceeded`.
    pub(crate) code: Option<&'static str>,
}

/// An error and its HTTP status.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    error: ErrorObject,
}

/// The result of answering a request.
pub(crate) type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        let error = ErrorObject { message: message.into(), kind, param: None, code: None };
        Self { status, error }
    }

    /// The request is invalid.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// A field of the request is invalid.
    pub(crate) fn field(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid(message).with_param(name)
    }

    /// The request is invalid, with its own status.
    pub(crate) fn status(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, "invalid_request_error", message)
    }

    /// The server is at fault.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// The prompt has more tokens than the context.
    pub(crate) fn context(tokens: usize, context: usize, param: &str) -> Self {
        let message = format!(
            "the context of this model holds {context} tokens, but the prompt has {tokens}: please \
             shorten it"
        );
        Self::field(param, message).with_code("context_length_exceeded")
    }

    /// The model does not exist.
    pub(crate) fn no_model(name: &str) -> Self {
        Self::status(StatusCode::NOT_FOUND, format!("the model {name:?} does not exist"))
            .with_param("model")
            .with_code("model_not_found")
    }

    /// The key is missing or wrong.
    pub(crate) fn key(given: bool) -> Self {
        let message = match given {
            true => "the API key is not right",
            false => "there is no API key: send it as `Authorization: Bearer KEY`",
        };
        Self::status(StatusCode::UNAUTHORIZED, message).with_code("invalid_api_key")
    }

    /// Sets the faulty field.
    pub(crate) fn with_param(mut self, param: impl Into<String>) -> Self {
        self.error.param = Some(param.into());
        self
    }

    /// Sets the error's name.
    pub(crate) fn with_code(mut self, code: &'static str) -> Self {
        self.error.code = Some(code);
        self
    }

    /// The body of the response.
    pub(crate) fn body(&self) -> ErrorBody {
        ErrorBody { error: self.error.clone() }
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::TooMany { limit } => Self::field(
                "prompt",
                format!("the request has more prompts than this server takes at once, {limit}"),
            ),
            Refused::Full => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limit_error",
                "too many requests wait for this model: please try again later",
            )
            .with_code("queue_full"),
            Refused::Ending => Failure::Ended.into(),
        }
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        let message = failure.to_string();
        match failure {
            Failure::Model(_) | Failure::Panic(_) => Self::internal(message),
            Failure::Time(_) => {
                Self::new(StatusCode::GATEWAY_TIMEOUT, "server_error", message).with_code("timeout")
            }
            Failure::SlowReader(_) => {
                Self::status(StatusCode::REQUEST_TIMEOUT, message).with_code("slow_reader")
            }
            Failure::Ended => Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message)
                .with_code("shutting_down"),
        }
    }
}

impl From<trilobite_runtime::Error> for ApiError {
    fn from(error: trilobite_runtime::Error) -> Self {
        use trilobite_runtime::Error;
        match error {
            // Faults of the request's texts and settings.
            Error::Template(_) | Error::Tokenizer(_) | Error::Sampling { .. } => {
                Self::invalid(error.to_string())
            }
            _ => Self::internal(error.to_string()),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        let header = match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                (RETRY_AFTER, RETRY_SECONDS)
            }
            StatusCode::UNAUTHORIZED => (WWW_AUTHENTICATE, "Bearer"),
            _ => return response,
        };
        response.headers_mut().insert(header.0, HeaderValue::from_static(header.1));
        response
    }
}
