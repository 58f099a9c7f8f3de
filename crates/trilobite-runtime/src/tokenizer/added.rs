//! Added tokens, which are found in a text before it is tokenized otherwise.

use std::collections::{HashMap, HashSet};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use regex::Regex;

use super::deadline::Deadline;
use super::model::TokenizationModel;
use super::node::{Fault, Node};
use super::normalizer::Normalizer;

/// Maximum number of bytes of all added tokens together. Published files have up to 100,000.
const MAX_BYTES: usize = 1 << 22;

/// An added token, as a file describes it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct AddedToken {
    pub(super) content: String,
    /// Matches only as a whole word.
    pub(super) single_word: bool,
    /// Whether a match includes the spaces before it; `rstrip`, those after it.
    pub(super) lstrip: bool,
    pub(super) rstrip: bool,
    /// Matches in the normalized text, by the token's own normalized form.
    pub(super) normalized: bool,
    pub(super) special: bool,
}

impl AddedToken {
    pub(super) fn new(content: &str, special: bool) -> Self {
        Self {
            content: content.to_owned(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: !special,
            special,
        }
    }

    pub(super) fn read(node: &Node<'_>) -> Result<Self, Fault> {
        let special = node.flag("special", false)?;
        Ok(Self {
            content: node.need("content")?.string()?.to_owned(),
            single_word: node.flag("single_word", false)?,
            lstrip: node.flag("lstrip", false)?,
            rstrip: node.flag("rstrip", false)?,
            normalized: node.flag("normalized", !special)?,
            special,
        })
    }
}

/// A part of a text.
pub(super) enum Segment<'a> {
    Token(u32),
    /// The text between two tokens, and its offset.
    Text(&'a str, usize),
}

/// All added tokens of a tokenizer.
#[derive(Default)]
pub(super) struct AddedTokens {
    ids: HashMap<String, u32>,
    tokens: HashMap<u32, Added>,
    /// The texts of special tokens.
    special: HashSet<String>,
    /// Finds the tokens that match in the original text; the other finder, in the normalized text.
    raw: Option<Finder>,
    normalized: Option<Finder>,
    /// Matches a word character at the beginning of a text. Present if a token matches whole words.
    word: Option<Regex>,
}

struct Added {
    token: AddedToken,
    /// The text that is matched, and that the token is decoded to.
    spelling: String,
}

struct Finder {
    automaton: AhoCorasick,
    ids: Vec<u32>,
}

impl AddedTokens {
    /// Assigns ids as the reference does: the id of the same token in the model, or else the next
    /// id after the vocabulary. The id in the file is ignored. If a token is listed twice, the last
    /// entry counts.
    pub(super) fn new(
        tokens: Vec<AddedToken>,
        model: &TokenizationModel,
        normalizer: &Normalizer,
    ) -> Result<Self, Fault> {
        let fault = |what: String| Fault::new("added_tokens", what);
        let bytes: usize = tokens.iter().map(|token| token.content.len()).sum();
        if bytes > MAX_BYTES {
            return Err(fault(format!("has {bytes} bytes, expected at most {MAX_BYTES}")));
        }
        let mut all = Self::default();
        if tokens.iter().any(|token| token.single_word) {
            let word = Regex::new(r"^\w").map_err(|error| fault(error.to_string()))?;
            all.word = Some(word);
        }
        let mut next = model.tokens();
        for token in tokens {
            if token.content.is_empty() {
                continue;
            }
            let known = all.ids.get(&token.content).copied();
            let id = match known.or_else(|| model.id(&token.content)) {
                Some(id) => id,
                None => {
                    next += 1;
                    next - 1
                }
            };
            if let Some(other) = model.text(id).filter(|text| *text != token.content) {
                return Err(fault(format!(
                    "has {:?}, which gets the id {id} of the token {other:?}",
                    token.content
                )));
            }
            let mut spelling = token.content.clone();
            if token.normalized {
                let deadline = Deadline::for_text(&token.content);
                let (text, _) = normalizer.apply(&token.content, &deadline).map_err(fault)?;
                spelling = text.into_owned();
            }
            if spelling.is_empty() {
                let content = &token.content;
                return Err(fault(format!("has {content:?}, of which normalizing leaves nothing")));
            }
            if token.special {
                all.special.insert(token.content.clone());
            }
            all.ids.insert(token.content.clone(), id);
            all.tokens.insert(id, Added { token, spelling });
        }
        let finder = |normalized: bool| {
            let wanted = |added: &Added| added.token.normalized == normalized;
            let chosen = all.tokens.iter().filter(|(_, added)| wanted(added));
            Finder::new(chosen.map(|(&id, added)| (id, added.spelling.as_str())).collect())
        };
        let (raw, normalized) = (finder(false)?, finder(true)?);
        Ok(Self { raw, normalized, ..all })
    }

    pub(super) fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    /// The decoded text of a token.
    pub(super) fn text(&self, id: u32) -> Option<&str> {
        Some(self.tokens.get(&id)?.spelling.as_str())
    }

    /// Whether a text is that of a special token, which decoding can omit.
    pub(super) fn is_special_text(&self, text: &str) -> bool {
        self.special.contains(text)
    }

    pub(super) fn is_special(&self, id: u32) -> bool {
        self.tokens.get(&id).is_some_and(|added| added.token.special)
    }

    pub(super) fn max_id(&self) -> Option<u32> {
        self.tokens.keys().copied().max()
    }

    /// Calls `out` with the parts of a text, which is normalized or original. Unless
    /// `parse_special`, special tokens are treated as text.
    pub(super) fn find(
        &self,
        text: &str,
        normalized: bool,
        parse_special: bool,
        out: &mut dyn FnMut(Segment<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let finder = if normalized { &self.normalized } else { &self.raw };
        let mut done = 0;
        // The end of the spaces that belong to the previous token.
        let mut spaces_end = 0;
        let found = finder.iter().flat_map(|finder| finder.find(text));
        for (id, mut start, mut end) in found {
            let Some(Added { token, .. }) = self.tokens.get(&id) else { continue };
            if !parse_special && self.special.contains(&token.content) {
                continue;
            }
            let (before, after) = (text.get(..start), text.get(end..));
            let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
            if token.single_word && (self.ends_in_word(before) || self.begins_with_word(after)) {
                continue;
            }
            if token.lstrip {
                let between = before.get(done..).unwrap_or_default();
                start = start.min(done + between.trim_end().len()).max(done);
            }
            if token.rstrip {
                if spaces_end < end {
                    spaces_end = text.len() - after.trim_start().len();
                }
                end = spaces_end;
            }
            // The previous token has all of the spaces that this one consists of.
            if start >= end {
                continue;
            }
            if let Some(between) = text.get(done..start).filter(|between| !between.is_empty()) {
                out(Segment::Text(between, done))?;
            }
            out(Segment::Token(id))?;
            done = end;
        }
        match text.get(done..).filter(|rest| !rest.is_empty()) {
            Some(rest) => out(Segment::Text(rest, done)),
            None => Ok(()),
        }
    }

    fn begins_with_word(&self, text: &str) -> bool {
        self.word.as_ref().is_some_and(|word| word.is_match(text))
    }

    fn ends_in_word(&self, text: &str) -> bool {
        let last = text.char_indices().next_back();
        last.is_some_and(|(at, _)| self.begins_with_word(text.get(at..).unwrap_or_default()))
    }
}

impl Finder {
    /// Of several tokens at one place, the longest matches.
    fn new(tokens: Vec<(u32, &str)>) -> Result<Option<Self>, Fault> {
        if tokens.is_empty() {
            return Ok(None);
        }
        let mut seen = HashMap::new();
        for &(id, text) in &tokens {
            if let Some(other) = seen.insert(text, id) {
                return Err(Fault::new(
                    "added_tokens",
                    format!(
                        "has two tokens, {other} and {id}, that are both {text:?} once normalized"
                    ),
                ));
            }
        }
        let texts = tokens.iter().map(|(_, text)| text);
        // Unlike the other kinds, this one is always built in time linear in the length of the
        // texts.
        let automaton = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .match_kind(MatchKind::LeftmostLongest)
            .build(texts);
        let automaton = automaton.map_err(|error| Fault::new("added_tokens", error.to_string()))?;
        Ok(Some(Self { automaton, ids: tokens.iter().map(|&(id, _)| id).collect() }))
    }

    fn find<'t>(&'t self, text: &'t str) -> impl Iterator<Item = (u32, usize, usize)> + 't {
        self.automaton.find_iter(text).filter_map(|found| {
            Some((*self.ids.get(found.pattern().as_usize())?, found.start(), found.end()))
        })
    }
}
