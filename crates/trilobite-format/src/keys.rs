//! The names of metadata keys, shared by readers and writers.

/// The architecture: see [`Architecture`](crate::model::Architecture).
pub const ARCHITECTURE: &str = "general.architecture";
/// The name of the model.
pub const NAME: &str = "general.name";
/// The alignment: tensor offsets are multiples of it.
pub const ALIGNMENT: &str = "general.alignment";
/// llama.cpp's number of the type of most weights in the file.
pub const FILE_TYPE: &str = "general.file_type";
/// The version of ggml's block formats.
pub const QUANTIZATION_VERSION: &str = "general.quantization_version";

/// The index of a file among the parts of a split model, from 0.
pub const SPLIT_INDEX: &str = "split.no";
/// Number of parts.
pub const SPLIT_COUNT: &str = "split.count";
/// Number of tensors in all parts.
pub const SPLIT_TENSORS: &str = "split.tensors.count";

/// The version of Trilobite that wrote the file.
pub const VERSION: &str = "trilobite.version";
/// The projections of a BitNet model that are dense, such as `blk.0.attn_v.weight`.
pub const DENSE_PROJECTIONS: &str = "trilobite.dense_projections";
/// The tokens that end a text or a turn.
pub const END_IDS: &str = "trilobite.eos_token_ids";
/// Whether decoding removes the spaces before punctuation.
pub const CLEAN_UP: &str = "trilobite.clean_up_tokenization_spaces";
/// The prefix of the keys of special tokens that a chat template can name.
pub const SPECIAL_TOKENS: &str = "trilobite.special_tokens.";
/// Whether to sample by default; greedy decoding otherwise.
pub const DO_SAMPLE: &str = "trilobite.generation.do_sample";
/// Notes about settings of the checkpoint's generation_config.json that are left out.
pub const UNUSABLE: &str = "trilobite.generation.unusable";

/// The prefix of the keys of an embedding model's prompts. The name of the prompt follows.
pub const PROMPTS: &str = "trilobite.prompts.";
/// The name of the prompt that precedes every text by default.
pub const DEFAULT_PROMPT: &str = "trilobite.default_prompt";

/// The whole tokenizer.json.
pub const TOKENIZER_JSON: &str = "tokenizer.huggingface.json";
/// The kind of tokenizer, such as `gpt2` or `llama`.
pub const TOKENIZER: &str = "tokenizer.ggml.model";
/// How text is cut into words: see [`Words`](crate::model::Words).
pub const WORDS: &str = "tokenizer.ggml.pre";
/// The tokens.
pub const TOKENS: &str = "tokenizer.ggml.tokens";
/// The kinds of the tokens: see [`TokenKind`](crate::model::TokenKind).
pub const TOKEN_KINDS: &str = "tokenizer.ggml.token_type";
/// The scores of the tokens.
pub const SCORES: &str = "tokenizer.ggml.scores";
/// The BPE merges: pairs of tokens, highest priority first.
pub const MERGES: &str = "tokenizer.ggml.merges";
/// Whether the tokenizer inserts a space before the text.
pub const SPACE_PREFIX: &str = "tokenizer.ggml.add_space_prefix";
/// SentencePiece's precompiled character map, as bytes.
pub const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";
/// Whether the tokenizer removes spaces at both ends of a text, and all but one in a row.
pub const EXTRA_SPACES: &str = "tokenizer.ggml.remove_extra_whitespaces";
/// The chat template.
pub const CHAT_TEMPLATE: &str = "tokenizer.chat_template";
/// The chat template for conversations with tools.
pub const TOOL_TEMPLATE: &str = "tokenizer.chat_template.tool_use";

/// The key of a special token's id. `name` is `bos`, `eos` or `padding`.
pub fn token_id(name: &str) -> String {
    format!("{TOKEN_ID_START}{name}{TOKEN_ID_END}")
}

/// The name of the special token whose id has this key: the inverse of [`token_id`].
pub(crate) fn token_of_id(key: &str) -> Option<&str> {
    key.strip_prefix(TOKEN_ID_START)?.strip_suffix(TOKEN_ID_END)
}

const TOKEN_ID_START: &str = "tokenizer.ggml.";
const TOKEN_ID_END: &str = "_token_id";

/// The key that says whether a special token is added to every text. `name` is `bos` or `eos`.
pub fn add_token(name: &str) -> String {
    format!("tokenizer.ggml.add_{name}_token")
}

/// The key of a special token's text. `name` is `bos_token` or `eos_token`.
pub fn token_text(name: &str) -> String {
    format!("trilobite.{name}")
}

/// The key of a named chat template.
pub fn named_template(name: &str) -> String {
    format!("{CHAT_TEMPLATE}.{name}")
}

/// The key of a sampling parameter, by its name in generation_config.json.
pub fn generation(name: &str) -> String {
    format!("trilobite.generation.{name}")
}

/// Keys that follow the name of the architecture and a dot, such as `llama.vocab_size`.
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
    pub const EXPERTS: &str = "expert_count";
    pub const EXPERTS_USED: &str = "expert_used_count";
    pub const EXPERT_FFN: &str = "expert_feed_forward_length";
    pub const EXPERT_CLAMP: &str = "swiglu_clamp_exp";
    /// The prefix of the keys of experts.
    pub const EXPERT: &str = "expert_";
    /// llama.cpp's number of the function that turns router logits into weights.
    pub const EXPERT_GATING: &str = "expert_gating_func";
    /// Whether the weights of the chosen experts are divided by their sum.
    pub const EXPERT_NORM: &str = "expert_weights_norm";
    /// A factor of the weights of the chosen experts.
    pub const EXPERT_SCALE: &str = "expert_weights_scale";
    pub const WINDOW: &str = "attention.sliding_window";
    pub const WINDOW_PATTERN: &str = "attention.sliding_window_pattern";
    pub const PROJECTION_NORM_EPS: &str = "attention.projection_norm_rms_epsilon";
    pub const POOLING: &str = "pooling_type";
    pub const EMBEDDING_SCALE: &str = "embedding_scale";
    pub const RESIDUAL_SCALE: &str = "residual_scale";
    pub const LOGIT_SCALE: &str = "logit_scale";
    pub const SOFTCAP: &str = "final_logit_softcapping";
    pub const ROPE: &str = "rope.";
    pub const ROPE_DIM: &str = "rope.dimension_count";
    pub const ROPE_DIM_WINDOW: &str = "rope.dimension_count_swa";
    pub const ROPE_BASE: &str = "rope.freq_base";
    pub const ROPE_BASE_WINDOW: &str = "rope.freq_base_swa";
    pub const SCALING: &str = "rope.scaling.type";
    pub const SCALING_FACTOR: &str = "rope.scaling.factor";
    /// The scaling factor in old files.
    pub const OLD_SCALING_FACTOR: &str = "rope.scale_linear";
    pub const ATTENTION_FACTOR: &str = "rope.scaling.attn_factor";
    pub const ORIGINAL_CONTEXT: &str = "rope.scaling.original_context_length";
    pub const BETA_FAST: &str = "rope.scaling.yarn_beta_fast";
    pub const BETA_SLOW: &str = "rope.scaling.yarn_beta_slow";
    pub const TRUNCATE: &str = "rope.scaling.yarn_truncate";
    /// Whether the scaled model was fine-tuned; changes no computation.
    pub const FINETUNED: &str = "rope.scaling.finetuned";
    /// This key and the two below are read by llama.cpp for other architectures.
    pub const EXT_FACTOR: &str = "rope.scaling.yarn_ext_factor";
    pub const YARN_ATTENTION_FACTOR: &str = "rope.scaling.yarn_attn_factor";
    pub const LOG_MULTIPLIER: &str = "rope.scaling.yarn_log_multiplier";
}
