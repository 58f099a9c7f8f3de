//! How byte-level tokenizers cut a text into words before any merge.

/// A way to cut, with what goes along with it in the models that use it.
#[derive(Debug, PartialEq, Eq)]
pub struct Words {
    /// Its values of [`keys::WORDS`](crate::keys::WORDS), the usual one first.
    pub names: &'static [&'static str],
    /// Regular expressions, one after another. Each cuts the pieces that the one before it left
    /// into matches and what lies between them.
    pub expressions: &'static [&'static str],
    /// Whether a word that is a token is that token, whatever the merges say.
    pub ignore_merges: bool,
    /// Whether a text begins with the BOS token where the file does not say.
    pub add_bos: bool,
    /// Whether Unicode's composed form of the text is taken.
    pub compose: bool,
}

const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// How GPT-2 cuts, and `ByteLevel` of a tokenizer.json by itself.
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
    // Digits one by one.
    Words {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell", "minerva-7b"],
        expressions: &[r"\p{N}", GPT_2],
        ..PLAIN
    },
    // Alone in composing: the published tokenizers of Qwen 2 and 2.5 do, llama.cpp does not.
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

/// Special tokens of Llama 3's vocabulary, which BitNet b1.58 2B4T has too. The GGUF file
/// published of the latter does not say how it splits words.
const LLAMA_3_MARKS: [&str; 2] = ["<|begin_of_text|>", END_OF_TURN];

/// The token that ends a turn in Llama 3's vocabulary.
pub const END_OF_TURN: &str = "<|eot_id|>";

impl Words {
    /// All ways. Of those that cut alike the usual one comes first.
    pub const ALL: &'static [Self] = &ALL;
    /// What Llama 3 and BitNet b1.58 2B4T use.
    pub const LLAMA_3: &'static Self = &ALL[0];
    /// What llama.cpp takes for files that name none.
    pub const DEFAULT: &'static Self = &ALL[1];
    /// What `ByteLevel` of a tokenizer.json does by itself.
    pub const GPT_2: &'static Self = &ALL[2];
    /// The same after every digit was cut off.
    pub const DIGITS: &'static Self = &ALL[3];

    /// The way that a file names.
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|words| words.names.contains(&name))
    }

    /// The usual way that cuts by one expression.
    pub fn by(expression: &str) -> Option<&'static Self> {
        ALL.iter().find(|words| words.expressions == [expression])
    }

    /// The way of a file that names none, where its vocabulary shows it.
    pub fn marked(has_token: impl Fn(&str) -> bool) -> Option<&'static Self> {
        LLAMA_3_MARKS.into_iter().any(has_token).then_some(Self::LLAMA_3)
    }

    /// Its usual name.
    pub fn name(&self) -> &'static str {
        self.names[0]
    }
}

#[cfg(test)]
mod tests;
