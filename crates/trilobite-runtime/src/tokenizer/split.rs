//! How byte-level tokenizers cut a text into words before any merge: the pre-tokenizers that
//! `tokenizer.ggml.pre` names.

use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

use crate::error::Result;

/// A way to cut, with what goes along with it in the models that use it.
pub(super) struct PreTokenizer {
    /// Its values of `tokenizer.ggml.pre`, the usual one first.
    names: &'static [&'static str],
    /// Regular expressions, one after another. Each cuts the pieces that the one before it left
    /// into matches and what lies between them.
    expressions: &'static [&'static str],
    /// Whether a word that is a token is that token, whatever the merges say.
    pub(super) ignore_merges: bool,
    /// Whether a text begins with the BOS token where the file does not say.
    pub(super) add_bos: bool,
    /// Whether Unicode's composed form of the text is taken.
    pub(super) compose: bool,
}

const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT_2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const GPT_4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const PLAIN: PreTokenizer = PreTokenizer {
    names: &[],
    expressions: &[],
    ignore_merges: false,
    add_bos: false,
    compose: false,
};

/// What Llama 3 and BitNet b1.58 2B4T use.
pub(super) static LLAMA_BPE: PreTokenizer = PreTokenizer {
    names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "lfm2"],
    expressions: &[LLAMA_3],
    ignore_merges: true,
    add_bos: true,
    ..PLAIN
};

/// What llama.cpp takes for files that name none.
pub(super) static DEFAULT: PreTokenizer = PreTokenizer {
    names: &["default"],
    expressions: &[r"[\p{P}\$\+<=>\^~\|]+", GPT_2, r"\p{N}+", r"[0-9][0-9][0-9]"],
    ..PLAIN
};

static OTHERS: [PreTokenizer; 7] = [
    // Alone in composing: the published tokenizers of Qwen 2 and 2.5 do, llama.cpp does not.
    PreTokenizer {
        names: &["qwen2", "deepseek-r1-qwen"],
        expressions: &[QWEN_2],
        compose: true,
        ..PLAIN
    },
    PreTokenizer { names: &["stablelm2", "megrez"], expressions: &[QWEN_2], ..PLAIN },
    PreTokenizer {
        names: &["gpt-2", "phi-2", "olmo", "mpt", "jais", "gigachat", "exaone4"],
        expressions: &[GPT_2],
        ..PLAIN
    },
    // Digits one by one.
    PreTokenizer {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell", "minerva-7b"],
        expressions: &[r"\p{N}", GPT_2],
        ..PLAIN
    },
    PreTokenizer { names: &["dbrx", "smaug-bpe"], expressions: &[LLAMA_3], ..PLAIN },
    PreTokenizer { names: &["gpt-4o", "llama4"], expressions: &[GPT_4O], ..PLAIN },
    PreTokenizer {
        names: &["tekken"],
        expressions: &[TEKKEN],
        ignore_merges: true,
        add_bos: true,
        ..PLAIN
    },
];

impl PreTokenizer {
    /// The one that a file names.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        let mut all = [&LLAMA_BPE, &DEFAULT].into_iter().chain(&OTHERS);
        all.find(|candidate| candidate.names.contains(&name))
    }

    /// Its usual name.
    pub(super) fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }

    /// The steps for the `tokenizers` crate: cutting, then bytes as the characters that stand for
    /// them in the vocabulary.
    pub(super) fn build(&self) -> Result<PreTokenizerWrapper> {
        let mut steps = Vec::with_capacity(self.expressions.len() + 1);
        for &expression in self.expressions {
            let pattern = SplitPattern::Regex(expression.to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
            steps.push(PreTokenizerWrapper::Split(split.map_err(super::error)?));
        }
        steps.push(PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, false)));
        Ok(PreTokenizerWrapper::Sequence(Sequence::new(steps)))
    }
}
