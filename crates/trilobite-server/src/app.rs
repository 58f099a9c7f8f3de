//! What all requests share.

use crate::api::error::{ApiError, ApiResult};
use crate::guard::Guard;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::served::Served;

/// The server's state.
pub(crate) struct App {
    pub(crate) models: Vec<Served>,
    pub(crate) metrics: Metrics,
    pub(crate) guard: Guard,
    pub(crate) options: Options,
}

impl App {
    /// The model of a name. If only one is served, a request need not name it; a name that is given is
    /// always compared.
    pub(crate) fn model(&self, name: Option<&str>) -> ApiResult<&Served> {
        match (name, &self.models[..]) {
            (None, [only]) => Ok(only),
            (None, _) => {
                let names: Vec<&str> = self.models.iter().map(Served::name).collect();
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
