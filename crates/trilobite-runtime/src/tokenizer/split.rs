//! How byte-level tokenizers cut a text into words before any merge: the pre-tokenizers that
//! `tokenizer.ggml.pre` names.

use super::pattern::Pattern;
use super::pre_tokenizer::{Behavior, Step};

/// A way to cut, with what goes along with it in the models that use it.
pub(super) struct Words {
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
pub(super) const GPT_2: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const GPT_4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const PLAIN: Words =
    Words { names: &[], expressions: &[], ignore_merges: false, add_bos: false, compose: false };

/// What Llama 3 and BitNet b1.58 2B4T use.
pub(super) static LLAMA_BPE: Words = Words {
    names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "lfm2"],
    expressions: &[LLAMA_3],
    ignore_merges: true,
    add_bos: true,
    ..PLAIN
};

/// What llama.cpp takes for files that name none.
pub(super) static DEFAULT: Words = Words {
    names: &["default"],
    expressions: &[r"[\p{P}\$\+<=>\^~\|]+", GPT_2, r"\p{N}+", r"[0-9][0-9][0-9]"],
    ..PLAIN
};

static OTHERS: [Words; 7] = [
    // Alone in composing: the published tokenizers of Qwen 2 and 2.5 do, llama.cpp does not.
    Words { names: &["qwen2", "deepseek-r1-qwen"], expressions: &[QWEN_2], compose: true, ..PLAIN },
    Words { names: &["stablelm2", "megrez"], expressions: &[QWEN_2], ..PLAIN },
    Words {
        names: &["gpt-2", "phi-2", "olmo", "mpt", "jais", "gigachat", "exaone4"],
        expressions: &[GPT_2],
        ..PLAIN
    },
    // Digits one by one.
    Words {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell", "minerva-7b"],
        expressions: &[r"\p{N}", GPT_2],
        ..PLAIN
    },
    Words { names: &["dbrx", "smaug-bpe"], expressions: &[LLAMA_3], ..PLAIN },
    Words { names: &["gpt-4o", "llama4"], expressions: &[GPT_4O], ..PLAIN },
    Words {
        names: &["tekken"],
        expressions: &[TEKKEN],
        ignore_merges: true,
        add_bos: true,
        ..PLAIN
    },
];

/// All that have a name.
pub(super) fn all() -> impl Iterator<Item = &'static Words> {
    [&LLAMA_BPE, &DEFAULT].into_iter().chain(&OTHERS)
}

impl Words {
    /// The one that a file names.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        all().find(|candidate| candidate.names.contains(&name))
    }

    #[cfg(test)]
    pub(super) fn expressions(&self) -> &'static [&'static str] {
        self.expressions
    }

    /// Its usual name.
    pub(super) fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }

    /// The steps: cutting, then bytes as the characters that stand for them in the vocabulary.
    pub(super) fn steps(&self) -> Result<Vec<Step>, String> {
        let mut steps = Vec::with_capacity(self.expressions.len() + 1);
        for &expression in self.expressions {
            let pattern = Pattern::expression(expression)?;
            steps.push(Step::Split { pattern, behavior: Behavior::Isolated, invert: false });
        }
        steps.push(Step::ByteLevel { prefix: false, words: None });
        Ok(steps)
    }
}
