//! The body of a request.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};

use crate::api::error::{ApiError, ApiResult};
use crate::api::fields::Fields;
use crate::app::App;

/// The fields of a JSON body.
pub(super) struct Body(pub(super) Fields);

impl FromRequest<Arc<App>> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> ApiResult<Self> {
        // Browsers send JSON to another origin only after a preflight request.
        let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media_type.and_then(|value| value.split(';').next()).unwrap_or_default();
        if !media_type.trim().eq_ignore_ascii_case("application/json") {
            let message = format!("the content type is {media_type:?}, expected application/json");
            return Err(ApiError::status(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        let (limit, time) = (app.options.body_bytes, app.options.body_time);
        let too_large = || {
            let message = format!("the body is larger than {limit} bytes");
            ApiError::status(StatusCode::PAYLOAD_TOO_LARGE, message).with_code("request_too_large")
        };
        // A known length is refused before the body arrives.
        let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        if length.and_then(|length| length.parse().ok()).is_some_and(|length: usize| length > limit)
        {
            return Err(too_large());
        }
        let read = tokio::time::timeout(time, Bytes::from_request(request, app)).await;
        let read = read.map_err(|_| {
            let message = format!("the body did not come within {} s", time.as_secs_f64());
            ApiError::status(StatusCode::REQUEST_TIMEOUT, message)
        })?;
        let bytes = read.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => too_large(),
            _ => ApiError::invalid("the body could not be read"),
        })?;
        Ok(Self(Fields::parse(&bytes)?))
    }
}
