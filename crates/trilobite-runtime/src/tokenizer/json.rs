//! Tokenizers from a tokenizer.json file.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::added::{AddedToken, AddedTokens};
use super::decoder::Decoder;
use super::model::TokenizationModel;
use super::node::{Fault, MAX_ID, Node};
use super::normalizer::Normalizer;
use super::parts::Parts;
use super::pre_tokenizer::PreTokenizer;
use super::ranked::{BadMerge, Ranked, Settings};
use super::template::Template;
use super::unigram::Unigram;
use super::vocabulary::Vocabulary;
use super::words::{MAX_TOKEN, WordLevel, WordPiece};

/// Maximum size of a file in bytes. The largest published ones have 40 million.
const MAX_BYTES: usize = 1 << 27;

/// Maximum length of the prefix or suffix that marks parts of a word, in bytes.
const MAX_AFFIX: usize = 64;

/// The contents of a tokenizer.json. Truncation and padding are not read: the reference applies
/// them on request only.
#[derive(Deserialize)]
struct File<'a> {
    version: Option<Value>,
    added_tokens: Option<Value>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    post_processor: Option<Value>,
    decoder: Option<Value>,
    #[serde(borrow)]
    model: Option<ModelFile<'a>>,
}

/// The key `model`: its large lists, and the other settings.
struct ModelFile<'a> {
    vocab: Option<Entries<'a>>,
    merges: Option<Vec<Merge<'a>>>,
    settings: Value,
}

/// A string that is borrowed from the file unless it contains escapes.
#[derive(Deserialize)]
struct JsonStr<'a>(#[serde(borrow)] Cow<'a, str>);

/// The tokens of a vocabulary.
enum Entries<'a> {
    /// Tokens with their ids.
    Ids(Vec<(JsonStr<'a>, u32)>),
    /// Tokens with their scores, in the order of the ids.
    Scores(Vec<(JsonStr<'a>, f64)>),
}

/// A pair of tokens: `["a", "b"]`, or `"a b"` in old files.
enum Merge<'a> {
    Pair(JsonStr<'a>, JsonStr<'a>),
    Line(JsonStr<'a>),
}

impl<'de: 'a, 'a> Deserialize<'de> for ModelFile<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = ModelFile<'de>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a model")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut vocab, mut merges, mut settings) = (None, None, Map::new());
                while let Some(JsonStr(key)) = map.next_key()? {
                    let in_key =
                        |error: A::Error| A::Error::custom(format!("`model.{key}`: {error}"));
                    match &*key {
                        "vocab" => vocab = map.next_value().map_err(in_key)?,
                        "merges" => merges = map.next_value().map_err(in_key)?,
                        _ => {
                            let value = map.next_value().map_err(in_key)?;
                            settings.insert(key.into_owned(), value);
                        }
                    }
                }
                Ok(ModelFile { vocab, merges, settings: Value::Object(settings) })
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries<'de>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("tokens with their ids, or with their scores")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(JsonStr(text)) = map.next_key()? {
                    let id = map.next_value().map_err(|error: A::Error| {
                        A::Error::custom(format!("the id of {text:?}: {error}"))
                    })?;
                    entries.push((JsonStr(text), id));
                }
                Ok(Entries::Ids(entries))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = list.next_element()? {
                    entries.push(entry);
                }
                Ok(Entries::Scores(entries))
            }
        }
        deserializer.deserialize_any(EntriesVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Merge<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MergeVisitor;
        impl<'de> Visitor<'de> for MergeVisitor {
            type Value = Merge<'de>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("two tokens")
            }

            fn visit_borrowed_str<E>(self, line: &'de str) -> Result<Self::Value, E> {
                Ok(Merge::Line(JsonStr(Cow::Borrowed(line))))
            }

            fn visit_str<E>(self, line: &str) -> Result<Self::Value, E> {
                Ok(Merge::Line(JsonStr(Cow::Owned(line.to_owned()))))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<Self::Value, A::Error> {
                match (pair.next_element()?, pair.next_element()?, pair.next_element()?) {
                    (Some(left), Some(right), None::<IgnoredAny>) => Ok(Merge::Pair(left, right)),
                    _ => Err(A::Error::custom("a merge is no pair")),
                }
            }
        }
        deserializer.deserialize_any(MergeVisitor)
    }
}

/// Builds the tokenizer of a file, and returns claims of the file that are ignored.
pub(super) fn read(json: &[u8]) -> Result<(Parts, Option<String>), Fault> {
    if json.len() > MAX_BYTES {
        return Err(Fault::new("", format!("{} bytes, expected at most {MAX_BYTES}", json.len())));
    }
    // Serde would accept an array in place of the object.
    if json.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        return Err(Fault::new("", "is no JSON object"));
    }
    let file: File<'_> =
        serde_json::from_slice(json).map_err(|error| Fault::new("", error.to_string()))?;
    if let Some(version) = &file.version.filter(|version| version != "1.0") {
        return Err(Node::new("version", version).expected("\"1.0\""));
    }
    let model = file.model.ok_or_else(|| Fault::new("model", "is missing"))?.build()?;
    let normalizer = part("normalizer", file.normalizer.as_ref(), Normalizer::read)?;
    let normalizer = normalizer.unwrap_or_default();
    let list = file.added_tokens.unwrap_or(Value::Array(Vec::new()));
    let list = Node::new("added_tokens", &list).list()?;
    let tokens = list.iter().map(AddedToken::read).collect::<Result<_, _>>()?;
    let parts = Parts {
        added: AddedTokens::new(tokens, &model, &normalizer)?,
        normalizer,
        pre_tokenizer: part("pre_tokenizer", file.pre_tokenizer.as_ref(), PreTokenizer::read)?
            .unwrap_or_default(),
        template: part("post_processor", file.post_processor.as_ref(), Template::read)?
            .unwrap_or_default(),
        decoder: part("decoder", file.decoder.as_ref(), Decoder::read)?,
        model,
    };
    let contradiction = other_ids(&list, &parts)?;
    Ok((parts, contradiction))
}

/// Reads the value of a key of the file, if it is present.
fn part<T>(
    key: &str,
    value: Option<&Value>,
    read: impl Fn(&Node<'_>) -> Result<T, Fault>,
) -> Result<Option<T>, Fault> {
    value.filter(|value| !value.is_null()).map(|value| read(&Node::new(key, value))).transpose()
}

/// Describes the first added token whose id differs from the one in the file.
fn other_ids(list: &[Node<'_>], parts: &Parts) -> Result<Option<String>, Fault> {
    for token in list {
        let Some(stated) = token.get("id") else { continue };
        let (stated, content) = (stated.id()?, token.need("content")?.string()?);
        if let Some(id) = parts.added.id(content).filter(|&id| id != stated) {
            return Ok(Some(format!(
                "the added token {content:?} has the id {id}, not {stated} as the tokenizer says: \
                 ids of added tokens follow the vocabulary"
            )));
        }
    }
    Ok(None)
}

impl ModelFile<'_> {
    fn build(self) -> Result<TokenizationModel, Fault> {
        let settings = Node::new("model", &self.settings);
        let kind = match settings.get("type") {
            Some(kind) => kind.string()?,
            // Old files have no type.
            None if self.merges.is_some() => "BPE",
            None if matches!(self.vocab, Some(Entries::Scores(_))) => "Unigram",
            None if settings.get("continuing_subword_prefix").is_some() => "WordPiece",
            None => "WordLevel",
        };
        let vocab = self.vocab.ok_or_else(|| Fault::new("model.vocab", "is missing"))?;
        let unknown = || Ok(settings.need("unk_token")?.string()?.to_owned());
        match kind {
            "BPE" => {
                let merges = self.merges.ok_or_else(|| Fault::new("model.merges", "is missing"))?;
                byte_pairs(&settings, vocab.with_ids()?, &merges).map(TokenizationModel::Ranked)
            }
            "WordLevel" => {
                let model = WordLevel { vocabulary: vocab.with_ids()?, unknown: unknown()? };
                Ok(TokenizationModel::WordLevel(model))
            }
            "WordPiece" => {
                let vocabulary = vocab.with_ids()?;
                let longest = vocabulary.iter().map(|(text, _)| text.len()).max().unwrap_or(0);
                if longest > MAX_TOKEN {
                    let what = format!("has a token of {longest} bytes, expected {MAX_TOKEN}");
                    return Err(Fault::new("model.vocab", what));
                }
                Ok(TokenizationModel::WordPiece(WordPiece {
                    vocabulary,
                    unknown: unknown()?,
                    prefix: settings.need("continuing_subword_prefix")?.string()?.to_owned(),
                    max_characters: settings.need("max_input_chars_per_word")?.count()?,
                    longest,
                }))
            }
            "Unigram" => unigram(&settings, vocab).map(TokenizationModel::Unigram),
            _ => Err(settings.unknown_kind()),
        }
    }
}

impl Entries<'_> {
    /// Builds the vocabulary from tokens with ids, which must be unique.
    fn with_ids(self) -> Result<Vocabulary, Fault> {
        let fault = |what: String| Fault::new("model.vocab", what);
        let Self::Ids(mut entries) = self else {
            return Err(fault(
                "is an array, expected an object of tokens and their ids".to_owned(),
            ));
        };
        entries.sort_by_key(|&(_, id)| id);
        let mut vocabulary = Vocabulary::with_capacity(entries.len());
        for (JsonStr(text), id) in &entries {
            if *id > MAX_ID {
                return Err(fault(format!(
                    "has the id {id} for {text:?}, expected up to {MAX_ID}"
                )));
            }
            if (*id as usize) < vocabulary.len() {
                let other = vocabulary.text(*id).unwrap_or_default();
                return Err(fault(format!("has the id {id} for both {other:?} and {text:?}")));
            }
            while vocabulary.len() < *id as usize {
                vocabulary.push_silent("");
            }
            if let Some(other) = vocabulary.push(text) {
                return Err(fault(format!("has the token {text:?} twice, as {other} and {id}")));
            }
        }
        Ok(vocabulary)
    }
}

fn byte_pairs(
    settings: &Node<'_>,
    vocabulary: Vocabulary,
    merges: &[Merge<'_>],
) -> Result<Ranked, Fault> {
    // Dropout omits random merges in training. Tokenization here is deterministic.
    if let Some(dropout) = settings.get("dropout") {
        dropout.fraction()?;
    }
    let affix = |key: &str| match settings.get(key) {
        None => Ok(String::new()),
        Some(node) => match node.string()? {
            text if text.len() > MAX_AFFIX => {
                Err(node.fault(format!("has {} bytes, expected up to {MAX_AFFIX}", text.len())))
            }
            text => Ok(text.to_owned()),
        },
    };
    let unknown = settings.get("unk_token").map(|token| token.string().map(str::to_owned));
    let details = Settings {
        ignore_merges: settings.flag("ignore_merges", false)?,
        byte_fallback: settings.flag("byte_fallback", false)?,
        unknown: unknown.transpose()?,
        fuse_unknown: settings.flag("fuse_unk", false)?,
        prefix: affix("continuing_subword_prefix")?,
        suffix: affix("end_of_word_suffix")?,
    };
    let mut pairs = Vec::with_capacity(merges.len());
    for merge in merges {
        let pair = match merge {
            Merge::Pair(JsonStr(left), JsonStr(right)) => Some((&**left, &**right)),
            // The first line of the merges files that such lists are made from.
            Merge::Line(JsonStr(line)) if line.starts_with("#version") => continue,
            Merge::Line(JsonStr(line)) => {
                line.split_once(' ').filter(|(_, right)| !right.contains(' '))
            }
        };
        pairs.push(pair.ok_or_else(|| {
            Fault::new(format!("model.merges[{}]", pairs.len()), "is no pair of tokens")
        })?);
    }
    Ranked::new(vocabulary, pairs.into_iter(), details).map_err(|BadMerge { rank, text }| {
        let key = format!("model.merges[{rank}]");
        Fault::new(key, format!("names or makes {text:?}, which is no token"))
    })
}

fn unigram(settings: &Node<'_>, vocab: Entries<'_>) -> Result<Unigram, Fault> {
    let fault = |what: String| Fault::new("model.vocab", what);
    let Entries::Scores(entries) = vocab else {
        return Err(fault("is an object, expected an array of tokens and their scores".to_owned()));
    };
    if entries.len() > MAX_ID as usize {
        return Err(fault(format!("has {} tokens, expected up to {MAX_ID}", entries.len())));
    }
    let mut vocabulary = Vocabulary::with_capacity(entries.len());
    let mut scores = Vec::with_capacity(entries.len());
    for (JsonStr(text), score) in &entries {
        vocabulary.push(text);
        scores.push(*score);
    }
    let unknown = match settings.get("unk_id") {
        None => None,
        Some(node) => match node.id()? {
            id if (id as usize) < entries.len() => Some(id),
            id => return Err(node.fault(format!("is {id}, expected a token of the vocabulary"))),
        },
    };
    let byte_fallback = settings.flag("byte_fallback", false)?;
    Unigram::new(vocabulary, scores, unknown, byte_fallback, |_| true).map_err(fault)
}
