//! Sentences as NLTK's English Punkt model finds them (Kiss and Strunk 2006, "Unsupervised
//! multilingual sentence boundary detection").

use std::collections::{HashMap, HashSet};

use fancy_regex::Regex;

use crate::error::Result;
use crate::grade::fancy;

/// How a word was seen in the training text of the model: bits of its orthographic context.
const MIDDLE_UPPER: u32 = 1 << 2;
const BEGINNING_LOWER: u32 = 1 << 4;
const UPPER: u32 = 1 << 1 | MIDDLE_UPPER | 1 << 3;
const LOWER: u32 = BEGINNING_LOWER | 1 << 5 | 1 << 6;

/// Characters that no word holds, besides the ends of sentences.
const NON_WORD: &str = r#")";}]*:@'({[‘’“”«»?!"#;
/// Blanks as Python's `string.whitespace` has them.
const BLANKS: [char; 6] = [' ', '\t', '\n', '\r', '\u{b}', '\u{c}'];

/// The model.
pub(crate) struct Punkt {
    abbreviations: HashSet<&'static str>,
    collocations: HashSet<(&'static str, &'static str)>,
    starters: HashSet<&'static str>,
    contexts: HashMap<&'static str, u32>,
    words: Regex,
    closing: Regex,
    number: Regex,
}

/// A word and what is thought of it.
struct Token<'a> {
    text: &'a str,
    /// In lower case, numbers replaced.
    kind: String,
    ends_sentence: bool,
    abbreviation: bool,
    ellipsis: bool,
}

impl Token<'_> {
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

    /// A letter and a full stop.
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
        let non_word = format!("[{}]", NON_WORD.replace(']', r"\]").replace('[', r"\["));
        let multi = r"(?:-{2,}|\.{2,}|(?:\.\s){2,}\.)";
        let start = r#"[^\("`{\[:;&\#\*@\)}\]\-,]"#;
        let end = format!(r"\s|$|{non_word}|{multi}|,(?=$|\s|{non_word}|{multi})");
        Ok(Self {
            abbreviations: lines(include_str!("../../../data/punkt/abbrev_types.txt")).collect(),
            collocations: pairs(include_str!("../../../data/punkt/collocations.tab")).collect(),
            starters: lines(include_str!("../../../data/punkt/sent_starters.txt")).collect(),
            contexts: pairs(include_str!("../../../data/punkt/ortho_context.tab"))
                .filter_map(|(word, bits)| Some((word, bits.parse().ok()?)))
                .collect(),
            words: fancy(&format!(r"{multi}|(?={start})\S+?(?={end})|\S"))?,
            closing: fancy(r#"(?m)\A["')\]}‘’“”«»]+?(?:\s+|(?=--)|$)"#)?,
            number: fancy(r"^-?[\.,]?\d[\d,\.-]*\.?$")?,
        })
    }

    /// The sentences of a text.
    pub(crate) fn sentences<'a>(&self, text: &'a str) -> Result<Vec<&'a str>> {
        let mut slices = Vec::new();
        let mut start = 0;
        for end in ends(text) {
            if self.breaks(&end.context)? {
                slices.push((start, end.at + 1));
                start = end.next.unwrap_or(end.at + 1);
            }
        }
        slices.push((start, text.trim_end().len()));
        self.realigned(text, &slices)
    }

    /// Closing punctuation moved to the sentence that it closes.
    fn realigned<'a>(&self, text: &'a str, slices: &[(usize, usize)]) -> Result<Vec<&'a str>> {
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
            if let Ok(Some(closing)) = self.closing.find(following) {
                let end = next + closing.as_str().trim_end().len();
                sentences.push(text.get(start..end).unwrap_or_default());
                skip = closing.end();
            } else if !sentence.is_empty() {
                sentences.push(sentence);
            }
        }
        Ok(sentences)
    }

    /// Whether a sentence ends within a context, before its last token.
    fn breaks(&self, context: &str) -> Result<bool> {
        let mut tokens = Vec::new();
        for line in context.split('\n') {
            for word in self.words.find_iter(line).flatten() {
                tokens.push(self.token(word.as_str()));
            }
        }
        for index in 1..tokens.len() {
            let (before, after) = tokens.split_at_mut(index);
            if let (Some(first), Some(second)) = (before.last_mut(), after.first()) {
                self.reconsider(first, second);
            }
        }
        Ok(tokens.iter().rev().skip(1).any(|token| token.ends_sentence))
    }

    /// A token with the annotation that depends on it alone.
    fn token<'a>(&self, text: &'a str) -> Token<'a> {
        let lower = text.to_lowercase();
        let is_number = self.number.is_match(&lower).unwrap_or(false);
        let kind = if is_number { "##number##".to_owned() } else { lower.clone() };
        let mut token =
            Token { text, kind, ends_sentence: false, abbreviation: false, ellipsis: false };
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

    /// The annotation that depends on the next token too.
    fn reconsider(&self, token: &mut Token<'_>, next: &Token<'_>) {
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

    /// Whether a token's case says that it starts a sentence, if it says anything.
    fn starts_sentence(&self, token: &Token<'_>) -> Option<bool> {
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

/// A character that may end a sentence.
struct End {
    /// Where it is.
    at: usize,
    /// The word before it, itself, and what follows.
    context: String,
    /// Where the word after the blanks begins, if blanks follow.
    next: Option<usize>,
}

/// The candidates for ends of sentences. Of several at the end of a word, the last.
fn ends(text: &str) -> Vec<End> {
    let mut found: Vec<End> = Vec::new();
    let mut word = (0, 0);
    for (at, _) in text.char_indices().filter(|(_, c)| matches!(c, '.' | '?' | '!')) {
        let rest = &text[at + 1..];
        let Some(first) = rest.chars().next() else { break };
        let (after, next) = if NON_WORD.contains(first) {
            (first.len_utf8(), None)
        } else {
            let token = rest.trim_start();
            let blank = rest.len() - token.len();
            let length = token.find(char::is_whitespace).unwrap_or(token.len());
            if blank == 0 || length == 0 {
                continue;
            }
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
        found.push(End { at, context: text[start..at + 1 + after].to_owned(), next });
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
            let found = punkt.sentences(text).unwrap();
            assert_eq!(found.len(), sentences, "{found:?}");
        }
        let found = punkt.sentences("He said \"Go.\" She went.").unwrap();
        assert_eq!(found, ["He said \"Go.\"", "She went."]);
    }
}
