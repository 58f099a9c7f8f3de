//! The body of a request.

use std::sync::Arc;
use std::time::Duration;

use axum::body::BodyDataStream;
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use axum::http::{HeaderMap, StatusCode};
use futures_util::StreamExt;

use crate::api::error::{ApiError, ApiResult};
use crate::api::fields::Fields;
use crate::app::App;

/// Maximum bytes of the rest of a body that was refused.
const REST_BYTES: usize = 256 << 20;
/// Maximum pause of a client that sends them.
const REST_PAUSE: Duration = Duration::from_secs(1);

/// The fields of a JSON body.
pub(super) struct Body(pub(super) Fields);

impl FromRequest<Arc<App>> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> ApiResult<Self> {
        let (head, body) = request.into_parts();
        let mut body = body.into_data_stream();
        let bytes = read(&head.headers, &mut body, app).await;
        // A client that asks first sends nothing more.
        if bytes.is_err() && !head.headers.contains_key(EXPECT) {
            tokio::spawn(tokio::time::timeout(app.options.body_time, discard(body)));
        }
        Ok(Self(Fields::parse(&bytes?)?))
    }
}

/// Reads a JSON body within the limits.
async fn read(headers: &HeaderMap, body: &mut BodyDataStream, app: &App) -> ApiResult<Vec<u8>> {
    // Browsers send JSON to another origin only after a preflight request.
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = media_type.and_then(|value| value.split(';').next()).unwrap_or_default();
    if !media_type.trim().eq_ignore_ascii_case("application/json") {
        let message = format!("the content type is {media_type:?}, expected application/json");
        return Err(ApiError::status(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    for encoding in headers.get_all(CONTENT_ENCODING) {
        if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") {
            let message = format!("the content encoding is {encoding:?}, expected identity");
            return Err(ApiError::status(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
    }
    let (limit, time) = (app.options.body_bytes, app.options.body_time);
    let too_large = || {
        let message = format!("the body is larger than {limit} bytes");
        ApiError::status(StatusCode::PAYLOAD_TOO_LARGE, message).with_code("request_too_large")
    };
    // A known length is refused before the body arrives.
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if length.and_then(|length| length.parse().ok()).is_some_and(|length: usize| length > limit) {
        return Err(too_large());
    }
    let read = async {
        let mut bytes = Vec::new();
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|_| ApiError::invalid("the body could not be read"))?;
            if piece.len() > limit - bytes.len() {
                return Err(too_large());
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    };
    tokio::time::timeout(time, read).await.unwrap_or_else(|_| {
        let message = format!("the body did not come within {} s", time.as_secs_f64());
        Err(ApiError::status(StatusCode::REQUEST_TIMEOUT, message))
    })
}

/// Reads the rest of a body that was refused. Many clients read the answer only when they have sent all
/// of it, and lose the answer if the connection ends before.
async fn discard(mut body: BodyDataStream) {
    let mut read = 0;
    while read < REST_BYTES
        && let Ok(Some(Ok(piece))) = tokio::time::timeout(REST_PAUSE, body.next()).await
    {
        read += piece.len();
    }
}
