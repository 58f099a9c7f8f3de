//! `/v1/embeddings`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::blocking::blocking;
use super::body::Body;
use crate::api::embeddings::{
    EmbeddingList, EmbeddingObject, EmbeddingRequest, EmbeddingUsage, Vector,
};
use crate::api::error::{ApiResult, ErrorBody};
use crate::app::App;
use crate::embeddings::Asked;

/// The embeddings of texts, from a model that gives them.
#[utoipa::path(
    post,
    path = "/v1/embeddings",
    request_body = EmbeddingRequest,
    responses(
        (status = 200, description = "The embeddings", body = EmbeddingList),
        (status = "4XX", description = "The request is wrong, or too much", body = ErrorBody),
        (status = "5XX", description = "The server is at fault, or ends", body = ErrorBody),
    )
)]
pub(super) async fn embeddings(
    State(app): State<Arc<App>>,
    Body(fields): Body,
) -> ApiResult<Json<EmbeddingList>> {
    // A model without embeddings is reported before errors in the request.
    let served = Arc::clone(app.model(fields.peek::<String>("model")?.as_deref())?);
    served.embeds()?;
    let request = EmbeddingRequest::read(fields)?;
    request.check_width(served.model().config().hidden)?;
    let asked = Asked::new(app.options.request_time);
    let here = asked.guard();
    let answer = blocking(move || {
        let texts = served.to_embed(&request)?;
        let tokens = texts.iter().map(Vec::len).sum();
        let vectors = served.embeds()?.embed(&texts, &asked)?;
        let format = request.encoding_format.unwrap_or_default();
        let data = vectors.into_iter().enumerate().map(|(index, vector)| EmbeddingObject {
            object: "embedding",
            index,
            embedding: Vector::new(vector.values, format),
        });
        Ok(Json(EmbeddingList {
            object: "list",
            data: data.collect(),
            model: served.name().to_owned(),
            usage: EmbeddingUsage { prompt_tokens: tokens, total_tokens: tokens },
        }))
    })
    .await;
    drop(here);
    answer
}
