//! Decoders: from tokens to text.

use super::bytes;
use super::deadline::Deadline;
use super::node::{Fault, Node};
use super::pre_tokenizer::Prepend;
use super::replace::{Replace, check_growth, most_bytes};

/// The steps that turn the texts of tokens into the decoded text.
pub(super) struct Decoder(pub(super) Vec<DecoderStep>);

/// A step, which maps a list of texts to another. After the last step they are joined.
pub(super) enum DecoderStep {
    Bpe { suffix: String },
    ByteFallback,
    ByteLevel,
    Ctc { pad: String, delimiter: String, cleanup: bool },
    Fuse,
    Metaspace { replacement: char, prefix: bool },
    Replace(Replace),
    Strip { content: char, start: usize, stop: usize },
    WordPiece { prefix: String, cleanup: bool },
}

impl Decoder {
    pub(super) fn read(node: &Node<'_>) -> Result<Self, Fault> {
        let steps = node.steps("decoders")?;
        Ok(Self(steps.iter().map(DecoderStep::read).collect::<Result<_, _>>()?))
    }

    /// The bytes of a token that represents bytes instead of characters.
    pub(super) fn bytes(&self, token: &str) -> Option<Vec<u8>> {
        self.0.iter().find_map(|step| match step {
            DecoderStep::ByteLevel => bytes::from_characters(token),
            DecoderStep::ByteFallback => Some(vec![byte(token)?]),
            _ => None,
        })
    }

    /// Decodes the texts of tokens.
    pub(super) fn decode(&self, tokens: Vec<String>) -> Result<String, String> {
        let bytes = tokens.iter().map(String::len).sum();
        let most = most_bytes(bytes);
        let mut tokens = tokens;
        for step in &self.0 {
            tokens = step.apply(tokens, most)?;
        }
        Ok(tokens.concat())
    }
}

impl DecoderStep {
    fn read(node: &Node<'_>) -> Result<Self, Fault> {
        let text = |key: &str| node.need(key)?.string().map(str::to_owned);
        let cleanup = || node.need("cleanup")?.boolean();
        Ok(match node.kind()? {
            "BPEDecoder" => Self::Bpe { suffix: text("suffix")? },
            "ByteFallback" => Self::ByteFallback,
            "ByteLevel" => Self::ByteLevel,
            "CTC" => Self::Ctc {
                pad: text("pad_token")?,
                delimiter: text("word_delimiter_token")?,
                cleanup: cleanup()?,
            },
            "Fuse" => Self::Fuse,
            "Metaspace" => Self::Metaspace {
                replacement: node.need("replacement")?.character()?,
                prefix: Prepend::read(node)? != Prepend::Never,
            },
            "Replace" => Self::Replace(Replace::read(node)?),
            "Strip" => Self::Strip {
                content: node.need("content")?.character()?,
                start: node.need("start")?.count()?,
                stop: node.need("stop")?.count()?,
            },
            "WordPiece" => Self::WordPiece { prefix: text("prefix")?, cleanup: cleanup()? },
            _ => return Err(node.unknown_kind()),
        })
    }

    fn apply(&self, mut tokens: Vec<String>, most: usize) -> Result<Vec<String>, String> {
        match self {
            Self::Bpe { suffix } => {
                let last = tokens.len().saturating_sub(1);
                for (at, token) in tokens.iter_mut().enumerate() {
                    *token = replaced(token, suffix, if at == last { "" } else { " " }, most)?;
                }
            }
            Self::ByteFallback => return Ok(with_bytes(tokens)),
            Self::ByteLevel => {
                let bytes = |token: &String| {
                    bytes::from_characters(token).unwrap_or_else(|| token.as_bytes().to_vec())
                };
                let bytes: Vec<u8> = tokens.iter().flat_map(bytes).collect();
                return Ok(vec![String::from_utf8_lossy(&bytes).into_owned()]);
            }
            Self::Ctc { pad, delimiter, cleanup } => {
                tokens.dedup();
                for token in &mut tokens {
                    *token = replaced(token, pad, "", most)?;
                    if *cleanup {
                        *token = replaced(&clean_up_token(token), delimiter, " ", most)?;
                    }
                }
                tokens.retain(|token| !token.is_empty());
            }
            Self::Fuse => return Ok(vec![tokens.concat()]),
            Self::Metaspace { replacement, prefix } => {
                for (at, token) in tokens.iter_mut().enumerate() {
                    let space = if at == 0 && *prefix { "" } else { " " };
                    *token = token.replace(*replacement, space);
                }
            }
            Self::Replace(replace) => {
                let mut bytes = 0;
                for token in &mut tokens {
                    let deadline = Deadline::for_text(token);
                    *token = replace.apply(token, most, &deadline)?.0;
                    bytes += token.len();
                    check_growth(bytes, most)?;
                }
            }
            Self::Strip { content, start, stop } => {
                for token in &mut tokens {
                    *token = stripped(token, *content, *start, *stop).to_owned();
                }
            }
            Self::WordPiece { prefix, cleanup } => {
                for (at, token) in tokens.iter_mut().enumerate() {
                    if at > 0 {
                        *token = match token.strip_prefix(prefix) {
                            Some(rest) => rest.to_owned(),
                            None => format!(" {token}"),
                        };
                    }
                    if *cleanup {
                        *token = clean_up_token(token);
                    }
                }
            }
        }
        Ok(tokens)
    }
}

/// `str::replace` with a length limit. An empty pattern matches between all characters.
fn replaced(text: &str, from: &str, to: &str, most: usize) -> Result<String, String> {
    let new = text.replace(from, to);
    check_growth(new.len(), most)?;
    Ok(new)
}

/// Replaces tokens such as `<0x41>` by the bytes they represent. Each byte of a sequence that is
/// not valid UTF-8 becomes a replacement character.
fn with_bytes(tokens: Vec<String>) -> Vec<String> {
    let mut out = Vec::with_capacity(tokens.len());
    let mut bytes = Vec::new();
    let flush = |bytes: &mut Vec<u8>, out: &mut Vec<String>| {
        if bytes.is_empty() {
            return;
        }
        let count = bytes.len();
        match String::from_utf8(std::mem::take(bytes)) {
            Ok(text) => out.push(text),
            Err(_) => out.extend(std::iter::repeat_n("\u{FFFD}".to_owned(), count)),
        }
    };
    for token in tokens {
        match byte(&token) {
            Some(byte) => bytes.push(byte),
            None => {
                flush(&mut bytes, &mut out);
                out.push(token);
            }
        }
    }
    flush(&mut bytes, &mut out);
    out
}

/// The byte that a token such as `<0x41>` represents.
fn byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    let byte = digits.filter(|digits| digits.len() == 2);
    byte.and_then(|digits| u8::from_str_radix(digits, 16).ok())
}

/// Removes a character from the ends of a text, at most `start` and `stop` times.
fn stripped(text: &str, content: char, start: usize, stop: usize) -> &str {
    let mut text = text;
    for _ in 0..start {
        let Some(rest) = text.strip_prefix(content) else { break };
        text = rest;
    }
    for _ in 0..stop {
        let Some(rest) = text.strip_suffix(content) else { break };
        text = rest;
    }
    text
}

/// Removes the spaces that tokenization left in English text.
pub(super) fn clean_up(text: &str) -> String {
    cleaned(text, false)
}

/// The variant of [`clean_up`] for single tokens, which also contracts "do not".
fn clean_up_token(text: &str) -> String {
    cleaned(text, true)
}

/// Applies the replacements in the order of the reference.
fn cleaned(text: &str, contracts: bool) -> String {
    let text = text
        .replace(" .", ".")
        .replace(" ?", "?")
        .replace(" !", "!")
        .replace(" ,", ",")
        .replace(" ' ", "'")
        .replace(" n't", "n't")
        .replace(" 'm", "'m");
    let text = if contracts { text.replace(" do not", " don't") } else { text };
    text.replace(" 's", "'s").replace(" 've", "'ve").replace(" 're", "'re")
}
