//! `models/models.toml`: the models and shapes that the chores know.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use trilobite_hub::Listed;

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Models {
    pub(crate) model: Vec<Model>,
    shape: BTreeMap<String, Shape>,
}

/// One published repository.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) repository: String,
    #[serde(rename = "license")]
    _license: String,
    pub(crate) weights: Weights,
    shape: Option<String>,
    #[serde(default, rename = "files")]
    _files: Vec<String>,
    #[serde(rename = "revision")]
    _revision: Option<String>,
    #[serde(default, rename = "sha256")]
    _sha256: BTreeMap<String, String>,
    #[serde(rename = "package")]
    _package: Option<String>,
    pub(crate) published: Option<Published>,
}

/// A model's column of the table in the technical report of BitNet b1.58 2B4T (arXiv 2504.12285).
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Published {
    /// Size of the weights without the embedding, in gigabytes.
    pub(crate) non_embedding_gb: f64,
    /// Time of a decoded token.
    pub(crate) cpu_decoding_ms: f64,
    /// Number of training tokens, in trillions.
    pub(crate) training_tokens: f64,
    /// The average of its scores, as printed.
    #[serde(rename(serialize = "printed_average"))]
    pub(crate) average: f64,
    /// By task, in percent; MT-bench from 1 to 10.
    pub(crate) scores: BTreeMap<String, f64>,
}

/// The encoding of projections in a repository.
#[derive(Deserialize, Clone, Copy, PartialEq, Debug)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Weights {
    /// 2-bit codes in U8, with one scale a tensor.
    Packed,
    /// bfloat16 master weights, quantised on load.
    Bf16,
    /// float32 master weights, quantised on load.
    F32,
    /// bfloat16 weights that stay dense.
    Dense,
    /// bfloat16 weights, ternary with a scale for each row.
    Rows,
    /// float16 weights, all matrices ternary with a scale for each 128 columns.
    Groups,
    /// A converted GGUF file instead of a checkpoint.
    Gguf,
}

/// A chat template defined in `trilobite_format::model`.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Template {
    Bitnet,
}

impl Template {
    /// The source of the template.
    pub(crate) fn source(self) -> &'static str {
        match self {
            Template::Bitnet => trilobite_format::model::BITNET_TEMPLATE,
        }
    }
}

/// The values of config.json.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shape {
    /// The encoding of projections, for shapes of models that are not listed.
    pub(crate) weights: Option<Weights>,
    /// The first entry of `architectures`.
    pub(crate) class: String,
    pub(crate) model_type: String,
    pub(crate) hidden_act: Option<String>,
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) num_key_value_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) vocab_size: usize,
    /// The first id of the special tokens.
    pub(crate) base_vocab_size: usize,
    pub(crate) max_position_embeddings: usize,
    pub(crate) rms_norm_eps: f64,
    pub(crate) rope_theta: f64,
    pub(crate) tie_word_embeddings: bool,
    pub(crate) bos_token_id: Option<u32>,
    pub(crate) eos_token_id: Vec<u32>,
    pub(crate) special_tokens: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) generation: BTreeMap<String, serde_json::Value>,
    /// The chat template of the tokenizer.
    pub(crate) chat_template: Option<Template>,
    /// Further keys of config.json.
    #[serde(default)]
    pub(crate) config: BTreeMap<String, serde_json::Value>,
}

/// The lock file beside models.toml: commits and hashes of what was fetched.
pub(crate) fn lockfile() -> PathBuf {
    crate::repository::root().join("models/models.lock")
}

impl Models {
    /// Loads the file as it was when xtask was built.
    pub(crate) fn load() -> Result<Models> {
        toml::from_str(include_str!("../../models/models.toml")).context("models/models.toml")
    }

    /// The model with this name, in any case and punctuation.
    pub(crate) fn find(&self, name: &str) -> Result<&Model> {
        let listed = Listed::find(name)?;
        let model = self.model.iter().find(|model| model.name == listed.name);
        model.with_context(|| format!("models/models.toml has no model {name:?}"))
    }

    /// The models of the technical report's table, and their columns.
    pub(crate) fn published(&self) -> impl Iterator<Item = (&Model, &Published)> {
        self.model.iter().filter_map(|model| Some((model, model.published.as_ref()?)))
    }

    /// The shape of this name that says how weights are stored, of models that are not listed.
    pub(crate) fn unlisted(&self, name: &str) -> Option<(Weights, &Shape)> {
        let shape = self.shape.get(name)?;
        Some((shape.weights?, shape))
    }

    /// The shape of a model.
    pub(crate) fn shape(&self, model: &Model) -> Result<&Shape> {
        let Some(name) = &model.shape else {
            bail!("models/models.toml does not know the shape of {}", model.name);
        };
        self.shape
            .get(name)
            .with_context(|| format!("models/models.toml has no [shape.{name}] for {}", model.name))
    }
}

impl Shape {
    /// The special tokens by id: the named ones, and the reserved ones from `base_vocab_size` up.
    pub(crate) fn special_tokens(&self) -> Result<BTreeMap<u32, String>> {
        let mut tokens = BTreeMap::new();
        for (id, content) in &self.special_tokens {
            let id: u32 = id.parse().with_context(|| format!("special token id {id:?}"))?;
            tokens.insert(id, content.clone());
        }
        let mut reserved = 0;
        for id in self.base_vocab_size as u32..self.vocab_size as u32 {
            tokens.entry(id).or_insert_with(|| {
                reserved += 1;
                format!("<|reserved_special_token_{}|>", reserved - 1)
            });
        }
        Ok(tokens)
    }
}
