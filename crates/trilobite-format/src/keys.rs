//! The names of metadata keys, each in this one place for who reads it and who writes it.

/// The architecture: see [`Architecture`](crate::model::Architecture).
pub const ARCHITECTURE: &str = "general.architecture";
/// The name of the model.
pub const NAME: &str = "general.name";
/// What the offsets of tensors are multiples of.
pub const ALIGNMENT: &str = "general.alignment";
/// llama.cpp's number for what most of a file is stored as.
pub const FILE_TYPE: &str = "general.file_type";
/// The version of ggml's block formats.
pub const QUANTIZATION_VERSION: &str = "general.quantization_version";

/// Which part of a model a file is, from 0.
pub const SPLIT_INDEX: &str = "split.no";
/// Number of parts.
pub const SPLIT_COUNT: &str = "split.count";
/// Tensors in all parts.
pub const SPLIT_TENSORS: &str = "split.tensors.count";

/// The version of Trilobite that wrote the file.
pub const VERSION: &str = "trilobite.version";
/// The projections that a BitNet model keeps dense, as `blk.0.attn_v.weight`.
pub const DENSE_PROJECTIONS: &str = "trilobite.dense_projections";
/// The tokens that end a text or a turn.
pub const END_IDS: &str = "trilobite.eos_token_ids";
/// Whether decoded text is rid of the spaces before its punctuation.
pub const CLEAN_UP: &str = "trilobite.clean_up_tokenization_spaces";
/// What the keys of special tokens begin with that a chat template can name.
pub const SPECIAL_TOKENS: &str = "trilobite.special_tokens.";
/// Whether a chat samples.
pub const DO_SAMPLE: &str = "trilobite.generation.do_sample";

/// The whole tokenizer.json.
pub const TOKENIZER_JSON: &str = "tokenizer.huggingface.json";
/// The kind of the vocabulary.
pub const TOKENIZER: &str = "tokenizer.ggml.model";
/// How text is cut into words: see [`Words`](crate::model::Words).
pub const WORDS: &str = "tokenizer.ggml.pre";
/// The tokens.
pub const TOKENS: &str = "tokenizer.ggml.tokens";
/// Their kinds: see [`TokenKind`](crate::model::TokenKind).
pub const TOKEN_KINDS: &str = "tokenizer.ggml.token_type";
/// Their scores.
pub const SCORES: &str = "tokenizer.ggml.scores";
/// Pairs of tokens that are joined, the first before the others.
pub const MERGES: &str = "tokenizer.ggml.merges";
/// Whether a text begins with a space that is not in it.
pub const SPACE_PREFIX: &str = "tokenizer.ggml.add_space_prefix";
/// The chat template.
pub const CHAT_TEMPLATE: &str = "tokenizer.chat_template";
/// The chat template for conversations with tools.
pub const TOOL_TEMPLATE: &str = "tokenizer.chat_template.tool_use";

/// The id of a special token: `bos`, `eos`, `padding`.
pub fn token_id(name: &str) -> String {
    format!("{TOKEN_ID_START}{name}{TOKEN_ID_END}")
}

/// The name of a special token by the key of its id.
pub(crate) fn token_of_id(key: &str) -> Option<&str> {
    key.strip_prefix(TOKEN_ID_START)?.strip_suffix(TOKEN_ID_END)
}

const TOKEN_ID_START: &str = "tokenizer.ggml.";
const TOKEN_ID_END: &str = "_token_id";

/// Whether a special token is put around every text: `bos`, `eos`.
pub fn add_token(name: &str) -> String {
    format!("tokenizer.ggml.add_{name}_token")
}

/// The text of a special token: `bos_token`, `eos_token`.
pub fn token_text(name: &str) -> String {
    format!("trilobite.{name}")
}

/// One of the named chat templates of a model.
pub fn named_template(name: &str) -> String {
    format!("{CHAT_TEMPLATE}.{name}")
}

/// A setting of sampling, by its name in generation_config.json.
pub fn generation(name: &str) -> String {
    format!("trilobite.generation.{name}")
}

/// Keys that follow the name of the architecture and a dot.
#[allow(missing_docs, reason = "the fields of `Hyperparameters` and `Rope` say what they hold")]
pub mod model {
    pub const VOCAB: &str = "vocab_size";
    pub const CONTEXT: &str = "context_length";
    pub const HIDDEN: &str = "embedding_length";
    pub const LAYERS: &str = "block_count";
    pub const FFN: &str = "feed_forward_length";
    pub const HEADS: &str = "attention.head_count";
    pub const KV_HEADS: &str = "attention.head_count_kv";
    pub const HEAD_DIM: &str = "attention.key_length";
    pub const VALUE_DIM: &str = "attention.value_length";
    pub const NORM_EPS: &str = "attention.layer_norm_rms_epsilon";
    pub const ATTENTION_SCALE: &str = "attention.scale";
    pub const WINDOW: &str = "attention.sliding_window";
    pub const WINDOW_PATTERN: &str = "attention.sliding_window_pattern";
    pub const SOFTCAP: &str = "final_logit_softcapping";
    pub const ROPE: &str = "rope.";
    pub const ROPE_DIM: &str = "rope.dimension_count";
    pub const ROPE_DIM_WINDOW: &str = "rope.dimension_count_swa";
    pub const ROPE_BASE: &str = "rope.freq_base";
    pub const ROPE_BASE_WINDOW: &str = "rope.freq_base_swa";
    pub const SCALING: &str = "rope.scaling.type";
    pub const SCALING_FACTOR: &str = "rope.scaling.factor";
    /// What old files have for the factor.
    pub const OLD_SCALING_FACTOR: &str = "rope.scale_linear";
    pub const ATTENTION_FACTOR: &str = "rope.scaling.attn_factor";
    pub const ORIGINAL_CONTEXT: &str = "rope.scaling.original_context_length";
    pub const BETA_FAST: &str = "rope.scaling.yarn_beta_fast";
    pub const BETA_SLOW: &str = "rope.scaling.yarn_beta_slow";
    pub const TRUNCATE: &str = "rope.scaling.yarn_truncate";
    /// Says where the model comes from.
    pub const FINETUNED: &str = "rope.scaling.finetuned";
    /// Keys that llama.cpp reads for other architectures.
    pub const EXT_FACTOR: &str = "rope.scaling.yarn_ext_factor";
    pub const YARN_ATTENTION_FACTOR: &str = "rope.scaling.yarn_attn_factor";
    pub const LOG_MULTIPLIER: &str = "rope.scaling.yarn_log_multiplier";
}
