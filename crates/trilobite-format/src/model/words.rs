//! Pre-tokenization: how byte-level tokenizers split a text into words before they apply merges.

/// A pre-tokenizer, with the other settings of the models that use it.
#[derive(Debug, PartialEq, Eq)]
pub struct Words {
    /// Its names in [`keys::WORDS`](crate::keys::WORDS), the most common first.
    pub names: &'static [&'static str],
    /// Regular expressions, applied in order. Each splits the pieces of the one before into matches
    /// and the text between matches.
    pub expressions: &'static [&'static str],
    /// Whether a word in the vocabulary becomes one token without applying merges.
    pub ignore_merges: bool,
    /// Whether a text begins with the BOS token by default.
    pub add_bos: bool,
    /// Whether the text is normalised to Unicode's composed form (NFC).
    pub compose: bool,
}

const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The expression of GPT-2, which `ByteLevel` of a tokenizer.json applies by default.
pub const GPT_2: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const GPT_4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const PLAIN: Words =
    Words { names: &[], expressions: &[], ignore_merges: false, add_bos: false, compose: false };

static ALL: [Words; 9] = [
    Words {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "lfm2"],
        expressions: &[LLAMA_3],
        ignore_merges: true,
        add_bos: true,
        ..PLAIN
    },
    Words {
        names: &["default"],
        expressions: &[r"[\p{P}\$\+<=>\^~\|]+", GPT_2, r"\p{N}+", r"[0-9][0-9][0-9]"],
        ..PLAIN
    },
    Words {
        names: &["gpt-2", "phi-2", "olmo", "mpt", "jais", "gigachat", "exaone4"],
        expressions: &[GPT_2],
        ..PLAIN
    },
    // Digits are split off one by one.
    Words {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell", "minerva-7b"],
        expressions: &[r"\p{N}", GPT_2],
        ..PLAIN
    },
    // The only one that composes: the published tokenizers of Qwen 2 and 2.5 do, llama.cpp does
    // not.
    Words { names: &["qwen2", "deepseek-r1-qwen"], expressions: &[QWEN_2], compose: true, ..PLAIN },
    Words { names: &["stablelm2", "megrez"], expressions: &[QWEN_2], ..PLAIN },
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

/// Special tokens of the vocabulary that Llama 3 and BitNet b1.58 2B4T share. They identify the
/// pre-tokenizer of the GGUF file published for the latter, which does not name it.
const LLAMA_3_MARKS: [&str; 2] = ["<|begin_of_text|>", END_OF_TURN];

/// The token that ends a turn in Llama 3's vocabulary.
pub const END_OF_TURN: &str = "<|eot_id|>";

impl Words {
    /// All pre-tokenizers. Among those with equal expressions the most common comes first.
    pub const ALL: &'static [Self] = &ALL;
    /// The pre-tokenizer of Llama 3 and BitNet b1.58 2B4T.
    pub const LLAMA_3: &'static Self = &ALL[0];
    /// The pre-tokenizer that llama.cpp uses for files that name none.
    pub const DEFAULT: &'static Self = &ALL[1];
    /// The pre-tokenizer of GPT-2: what `ByteLevel` of a tokenizer.json does by default.
    pub const GPT_2: &'static Self = &ALL[2];
    /// [`GPT_2`](Self::GPT_2) with every digit split off first.
    pub const DIGITS: &'static Self = &ALL[3];

    /// The pre-tokenizer with this name in a file.
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|words| words.names.contains(&name))
    }

    /// The most common pre-tokenizer with this single expression.
    pub fn by(expression: &str) -> Option<&'static Self> {
        ALL.iter().find(|words| words.expressions == [expression])
    }

    /// The pre-tokenizer of a file that names none, if its vocabulary identifies it.
    pub fn marked(has_token: impl Fn(&str) -> bool) -> Option<&'static Self> {
        LLAMA_3_MARKS.into_iter().any(has_token).then_some(Self::LLAMA_3)
    }

    /// The most common name.
    pub fn name(&self) -> &'static str {
        self.names[0]
    }
}

#[cfg(test)]
mod tests;
