//! The state that all requests share.

use std::sync::Arc;

use crate::api::error::{ApiError, ApiResult};
use crate::guard::Guard;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::served::Served;

/// The server's state.
pub(crate) struct App {
    pub(crate) models: Vec<Arc<Served>>,
    pub(crate) metrics: Metrics,
    pub(crate) guard: Guard,
    pub(crate) options: Options,
}

impl App {
    /// The model of a name. Without a name it is the only model.
    pub(crate) fn model(&self, name: Option<&str>) -> ApiResult<&Arc<Served>> {
        match (name, &self.models[..]) {
            (None, [only]) => Ok(only),
            (None, _) => {
                let names: Vec<&str> = self.models.iter().map(|model| model.name()).collect();
                let message = format!("the request names no model; there are {}", names.join(", "));
                Err(ApiError::field("model", message))
            }
            (Some(name), models) => {
                let found = models.iter().find(|model| model.name() == name);
                found.ok_or_else(|| ApiError::no_model(name))
            }
        }
    }
}
