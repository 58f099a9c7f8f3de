//! Sentence boundaries as found by NLTK's English Punkt model (Kiss and Strunk 2006, "Unsupervised
//! multilingual sentence boundary detection").

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use regex::Regex;

use crate::error::Result;
use crate::grade::judge::regex;
use crate::grade::python::is_space;

/// Bits of a word's orthographic context: how it occurred in the model's training text.
const MIDDLE_UPPER: u32 = 1 << 2;
const BEGINNING_LOWER: u32 = 1 << 4;
const UPPER: u32 = 1 << 1 | MIDDLE_UPPER | 1 << 3;
const LOWER: u32 = BEGINNING_LOWER | 1 << 5 | 1 << 6;

/// Characters that no word contains, besides sentence ends.
const NON_WORD: &str = r#")";}]*:@'({[‘’“”«»?!"#;
/// Characters with which no word begins.
const NO_START: &str = "(\"`{[:;&#*@)}]-,";
/// Characters that belong to the sentence before them.
const CLOSING: &str = "\"')]}‘’“”«»";
/// Whitespace, as in Python's `string.whitespace`.
const BLANKS: [char; 6] = [' ', '\t', '\n', '\r', '\u{b}', '\u{c}'];

/// The model.
pub(crate) struct Punkt {
    abbreviations: HashSet<&'static str>,
    collocations: HashSet<(&'static str, &'static str)>,
    starters: HashSet<&'static str>,
    contexts: HashMap<&'static str, u32>,
    number: Regex,
}

/// A word and its annotations.
struct PunktToken<'a> {
    text: &'a str,
    /// The word in lower case, with numbers replaced.
    kind: String,
    ends_sentence: bool,
    abbreviation: bool,
    ellipsis: bool,
}

impl PunktToken<'_> {
    fn kind_without_period(&self) -> &str {
        match self.kind.strip_suffix('.') {
            Some("") | None => &self.kind,
            Some(kind) => kind,
        }
    }

    fn kind_without_sentence_end(&self) -> &str {
        if self.ends_sentence { self.kind_without_period() } else { &self.kind }
    }

    fn starts_upper(&self) -> bool {
        self.text.starts_with(char::is_uppercase)
    }

    fn starts_lower(&self) -> bool {
        self.text.starts_with(char::is_lowercase)
    }

    /// Whether the token is a letter and a full stop.
    fn is_initial(&self) -> bool {
        let mut chars = self.text.chars();
        let letter = chars.next().is_some_and(|c| c == '_' || c.is_alphabetic());
        letter && chars.as_str() == "."
    }
}

impl Punkt {
    /// The English model.
    pub(crate) fn new() -> Result<Self> {
        let lines = |text: &'static str| text.lines().filter(|line| !line.is_empty());
        let pairs = |text| lines(text).filter_map(|line| line.split_once('\t'));
        Ok(Self {
            abbreviations: lines(include_str!("../../../data/punkt/abbrev_types.txt")).collect(),
            collocations: pairs(include_str!("../../../data/punkt/collocations.tab")).collect(),
            starters: lines(include_str!("../../../data/punkt/sent_starters.txt")).collect(),
            contexts: pairs(include_str!("../../../data/punkt/ortho_context.tab"))
                .filter_map(|(word, bits)| Some((word, bits.parse().ok()?)))
                .collect(),
            number: regex(r"^-?[\.,]?\d[\d,\.-]*\.?$")?,
        })
    }

    /// The sentences of a text.
    pub(crate) fn sentences<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let mut slices = Vec::new();
        let mut start = 0;
        for end in ends(text) {
            if self.breaks(&text[end.context.clone()]) {
                slices.push((start, end.at + 1));
                start = end.next.unwrap_or(end.at + 1);
            }
        }
        slices.push((start, text.trim_end_matches(is_space).len()));
        realigned(text, &slices)
    }

    /// Whether a sentence ends within a context, before its last token.
    fn breaks(&self, context: &str) -> bool {
        let words = context.split('\n').flat_map(words);
        let mut tokens: Vec<PunktToken<'_>> = words.map(|word| self.token(word)).collect();
        for index in 1..tokens.len() {
            let (before, after) = tokens.split_at_mut(index);
            if let (Some(first), Some(second)) = (before.last_mut(), after.first()) {
                self.reconsider(first, second);
            }
        }
        tokens.iter().rev().skip(1).any(|token| token.ends_sentence)
    }

    /// Creates a token with the annotations that depend on it alone.
    fn token<'a>(&self, text: &'a str) -> PunktToken<'a> {
        let lower = text.to_lowercase();
        let is_number = self.number.is_match(&lower);
        let kind = if is_number { "##number##".to_owned() } else { lower.clone() };
        let mut token =
            PunktToken { text, kind, ends_sentence: false, abbreviation: false, ellipsis: false };
        if matches!(text, "." | "?" | "!") {
            token.ends_sentence = true;
        } else if text.len() > 1 && text.bytes().all(|byte| byte == b'.') {
            token.ellipsis = true;
        } else if text.ends_with('.') && !text.ends_with("..") {
            let word = lower.strip_suffix('.').unwrap_or(&lower);
            let last = word.rsplit('-').next().unwrap_or(word);
            token.abbreviation =
                self.abbreviations.contains(word) || self.abbreviations.contains(last);
            token.ends_sentence = !token.abbreviation;
        }
        token
    }

    /// Updates the annotations that also depend on the next token.
    fn reconsider(&self, token: &mut PunktToken<'_>, next: &PunktToken<'_>) {
        if !token.text.ends_with('.') {
            return;
        }
        let kind = token.kind_without_period();
        let next_kind = next.kind_without_sentence_end();
        if self.collocations.contains(&(kind, next_kind)) {
            token.ends_sentence = false;
            token.abbreviation = true;
            return;
        }
        let initial = token.is_initial();
        let starter = self.starts_sentence(next);
        if (token.abbreviation || token.ellipsis) && !initial {
            let common = next.starts_upper() && self.starters.contains(next_kind);
            if starter == Some(true) || common {
                token.ends_sentence = true;
                return;
            }
        }
        if initial || kind == "##number##" {
            let context = self.contexts.get(next_kind).copied().unwrap_or(0);
            let name = initial && next.starts_upper() && context & LOWER == 0;
            if starter == Some(false) || (starter.is_none() && name) {
                token.ends_sentence = false;
                token.abbreviation = true;
            }
        }
    }

    /// Whether a token's case shows that it starts a sentence; `None` if the case is no evidence.
    fn starts_sentence(&self, token: &PunktToken<'_>) -> Option<bool> {
        if matches!(token.text, ";" | ":" | "," | "." | "!" | "?") {
            return Some(false);
        }
        let context = self.contexts.get(token.kind_without_sentence_end()).copied().unwrap_or(0);
        if token.starts_upper() && context & LOWER != 0 && context & MIDDLE_UPPER == 0 {
            return Some(true);
        }
        let seen = context & UPPER != 0 || context & BEGINNING_LOWER == 0;
        (token.starts_lower() && seen).then_some(false)
    }
}

/// Moves closing punctuation to the sentence that it closes.
fn realigned<'a>(text: &'a str, slices: &[(usize, usize)]) -> Vec<&'a str> {
    let mut sentences = Vec::new();
    let mut skip = 0;
    for (number, &(start, end)) in slices.iter().enumerate() {
        let start = start + skip;
        let sentence = text.get(start..end).unwrap_or_default();
        let Some(&(next, next_end)) = slices.get(number + 1) else {
            sentences.extend(Some(sentence).filter(|sentence| !sentence.is_empty()));
            break;
        };
        let following = text.get(next..next_end).unwrap_or_default();
        skip = 0;
        if let Some((closing, all)) = closing(following) {
            sentences.push(text.get(start..next + closing).unwrap_or_default());
            skip = all;
        } else if !sentence.is_empty() {
            sentences.push(sentence);
        }
    }
    sentences
}

/// The length of the closing punctuation at the beginning of a text, without and with the
/// whitespace after it; `None` if a word follows.
fn closing(text: &str) -> Option<(usize, usize)> {
    let run = text.len() - text.trim_start_matches(|c| CLOSING.contains(c)).len();
    let rest = &text[run..];
    let blank = rest.len() - rest.trim_start_matches(is_space).len();
    let ends = rest.is_empty() || blank > 0 || rest.starts_with("--");
    (run > 0 && ends).then_some((run, run + blank))
}

/// The words of a line.
fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = line.trim_start_matches(is_space);
    while let Some(first) = rest.chars().next() {
        let mut length = multiple(rest);
        if length == 0 {
            length = first.len_utf8();
            if !NO_START.contains(first) {
                let mut after = rest[length..].char_indices().map(|(at, _)| length + at);
                length = after.find(|&at| ends_word(&rest[at..])).unwrap_or(rest.len());
            }
        }
        words.push(&rest[..length]);
        rest = rest[length..].trim_start_matches(is_space);
    }
    words
}

/// The length of a run of dashes, of dots, or of dots with spaces between them at the beginning of
/// a text; 0 if there is no run.
fn multiple(text: &str) -> usize {
    let run = |c: char| text.len() - text.trim_start_matches(c).len();
    if let Some(run) = ['-', '.'].map(run).into_iter().find(|run| *run > 1) {
        return run;
    }
    let (mut dots, mut end, mut rest) = (0, 0, text);
    while let Some(after) = rest.strip_prefix('.') {
        (dots, end) = (dots + 1, text.len() - after.len());
        let mut chars = after.chars();
        if !chars.next().is_some_and(is_space) {
            break;
        }
        rest = chars.as_str();
    }
    if dots > 2 { end } else { 0 }
}

/// Whether a word ends before this text.
fn ends_word(text: &str) -> bool {
    let mark = |text: &str| {
        let first = text.chars().next();
        let stops = |c: char| is_space(c) || NON_WORD.contains(c);
        first.is_none_or(stops)
            || text.starts_with("--")
            || text.starts_with("..")
            || (text.starts_with('.') && multiple(text) > 0)
    };
    mark(text) || text.strip_prefix(',').is_some_and(mark)
}

/// A character that may end a sentence.
struct End {
    /// Its offset.
    at: usize,
    /// The range of the word before it, the character itself, and the text after it.
    context: Range<usize>,
    /// The offset of the word after the whitespace, if whitespace follows.
    next: Option<usize>,
}

/// The candidates for sentence ends. Of several at the end of a word, the last is used.
fn ends(text: &str) -> Vec<End> {
    let mut found: Vec<End> = Vec::new();
    let mut word = (0, 0);
    for (at, _) in text.char_indices().filter(|(_, c)| matches!(c, '.' | '?' | '!')) {
        let rest = &text[at + 1..];
        let Some(first) = rest.chars().next() else { break };
        let (after, next) = if NON_WORD.contains(first) {
            (first.len_utf8(), None)
        } else {
            let token = rest.trim_start_matches(is_space);
            let blank = rest.len() - token.len();
            if blank == 0 || token.is_empty() {
                continue;
            }
            let length = token.find(is_space).unwrap_or(token.len());
            (blank + length, Some(at + 1 + blank))
        };
        let between = &text[word.1..at];
        let start = match between.rfind(BLANKS) {
            Some(blank) if blank > 0 => word.1 + blank + 1,
            _ => word.0,
        };
        if !found.is_empty() && word.1 > start {
            found.pop();
        }
        word = (start, at);
        found.push(End { at, context: start..at + 1 + after, next });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Verdicts of NLTK.
    #[test]
    fn sentences_are_those_of_nltk() {
        let punkt = Punkt::new().unwrap();
        for (text, sentences) in [
            ("Dr. Smith went to Washington, D.C. at 5 p.m. yesterday! Did he arrive?", 2),
            ("Very bad acting!!! I promise.", 2),
            ("(Sent one.) Sent two.", 2),
            ("He said \"Go.\" She went.", 2),
            ("J. Bach wrote it. It is No. 5 of 7.", 3),
            ("Wait... what? Yes... Indeed.", 3),
            ("no end", 1),
            ("", 0),
        ] {
            let found = punkt.sentences(text);
            assert_eq!(found.len(), sentences, "{found:?}");
        }
        let found = punkt.sentences("He said \"Go.\" She went.");
        assert_eq!(found, ["He said \"Go.\"", "She went."]);
    }
}
