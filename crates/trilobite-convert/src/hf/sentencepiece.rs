//! SentencePiece models (`tokenizer.model`), for checkpoints without a tokenizer.json.
//!
//! The file is a protocol buffer, `ModelProto` of sentencepiece_model.proto. The few fields that
//! matter here are read from the wire format itself.

use std::collections::HashMap;

use serde_json::{Value, json};
use trilobite_format::model::{TokenKind, Words};
use trilobite_format::{Metadata, keys};

use super::added_tokens::{NUMBERED, SETTINGS};
use super::chat;
use super::json::Object;
use super::vocabulary::{Ggml, Vocabulary};
use crate::Error;
use crate::source::Checkpoint;

pub(crate) const FILE: &str = "tokenizer.model";

/// A SentencePiece model with the tokens of the files beside it.
pub(super) struct SentencePiece {
    pub(super) vocabulary: Vocabulary,
    /// The tokens that begin and end a text, if the model has them.
    pub(super) bos: Option<String>,
    pub(super) eos: Option<String>,
    add_bos: bool,
    add_eos: bool,
}

/// Reads the model of a checkpoint, if it has one. Its ids must be below `vocab`; further ids up to
/// there are unused.
///
/// # Errors
/// The file is damaged or uses an unsupported feature.
pub(super) fn read(
    checkpoint: &Checkpoint,
    settings: &Object<'_>,
    vocab: Option<u64>,
) -> Result<Option<SentencePiece>, Error> {
    let Some(file) = checkpoint.file(FILE) else { return Ok(None) };
    let model = parse(file).ok_or_else(|| Error::Value {
        file: FILE.to_owned(),
        key: "content".to_owned(),
        expected: "a SentencePiece model".to_owned(),
        found: "something else or damaged".to_owned(),
    })?;
    let unsupported =
        |what: &str| Error::Unsupported { file: FILE.to_owned(), what: what.to_owned() };
    let kind = match model.kind {
        UNIGRAM => "t5",
        BPE => "llama",
        WORD => return Err(unsupported("a model of words")),
        _ => return Err(unsupported("a model of characters")),
    };
    if model.space_suffix || !model.marks_spaces {
        return Err(unsupported("a model that writes spaces in another way than before words"));
    }
    let mut ggml = Ggml {
        model: kind,
        words: Words::DEFAULT,
        tokens: model.pieces.iter().map(|piece| piece.text.clone()).collect(),
        kinds: model.pieces.iter().map(|piece| TokenKind::of(piece.kind)).collect(),
        merges: Vec::new(),
        scores: model.pieces.iter().map(|piece| piece.score).collect(),
        prefix: model.prefix,
        charsmap: model.charsmap.to_vec(),
        extra_spaces: Some(model.extra_spaces),
    };
    let unique: HashMap<&String, usize> = ggml.tokens.iter().zip(0..).collect();
    if ggml.tokens.is_empty() || unique.len() < ggml.tokens.len() {
        return Err(unsupported("a model without tokens, or with two of the same text"));
    }
    add_tokens(checkpoint, settings, &mut ggml)?;
    let fits = |vocab: u64| ggml.tokens.len() as u64 <= vocab;
    if let Some(vocab) = vocab {
        if !fits(vocab) {
            return Err(Error::Value {
                file: FILE.to_owned(),
                key: "pieces".to_owned(),
                expected: format!("ids below the vocab_size of config.json, {vocab}"),
                found: format!("{} tokens", ggml.tokens.len()),
            });
        }
        pad(&mut ggml, vocab as usize);
    }
    let ids = ggml.tokens.iter().cloned().zip(0..).collect();
    let text =
        |id: i64| usize::try_from(id).ok().and_then(|id| Some(model.pieces.get(id)?.text.clone()));
    let adds = |key: &str| settings.bool(key);
    let bos = text(model.bos);
    Ok(Some(SentencePiece {
        // As transformers' tokenizers of these files do.
        add_bos: adds("add_bos_token")?.unwrap_or(bos.is_some()),
        add_eos: adds("add_eos_token")?.unwrap_or(false),
        vocabulary: Vocabulary { ids, ggml: Some(ggml) },
        bos,
        eos: text(model.eos),
    }))
}

/// Adds the tokens of added_tokens.json and tokenizer_config.json that have an id.
fn add_tokens(
    checkpoint: &Checkpoint,
    settings: &Object<'_>,
    ggml: &mut Ggml,
) -> Result<(), Error> {
    /// Maximum number of ids without a token that added tokens may leave.
    const MAX_GAP: usize = 1 << 16;
    let numbered = checkpoint.object(NUMBERED)?.unwrap_or_default();
    let numbered = Object::new(NUMBERED, &numbered);
    let decoder = settings.object("added_tokens_decoder.")?;
    let mut added: Vec<(u64, String, TokenKind)> = Vec::new();
    for (text, id) in numbered.iter() {
        let id = id.as_u64().ok_or_else(|| numbered.bad(text, "a token id"))?;
        added.push((id, text.to_owned(), TokenKind::Control));
    }
    for (id, token) in decoder.iter().flat_map(Object::iter) {
        let text = chat::token(Some(token));
        let (Ok(id), Some(text)) = (id.parse(), text) else {
            return Err(settings.bad("added_tokens_decoder", "token ids, each with its content"));
        };
        let special = token.get("special").and_then(Value::as_bool) == Some(true);
        let kind = if special { TokenKind::Control } else { TokenKind::UserDefined };
        added.push((id, text, kind));
    }
    for (id, text, kind) in added {
        let at = id as usize;
        if at >= ggml.tokens.len() + MAX_GAP {
            return Err(settings.bad("added_tokens_decoder", "ids that follow the vocabulary"));
        }
        pad(ggml, at + 1);
        // A piece keeps the kind that the model gives it, such as unknown.
        if matches!(ggml.kinds[at], TokenKind::Normal | TokenKind::Unused)
            || ggml.tokens[at] != text
        {
            ggml.tokens[at] = text;
            ggml.kinds[at] = kind;
        }
    }
    Ok(())
}

/// Appends unused tokens up to this number.
fn pad(ggml: &mut Ggml, count: usize) {
    for id in ggml.tokens.len()..count {
        ggml.tokens.push(format!("[PAD{id}]"));
        ggml.kinds.push(TokenKind::Unused);
        ggml.scores.push(0.0);
    }
}

impl SentencePiece {
    /// Adds the vocabulary, and what is added around every text.
    pub(super) fn describe(&self, metadata: &mut Metadata) {
        self.vocabulary.ggml.iter().for_each(|ggml| ggml.describe(metadata));
        metadata.insert(keys::add_token("bos"), self.add_bos);
        metadata.insert(keys::add_token("eos"), self.add_eos);
    }
}

impl Checkpoint {
    /// The tokenizer of a checkpoint with a SentencePiece model and without tokenizer.json, as the
    /// metadata of a GGUF file.
    ///
    /// # Errors
    /// A file of the checkpoint is malformed.
    pub fn sentence_piece(&self) -> Result<Option<Metadata>, Error> {
        let settings = self.object(SETTINGS)?.unwrap_or_else(|| json!({}));
        let Some(pieces) = read(self, &Object::new(SETTINGS, &settings), None)? else {
            return Ok(None);
        };
        let mut metadata = Metadata::new();
        pieces.describe(&mut metadata);
        for (name, text) in [("bos", &pieces.bos), ("eos", &pieces.eos)] {
            let stated = chat::token(settings.get(format!("{name}_token")));
            let id =
                stated.as_ref().or(text.as_ref()).and_then(|text| pieces.vocabulary.ids.get(text));
            if let Some(id) = id {
                metadata.insert(keys::token_id(name), *id as u32);
            }
        }
        Ok(Some(metadata))
    }
}

/// `TrainerSpec.ModelType`.
const UNIGRAM: u64 = 1;
const BPE: u64 = 2;
const WORD: u64 = 3;

/// What a model file holds.
struct Model<'a> {
    pieces: Vec<Piece>,
    kind: u64,
    bos: i64,
    eos: i64,
    space_suffix: bool,
    charsmap: &'a [u8],
    prefix: bool,
    extra_spaces: bool,
    marks_spaces: bool,
}

struct Piece {
    text: String,
    score: f32,
    kind: i32,
}

/// Reads a model file; `None` if it is none.
fn parse(file: &[u8]) -> Option<Model<'_>> {
    let mut model = Model {
        pieces: Vec::new(),
        kind: UNIGRAM,
        bos: 1,
        eos: 2,
        space_suffix: false,
        charsmap: &[],
        prefix: true,
        extra_spaces: true,
        marks_spaces: true,
    };
    let mut trained = false;
    for field in Fields(file) {
        match field? {
            (1, Wire::Bytes(bytes)) => model.pieces.push(piece(bytes)?),
            (2, Wire::Bytes(bytes)) => {
                trained = true;
                for field in Fields(bytes) {
                    match field? {
                        (3, Wire::Number(kind)) => model.kind = kind,
                        (24, Wire::Number(flag)) => model.space_suffix = flag != 0,
                        (41, Wire::Number(id)) => model.bos = i64::from(id as i32),
                        (42, Wire::Number(id)) => model.eos = i64::from(id as i32),
                        _ => {}
                    }
                }
            }
            (3, Wire::Bytes(bytes)) => {
                for field in Fields(bytes) {
                    match field? {
                        (2, Wire::Bytes(map)) => model.charsmap = map,
                        (3, Wire::Number(flag)) => model.prefix = flag != 0,
                        (4, Wire::Number(flag)) => model.extra_spaces = flag != 0,
                        (5, Wire::Number(flag)) => model.marks_spaces = flag != 0,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    trained.then_some(model)
}

fn piece(bytes: &[u8]) -> Option<Piece> {
    let mut piece = Piece { text: String::new(), score: 0.0, kind: 1 };
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Bytes(text)) => piece.text = String::from_utf8(text.to_vec()).ok()?,
            (2, Wire::Fixed(score)) => piece.score = f32::from_bits(score),
            (3, Wire::Number(kind)) => piece.kind = i32::try_from(kind).ok()?,
            _ => {}
        }
    }
    Some(piece)
}

/// A value of the wire format.
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed(u32),
    Other,
}

/// The fields of a message with their numbers; `None` ends a damaged one.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Wire<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Wire<'a>)> {
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Number(self.varint()?),
            1 => self.take(8).map(|_| Wire::Other)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Fixed(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((tag >> 3, wire))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}
