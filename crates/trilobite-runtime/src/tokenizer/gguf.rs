//! Tokenizers from the `tokenizer.ggml` arrays of a GGUF file.

use trilobite_format::keys::{self, MERGES, SCORES, TOKEN_KINDS, TOKENIZER, TOKENS, WORDS};
use trilobite_format::model::{TokenKind, Words, special_id};
use trilobite_format::{Error as FormatError, Metadata};

use super::added::{AddedToken, AddedTokens};
use super::charsmap::Charsmap;
use super::decoder::{Decoder, DecoderStep};
use super::model::TokenizationModel;
use super::node::Fault;
use super::normalizer::{Form, Normalizer, NormalizerStep};
use super::parts::Parts;
use super::pattern::Pattern;
use super::pre_tokenizer::PreTokenizer;
use super::ranked::{BadMerge, Ranked, Settings};
use super::replace::Replace;
use super::scored::Scored;
use super::split;
use super::template::Template;
use super::unigram::Unigram;
use super::vocabulary::Vocabulary;
use crate::error::{Error, Result};

/// SentencePiece's character for a space.
const BLANK: &str = "\u{2581}";

/// Builds the tokenizer, and returns the assumptions that this took.
pub(super) fn read(metadata: &Metadata) -> Result<(Parts, Option<String>)> {
    let arrays = Arrays::read(metadata)?;
    match metadata.str(TOKENIZER)? {
        Some("gpt2") => byte_level(&arrays),
        Some("llama") => Ok((sentence_piece(&arrays, scored)?, None)),
        Some("t5") => Ok((sentence_piece(&arrays, unigram)?, None)),
        Some(other) => Err(bad(
            TOKENIZER,
            "gpt2 (byte-level BPE), llama or t5 (SentencePiece)",
            format!("{other:?}"),
        )),
        None => Err(missing(TOKENIZER)),
    }
}

fn bad(key: &str, expected: impl Into<String>, found: impl Into<String>) -> Error {
    FormatError::BadValue { key: key.to_owned(), expected: expected.into(), found: found.into() }
        .into()
}

fn missing(key: &str) -> Error {
    FormatError::MissingKey(key.to_owned()).into()
}

/// The arrays that both kinds of vocabulary have.
struct Arrays<'a> {
    metadata: &'a Metadata,
    tokens: &'a [String],
    kinds: Vec<TokenKind>,
}

impl<'a> Arrays<'a> {
    fn read(metadata: &'a Metadata) -> Result<Self> {
        let tokens = metadata.strings(TOKENS)?.ok_or_else(|| missing(TOKENS))?;
        if tokens.is_empty() {
            return Err(bad(TOKENS, "at least one token", "empty"));
        }
        let kinds = match metadata.i32s(TOKEN_KINDS)? {
            Some(numbers) => numbers.into_iter().map(TokenKind::of).collect(),
            None => vec![TokenKind::Normal; tokens.len()],
        };
        let arrays = Self { metadata, tokens, kinds };
        arrays.same_length(TOKEN_KINDS, arrays.kinds.len())?;
        Ok(arrays)
    }

    /// Checks that an array has one entry for every token.
    fn same_length(&self, key: &str, found: usize) -> Result<()> {
        if found == self.tokens.len() {
            return Ok(());
        }
        let expected = format!("an entry for each of the {} tokens", self.tokens.len());
        Err(bad(key, expected, format!("{found} entries")))
    }

    /// The vocabulary.
    fn vocabulary(&self) -> Vocabulary {
        let mut vocabulary = Vocabulary::with_capacity(self.tokens.len());
        for (token, &kind) in self.tokens.iter().zip(&self.kinds) {
            // Padding ids, which are not trained. No text contains them and they decode to nothing.
            if kind == TokenKind::Unused {
                vocabulary.push_silent("");
            } else {
                vocabulary.push(token);
            }
        }
        vocabulary
    }

    /// The tokens added around every text. Files may leave their ids to the kind of the vocabulary.
    fn surroundings(&self, add_bos: bool, bos: Option<u32>, eos: Option<u32>) -> Result<Template> {
        let mut template = Template::default();
        let wanted = [
            ("bos", add_bos, special_id(self.metadata, "bos")?.or(bos), &mut template.before),
            ("eos", false, special_id(self.metadata, "eos")?.or(eos), &mut template.after),
        ];
        for (name, default, id, ids) in wanted {
            let add = self.metadata.bool(&keys::add_token(name))?;
            let id = id.filter(|&id| (id as usize) < self.tokens.len());
            if add.unwrap_or(default) {
                ids.extend(id);
            }
        }
        Ok(template)
    }

    /// The added tokens. Control tokens match where special tokens are parsed. User-defined tokens
    /// always match, in the original or the normalized text.
    fn added(
        &self,
        normalized: bool,
        model: &TokenizationModel,
        normalizer: &Normalizer,
    ) -> Result<AddedTokens> {
        let added = self.tokens.iter().zip(&self.kinds).filter_map(|(token, &kind)| {
            let special = match kind {
                TokenKind::Control | TokenKind::Unknown => true,
                TokenKind::UserDefined => false,
                _ => return None,
            };
            let normalized = normalized && !special;
            Some(AddedToken { normalized, ..AddedToken::new(token, special) })
        });
        AddedTokens::new(added.collect(), model, normalizer).map_err(|fault: Fault| {
            Error::TokenizerFile {
                place: format!("metadata key {TOKENS}"),
                fault: fault.to_string(),
            }
        })
    }
}

/// Builds a GPT-2 tokenizer: words, bytes written as characters, a list of merges.
fn byte_level(arrays: &Arrays<'_>) -> Result<(Parts, Option<String>)> {
    let vocabulary = arrays.vocabulary();
    let (pre, assumption) = pre_tokenizer(arrays.metadata, &vocabulary)?;
    let merges = arrays.metadata.strings(MERGES)?;
    let merges = merges.ok_or_else(|| missing(MERGES))?;
    let mut pairs = Vec::with_capacity(merges.len());
    for (rank, merge) in merges.iter().enumerate() {
        // The first character of a token can be a space, later ones cannot.
        let middle = merge.char_indices().skip(1).find(|&(_, c)| c == ' ').map(|(at, _)| at);
        let pair = middle.and_then(|at| Some((merge.get(..at)?, merge.get(at + 1..)?)));
        pairs.push(pair.ok_or_else(|| {
            bad(MERGES, "two tokens and a blank in each", format!("{merge:?} (number {rank})"))
        })?);
    }
    let settings = Settings { ignore_merges: pre.ignore_merges, ..Settings::default() };
    let model = Ranked::new(vocabulary, pairs.into_iter(), settings);
    let model = model.map_err(|BadMerge { rank, text }| {
        let merge = merges.get(rank).map_or("", String::as_str);
        let found = format!("{merge:?} (number {rank}), where {text:?} is no token");
        bad(MERGES, "pairs of tokens that make a token", found)
    })?;
    let model = TokenizationModel::Ranked(model);
    let compose = NormalizerStep::Form(Form::Nfc);
    let normalizer = Normalizer(pre.compose.then_some(compose).into_iter().collect());
    let parts = Parts {
        added: arrays.added(false, &model, &normalizer)?,
        normalizer,
        pre_tokenizer: PreTokenizer(split::steps(pre).map_err(Error::Tokenizer)?),
        model,
        template: arrays.surroundings(pre.add_bos, None, None)?,
        decoder: Some(Decoder(vec![DecoderStep::ByteLevel])),
    };
    Ok((parts, assumption))
}

/// The pre-tokenizer that the file names, or the most likely one.
fn pre_tokenizer(
    metadata: &Metadata,
    vocabulary: &Vocabulary,
) -> Result<(&'static Words, Option<String>)> {
    let name = metadata.str(WORDS)?;
    if let Some(pre) = name.and_then(Words::named) {
        return Ok((pre, None));
    }
    let pre = Words::marked(|text| vocabulary.id(text).is_some()).unwrap_or(Words::DEFAULT);
    let fault = match name {
        None => format!("{WORDS} is missing"),
        Some(name) => format!("{WORDS} is {name:?}, which is not known"),
    };
    Ok((pre, Some(format!("{fault}: assuming {}, token ids may differ", pre.name()))))
}

/// Builds a SentencePiece tokenizer: no words, spaces written as U+2581, scores instead of merges.
fn sentence_piece(
    arrays: &Arrays<'_>,
    model: fn(&Arrays<'_>, &[f32], Option<u32>) -> Result<TokenizationModel>,
) -> Result<Parts> {
    let scores = arrays.metadata.f32s(SCORES)?;
    let scores = scores.ok_or_else(|| missing(SCORES))?;
    arrays.same_length(SCORES, scores.len())?;
    if let Some(id) = scores.iter().position(|score| score.is_nan()) {
        return Err(bad(SCORES, "numbers", format!("NaN for token {id}")));
    }
    let of_type = |wanted: TokenKind| arrays.kinds.iter().position(|&kind| kind == wanted);
    let unknown =
        special_id(arrays.metadata, "unknown")?.or(of_type(TokenKind::Unknown).map(|id| id as u32));
    let model = model(arrays, scores, unknown)?;
    let replace = |from: &str, to: &str| -> Result<Replace> {
        Ok(Replace::new(Pattern::text(from).map_err(Error::Tokenizer)?, to))
    };
    let mut normalizer = Vec::new();
    if let Some(map) = arrays.metadata.i32s(keys::CHARSMAP)?.filter(|map| !map.is_empty()) {
        // Signed in some files.
        let bytes: Vec<u8> = map.into_iter().map(|byte| byte as u8).collect();
        let map = Charsmap::new(&bytes).map_err(|fault| Error::TokenizerFile {
            place: format!("metadata key {}", keys::CHARSMAP),
            fault,
        })?;
        normalizer.push(NormalizerStep::LongestMatches(map));
    }
    if arrays.metadata.bool(keys::EXTRA_SPACES)? == Some(true) {
        normalizer.push(NormalizerStep::ExtraSpaces);
    }
    let mut decoder = vec![
        DecoderStep::Replace(replace(BLANK, " ")?),
        DecoderStep::ByteFallback,
        DecoderStep::Fuse,
    ];
    // Every text, and every stretch between special tokens, begins with a space, as words do.
    let prefix = arrays.metadata.bool(keys::SPACE_PREFIX)?.unwrap_or(true);
    if prefix {
        normalizer.push(NormalizerStep::Prepend(BLANK.to_owned()));
        decoder.push(DecoderStep::Strip { content: ' ', start: 1, stop: 0 });
    }
    normalizer.push(NormalizerStep::Replace(replace(" ", BLANK)?));
    let normalizer = Normalizer(normalizer);
    Ok(Parts {
        // Tokens such as two spaces match in the normalized text, where spaces are U+2581. With a
        // prefix that is not possible, since the tokens themselves would get the prefix too.
        added: arrays.added(!prefix, &model, &normalizer)?,
        normalizer,
        pre_tokenizer: PreTokenizer::default(),
        model,
        template: arrays.surroundings(true, Some(1), Some(2))?,
        decoder: Some(Decoder(decoder)),
    })
}

/// Byte-pair encoding by scores (Llama 2, Gemma). Text outside the vocabulary becomes byte tokens.
fn scored(arrays: &Arrays<'_>, scores: &[f32], unknown: Option<u32>) -> Result<TokenizationModel> {
    let spells = |kind: &TokenKind| !matches!(*kind, TokenKind::Control | TokenKind::Unknown);
    let pieces = arrays.kinds.iter().map(spells);
    let model = Scored::new(arrays.vocabulary(), scores, pieces, unknown);
    if let Some(byte) = model.unspellable() {
        let expected = "a token for every byte, or an unknown token";
        return Err(bad(TOKENS, expected, format!("no <0x{byte:02X}> and no unknown token")));
    }
    Ok(TokenizationModel::Scored(model))
}

/// The most likely tokens (T5).
fn unigram(arrays: &Arrays<'_>, scores: &[f32], unknown: Option<u32>) -> Result<TokenizationModel> {
    let kind = |id: u32| arrays.kinds.get(id as usize).copied();
    let is_piece = |id| matches!(kind(id), Some(TokenKind::Normal | TokenKind::UserDefined));
    let scores: Vec<f64> = scores.iter().map(|score| f64::from(*score)).collect();
    let bytes = arrays.kinds.contains(&TokenKind::Byte);
    let model = Unigram::new(arrays.vocabulary(), scores, unknown, bytes, is_piece);
    let fault = |fault| Error::TokenizerFile { place: format!("metadata key {TOKENS}"), fault };
    Ok(TokenizationModel::Unigram(model.map_err(fault)?))
}
