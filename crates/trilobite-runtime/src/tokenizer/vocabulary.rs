//! The texts and ids of tokens, stored compactly.

use std::hash::BuildHasher;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

/// Maps ids 0, 1, 2, ... to texts and texts to ids.
///
/// It is built whenever a model is opened, and can be large. All texts therefore share one
/// allocation, and the hash table stores ids instead of texts.
#[derive(Default)]
pub(super) struct Vocabulary {
    text: String,
    /// The end of each id's text. It begins at the end of the previous one.
    ends: Vec<usize>,
    ids: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Vocabulary {
    pub(super) fn with_capacity(tokens: usize) -> Self {
        Self {
            text: String::with_capacity(8 * tokens),
            ends: Vec::with_capacity(tokens),
            ids: HashTable::with_capacity(tokens),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// Adds the text of the next id. If another id has the same text, the text now maps to the new
    /// id and the previous one is returned.
    pub(super) fn push(&mut self, text: &str) -> Option<u32> {
        let id = self.ends.len() as u32;
        self.push_silent(text);
        let Self { text: all, ends, ids, hasher } = self;
        let entry = ids.entry(
            hasher.hash_one(text),
            |&other| slice(all, ends, other) == Some(text),
            |&other| hasher.hash_one(slice(all, ends, other).unwrap_or_default()),
        );
        match entry {
            Entry::Occupied(mut other) => Some(std::mem::replace(other.get_mut(), id)),
            Entry::Vacant(vacant) => {
                vacant.insert(id);
                None
            }
        }
    }

    /// Adds the text of the next id without mapping the text to the id.
    pub(super) fn push_silent(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }

    /// Number of texts that map to an id.
    pub(super) fn texts(&self) -> usize {
        self.ids.len()
    }

    /// Number of ids.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The text of an id.
    pub(super) fn text(&self, id: u32) -> Option<&str> {
        slice(&self.text, &self.ends, id)
    }

    /// The id of a text.
    pub(super) fn id(&self, text: &str) -> Option<u32> {
        self.ids.find(self.hasher.hash_one(text), |&id| self.text(id) == Some(text)).copied()
    }

    /// The ids of the tokens `<0x00>` to `<0xFF>`, which represent single bytes.
    pub(super) fn bytes(&self) -> Vec<Option<u32>> {
        (0..=u8::MAX).map(|byte| self.id(&format!("<0x{byte:02X}>"))).collect()
    }

    /// Every text that maps to an id, with the id.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.ids.iter().filter_map(|&id| Some((self.text(id)?, id)))
    }
}

fn slice<'a>(text: &'a str, ends: &[usize], id: u32) -> Option<&'a str> {
    let id = id as usize;
    let end = *ends.get(id)?;
    let start = id.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
    text.get(start..end)
}
