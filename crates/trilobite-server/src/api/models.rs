//! `/v1/models`.

use serde::Serialize;
use utoipa::ToSchema;

/// The models.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelList {
    /// `list`.
    pub(crate) object: &'static str,
    /// The models.
    pub(crate) data: Vec<ModelObject>,
}

/// A model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelObject {
    /// The name by which requests choose it.
    pub(crate) id: String,
    /// `model`.
    pub(crate) object: &'static str,
    /// Start time of the model's service in seconds since 1970.
    pub(crate) created: u64,
    /// `trilobite`.
    pub(crate) owned_by: &'static str,
    /// Maximum tokens of its context.
    pub(crate) max_model_len: usize,
    /// Whether it has a chat template.
    pub(crate) chat: bool,
}
