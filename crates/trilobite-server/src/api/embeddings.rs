//! `/v1/embeddings`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::completions::Prompts;
use super::error::{ApiError, ApiResult};
use super::fields::{Field, Fields, not_supported};

/// A request for embeddings.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EmbeddingRequest {
    /// The model's id. Not needed where only one model is served.
    pub(crate) model: Option<String>,
    /// One text or several, each as a string or as token ids. The ids are used literally.
    pub(crate) input: Prompts,
    /// How the vectors are written.
    pub(crate) encoding_format: Option<EncodingFormat>,
    /// Length of the vectors. Only that of the model is supported.
    #[schema(minimum = 1)]
    pub(crate) dimensions: Option<usize>,
    /// Puts this prompt of the model, such as `query` or `document`, before every text.
    pub(crate) prompt_name: Option<String>,
}

/// How vectors are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EncodingFormat {
    /// Numbers.
    #[default]
    Float,
    /// Little-endian f32, in Base64.
    Base64,
}

impl Field for EncodingFormat {
    const EXPECTED: &'static str = "\"float\" or \"base64\"";
}

impl EmbeddingRequest {
    /// Reads a request.
    pub(crate) fn read(mut fields: Fields) -> ApiResult<Self> {
        let input = fields.value("input");
        let input = input.ok_or_else(|| ApiError::field("input", "there is no input"))?;
        let request = Self {
            model: fields.take("model")?,
            input: Prompts::read(input, "input")?,
            encoding_format: fields.take("encoding_format")?,
            dimensions: fields.take("dimensions")?,
            prompt_name: fields.take("prompt_name")?,
        };
        fields.finish()?;
        Ok(request)
    }

    /// Checks that vectors of this length are what is requested.
    pub(crate) fn check_width(&self, width: usize) -> ApiResult<()> {
        match self.dimensions {
            Some(asked) if asked != width => Err(not_supported("dimensions")),
            _ => Ok(()),
        }
    }
}

/// The embeddings of texts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EmbeddingList {
    /// `list`.
    pub(crate) object: &'static str,
    /// The embeddings, in the order of the texts.
    pub(crate) data: Vec<EmbeddingObject>,
    /// The model's id.
    pub(crate) model: String,
    /// The token counts.
    pub(crate) usage: EmbeddingUsage,
}

/// The embedding of a text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EmbeddingObject {
    /// `embedding`.
    pub(crate) object: &'static str,
    /// Index of the text.
    pub(crate) index: usize,
    /// The vector. Its Euclidean norm is 1.
    pub(crate) embedding: Vector,
}

/// A vector.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Vector {
    /// Numbers.
    #[schema(title = "numbers")]
    Float(Vec<f32>),
    /// Little-endian f32, in Base64.
    #[schema(title = "Base64")]
    Base64(String),
}

impl Vector {
    /// Writes a vector.
    pub(crate) fn new(values: Vec<f32>, format: EncodingFormat) -> Self {
        match format {
            EncodingFormat::Float => Self::Float(values),
            EncodingFormat::Base64 => {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                Self::Base64(STANDARD.encode(bytes))
            }
        }
    }
}

/// Tokens of a request.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct EmbeddingUsage {
    /// Tokens of the texts.
    pub(crate) prompt_tokens: usize,
    /// The same number.
    pub(crate) total_tokens: usize,
}
