//! Work that would hold up other requests.

use crate::api::error::ApiResult;
use crate::engine::{Failure, panic_message};

/// Runs slow work on a thread of its own.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> ApiResult<T> + Send + 'static,
) -> ApiResult<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => Err(Failure::Panic(panic_message(&*panic)).into()),
            Err(_) => Err(Failure::Ended.into()),
        },
    }
}
