//! Byte-pair encoding from a tokenizer.json.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::model::Model;
use super::ranked::{BadMerge, Ranked, Settings};
use super::vocabulary::Vocabulary;

/// Ids above are taken for damage: nothing has so many tokens, and a list by id is made of them.
const MAX_ID: u32 = 1 << 24;

impl<'de> Deserialize<'de> for Model {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = <&RawValue>::deserialize(deserializer)?.get();
        match serde_json::from_str::<Bpe<'_>>(json) {
            Ok(bpe) if bpe.is_plain() => bpe.build().map(Model::Ranked).map_err(D::Error::custom),
            // The crate reads all others, and says what is wrong with them.
            _ => serde_json::from_str(json).map(Model::Other).map_err(D::Error::custom),
        }
    }
}

/// `model` of a tokenizer.json, of type BPE.
#[derive(Deserialize)]
struct Bpe<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    dropout: Option<f32>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    fuse_unk: Option<bool>,
    byte_fallback: Option<bool>,
    ignore_merges: Option<bool>,
    #[serde(borrow)]
    vocab: Entries<'a>,
    #[serde(borrow)]
    merges: Vec<Merge<'a>>,
}

/// A text that is part of the file where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The entries of an object of texts and ids.
struct Entries<'a>(Vec<(Text<'a>, u32)>);

/// Two tokens: `["a", "b"]`, or `"a b"` in old files.
enum Merge<'a> {
    Pair(Text<'a>, Text<'a>),
    Line(Text<'a>),
}

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Entries<'de>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object of tokens and their ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Map)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Merge<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Merge<'de>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("two tokens")
            }

            fn visit_borrowed_str<E>(self, line: &'de str) -> Result<Self::Value, E> {
                Ok(Merge::Line(Text(Cow::Borrowed(line))))
            }

            fn visit_str<E>(self, line: &str) -> Result<Self::Value, E> {
                Ok(Merge::Line(Text(Cow::Owned(line.to_owned()))))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<Self::Value, A::Error> {
                match (pair.next_element()?, pair.next_element()?, pair.next_element()?) {
                    (Some(left), Some(right), None::<Text<'_>>) => Ok(Merge::Pair(left, right)),
                    _ => Err(A::Error::custom("a merge is no pair")),
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Entries<'_> {
    fn contains(&self, wanted: &str) -> bool {
        self.0.iter().any(|(Text(text), _)| text == wanted)
    }
}

impl Bpe<'_> {
    /// Whether it is a kind that `Ranked` is.
    fn is_plain(&self) -> bool {
        let empty = |text: &Option<String>| text.as_ref().is_none_or(String::is_empty);
        self.kind.as_ref().is_none_or(|kind| kind == "BPE")
            && self.dropout.is_none_or(|dropout| dropout == 0.0)
            && empty(&self.continuing_subword_prefix)
            && empty(&self.end_of_word_suffix)
            // The crate accepts an unknown token that is none, and fails when it needs it.
            && self.unk_token.as_ref().is_none_or(|unknown| self.vocab.contains(unknown))
    }

    fn build(self) -> Result<Ranked, String> {
        let Entries(mut entries) = self.vocab;
        entries.sort_by_key(|&(_, id)| id);
        let mut vocabulary = Vocabulary::with_capacity(entries.len());
        for (Text(text), id) in &entries {
            if *id > MAX_ID {
                return Err(format!("token {text:?} has the id {id}, expected at most {MAX_ID}"));
            }
            if (*id as usize) < vocabulary.len() {
                let other = vocabulary.text(*id).unwrap_or_default();
                return Err(format!("the tokens {other:?} and {text:?} both have the id {id}"));
            }
            while vocabulary.len() < *id as usize {
                vocabulary.push_silent("");
            }
            vocabulary.push(text);
        }
        let mut pairs = Vec::with_capacity(self.merges.len());
        for merge in &self.merges {
            let pair = match merge {
                Merge::Pair(Text(left), Text(right)) => Some((&**left, &**right)),
                Merge::Line(Text(line)) => line.split_once(' '),
            };
            pairs.push(pair.ok_or_else(|| format!("merge {} is no pair", pairs.len()))?);
        }
        let unknown = match &self.unk_token {
            None => None,
            Some(text) => vocabulary.id(text),
        };
        let settings = Settings {
            ignore_merges: self.ignore_merges.unwrap_or(false),
            byte_fallback: self.byte_fallback.unwrap_or(false),
            unknown,
            fuse_unknown: self.fuse_unk.unwrap_or(false),
        };
        Ranked::new(vocabulary, pairs.into_iter(), settings).map_err(|BadMerge { rank, text }| {
            format!("merge {rank} names or makes {text:?}, which is no token")
        })
    }
}
