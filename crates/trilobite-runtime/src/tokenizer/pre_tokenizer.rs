//! Pre-tokenization: cuts a text into words.

use trilobite_format::model::GPT_2;
use unicode_categories::UnicodeCategories;
use unicode_script::{Script, UnicodeScript};

use super::bytes;
use super::deadline::Deadline;
use super::node::{Fault, Node};
use super::pattern::Pattern;

/// The steps of a pre-tokenizer. Each cuts the pieces that the previous step produced.
#[derive(Default)]
pub(super) struct PreTokenizer(pub(super) Vec<PreTokenizerStep>);

pub(super) enum PreTokenizerStep {
    Bert,
    ByteLevel { prefix: bool, words: Option<Pattern> },
    Delimiter(char),
    Digits { one_by_one: bool },
    FixedLength(usize),
    Metaspace { replacement: char, prepend: Prepend, split: bool },
    Punctuation(Behavior),
    Scripts,
    Split { pattern: Pattern, behavior: Behavior, invert: bool },
    WhitespaceSplit,
}

/// The pieces of a text to which the character for a space is prepended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Prepend {
    Always,
    /// The piece at the beginning of the text.
    First,
    Never,
}

/// How the matches of a pattern are split off.
#[derive(Clone, Copy)]
pub(super) enum Behavior {
    Removed,
    Isolated,
    Contiguous,
    MergedWithPrevious,
    MergedWithNext,
}

/// A part of a text.
#[derive(Clone, Copy)]
pub(super) struct Piece<'a> {
    pub(super) text: &'a str,
    /// Whether it starts where the text starts.
    pub(super) first: bool,
}

/// Receives each piece, in order.
type Sink<'s> = dyn FnMut(Piece<'_>) -> Result<(), String> + 's;

impl PreTokenizer {
    pub(super) fn read(node: &Node<'_>) -> Result<Self, Fault> {
        let steps = node.steps("pretokenizers")?;
        Ok(Self(steps.iter().map(PreTokenizerStep::read).collect::<Result<_, _>>()?))
    }

    /// Calls `word` with every word of a piece.
    pub(super) fn cut(
        &self,
        piece: Piece<'_>,
        deadline: &Deadline,
        word: &mut dyn FnMut(&str) -> Result<(), String>,
    ) -> Result<(), String> {
        cut(&self.0, piece, deadline, word)
    }
}

fn cut(
    steps: &[PreTokenizerStep],
    piece: Piece<'_>,
    deadline: &Deadline,
    word: &mut dyn FnMut(&str) -> Result<(), String>,
) -> Result<(), String> {
    if piece.text.is_empty() {
        return Ok(());
    }
    match steps.split_first() {
        None => word(piece.text),
        Some((step, rest)) => {
            step.cut(piece, deadline, &mut |piece| cut(rest, piece, deadline, word))
        }
    }
}

impl Prepend {
    /// The scheme of a `Metaspace` step. Old files have a flag for it.
    pub(super) fn read(node: &Node<'_>) -> Result<Self, Fault> {
        let prefix = node.flag("add_prefix_space", true)?;
        let Some(scheme) = node.get("prepend_scheme") else {
            return Ok(if prefix { Self::Always } else { Self::Never });
        };
        match scheme.string()? {
            "never" => Ok(Self::Never),
            _ if !prefix => Err(scheme.fault("is not \"never\", but add_prefix_space is false")),
            "always" => Ok(Self::Always),
            "first" => Ok(Self::First),
            other => Err(scheme.fault(format!("is {other:?}, expected always, first or never"))),
        }
    }
}

impl Behavior {
    fn read(node: &Node<'_>) -> Result<Self, Fault> {
        Ok(match node.string()? {
            "Removed" => Self::Removed,
            "Isolated" => Self::Isolated,
            "Contiguous" => Self::Contiguous,
            "MergedWithPrevious" => Self::MergedWithPrevious,
            "MergedWithNext" => Self::MergedWithNext,
            other => return Err(node.fault(format!("is {other:?}, which is not known"))),
        })
    }
}

impl PreTokenizerStep {
    fn read(node: &Node<'_>) -> Result<Self, Fault> {
        Ok(match node.kind()? {
            "BertPreTokenizer" => Self::Bert,
            "ByteLevel" => {
                let words = node.flag("use_regex", true)?.then(|| Pattern::expression(GPT_2));
                Self::ByteLevel {
                    prefix: node.need("add_prefix_space")?.boolean()?,
                    words: words.transpose().map_err(|what| node.fault(what))?,
                }
            }
            "CharDelimiterSplit" => Self::Delimiter(node.need("delimiter")?.character()?),
            "Digits" => Self::Digits { one_by_one: node.need("individual_digits")?.boolean()? },
            "FixedLength" => {
                let length = node.get("length").map_or(Ok(5), |length| match length.count()? {
                    0 => Err(length.fault("is 0, expected at least 1")),
                    length => Ok(length),
                });
                Self::FixedLength(length?)
            }
            "Metaspace" => Self::Metaspace {
                replacement: node.need("replacement")?.character()?,
                prepend: Prepend::read(node)?,
                split: node.flag("split", true)?,
            },
            "Punctuation" => Self::Punctuation(match node.get("behavior") {
                Some(behavior) => Behavior::read(&behavior)?,
                None => Behavior::Isolated,
            }),
            "Split" => Self::Split {
                pattern: Pattern::read(&node.need("pattern")?)?,
                behavior: Behavior::read(&node.need("behavior")?)?,
                invert: node.need("invert")?.boolean()?,
            },
            "UnicodeScripts" => Self::Scripts,
            "Whitespace" => Self::Split {
                pattern: Pattern::words().map_err(|what| node.fault(what))?,
                behavior: Behavior::Removed,
                invert: true,
            },
            "WhitespaceSplit" => Self::WhitespaceSplit,
            _ => return Err(node.unknown_kind()),
        })
    }

    fn cut(&self, piece: Piece<'_>, deadline: &Deadline, out: &mut Sink<'_>) -> Result<(), String> {
        match self {
            Self::Bert => {
                by_character(char::is_whitespace, piece, Behavior::Removed, &mut |word| {
                    by_character(is_punctuation, word, Behavior::Isolated, out)
                })
            }
            Self::ByteLevel { prefix, words } => {
                let prefixed;
                let mut piece = piece;
                if *prefix && !piece.text.starts_with(' ') {
                    prefixed = format!(" {}", piece.text);
                    piece.text = &prefixed;
                }
                let mut byte_level = |piece: Piece<'_>| {
                    out(Piece { text: &bytes::to_characters(piece.text), ..piece })
                };
                match words {
                    None => byte_level(piece),
                    Some(words) => {
                        let cut = Cut::new(piece, Behavior::Isolated, false, &mut byte_level);
                        by_pattern(words, cut, deadline)
                    }
                }
            }
            Self::Delimiter(delimiter) => {
                by_character(|c| c == *delimiter, piece, Behavior::Removed, out)
            }
            Self::Digits { one_by_one } => {
                let behavior = if *one_by_one { Behavior::Isolated } else { Behavior::Contiguous };
                by_character(char::is_numeric, piece, behavior, out)
            }
            Self::FixedLength(length) => {
                let mut rest = piece;
                while !rest.text.is_empty() {
                    let end = rest.text.char_indices().nth(*length).map(|(end, _)| end);
                    let (text, behind) = rest.text.split_at(end.unwrap_or(rest.text.len()));
                    out(Piece { text, ..rest })?;
                    rest = Piece { text: behind, first: false };
                }
                Ok(())
            }
            Self::Metaspace { replacement, prepend, split } => {
                let mut text = piece.text.replace(' ', replacement.encode_utf8(&mut [0; 4]));
                let wanted = match prepend {
                    Prepend::Always => true,
                    Prepend::First => piece.first,
                    Prepend::Never => false,
                };
                if wanted && !text.starts_with(*replacement) {
                    text.insert(0, *replacement);
                }
                let piece = Piece { text: &text, ..piece };
                if !split {
                    return out(piece);
                }
                by_character(|c| c == *replacement, piece, Behavior::MergedWithNext, out)
            }
            Self::Punctuation(behavior) => by_character(is_punctuation, piece, *behavior, out),
            Self::Scripts => by_script(piece, out),
            Self::Split { pattern, behavior, invert } => {
                by_pattern(pattern, Cut::new(piece, *behavior, *invert, out), deadline)
            }
            Self::WhitespaceSplit => {
                by_character(char::is_whitespace, piece, Behavior::Removed, out)
            }
        }
    }
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || c.is_punctuation()
}

fn by_character(
    matches: impl Fn(char) -> bool,
    piece: Piece<'_>,
    behavior: Behavior,
    out: &mut Sink<'_>,
) -> Result<(), String> {
    let mut cut = Cut::new(piece, behavior, false, out);
    for (at, c) in piece.text.char_indices().filter(|&(_, c)| matches(c)) {
        cut.matched(at, at + c.len_utf8())?;
    }
    cut.finish()
}

fn by_pattern(pattern: &Pattern, mut cut: Cut<'_, '_>, deadline: &Deadline) -> Result<(), String> {
    pattern.each_match(cut.piece.text, deadline, &mut |start, end| cut.matched(start, end))?;
    cut.finish()
}

/// Cuts a piece where the script changes. A space belongs to the script before it, and all of
/// Japanese is one script. Leading spaces are dropped, as in the reference.
fn by_script(piece: Piece<'_>, out: &mut Sink<'_>) -> Result<(), String> {
    let script = |c: char| match c.script() {
        _ if c == ' ' => Script::Unknown,
        _ if c == '\u{30FC}' => Script::Han,
        Script::Hiragana | Script::Katakana => Script::Han,
        script => script,
    };
    let mut cut = Cut::new(piece, Behavior::Contiguous, false, out);
    let mut last = None;
    for (at, c) in piece.text.char_indices() {
        let script = script(c);
        if script != Script::Unknown && last != Some(script) {
            match last {
                None => cut.at = at,
                Some(_) => cut.end(at)?,
            }
            last = Some(script);
        }
    }
    if last.is_some() { cut.end(piece.text.len()) } else { Ok(()) }
}

/// A piece that is being cut at the matches of a pattern.
struct Cut<'p, 's> {
    piece: Piece<'p>,
    behavior: Behavior,
    /// Whether the roles of matches and the text between them are swapped.
    invert: bool,
    out: &'s mut Sink<'s>,
    /// The start of the part that has not been passed on.
    at: usize,
    /// The end of the part that has been searched.
    seen: usize,
    /// Whether the part from `at` to `seen` ends in a match; `None` if it is empty.
    open: Option<bool>,
}

impl<'p, 's> Cut<'p, 's> {
    fn new(piece: Piece<'p>, behavior: Behavior, invert: bool, out: &'s mut Sink<'s>) -> Self {
        Self { piece, behavior, invert, out, at: 0, seen: 0, open: None }
    }

    /// Handles a match. Matches come in order and do not overlap.
    fn matched(&mut self, start: usize, end: usize) -> Result<(), String> {
        if self.seen < start {
            self.part(start, false)?;
        }
        self.part(end, true)
    }

    fn finish(&mut self) -> Result<(), String> {
        if self.seen < self.piece.text.len() {
            self.part(self.piece.text.len(), false)?;
        }
        self.end(self.seen)
    }

    /// Handles the part from `seen` to `end`, which is a match or the text between two.
    fn part(&mut self, end: usize, is_match: bool) -> Result<(), String> {
        let is_match = is_match != self.invert;
        let joins = self.open.is_some_and(|before| match self.behavior {
            Behavior::Removed | Behavior::Isolated => false,
            Behavior::Contiguous => before == is_match,
            Behavior::MergedWithPrevious => is_match && !before,
            Behavior::MergedWithNext => !is_match && before,
        });
        if !joins {
            self.end(self.seen)?;
        }
        self.seen = end;
        if is_match && matches!(self.behavior, Behavior::Removed) {
            self.at = end;
        }
        self.open = Some(is_match);
        Ok(())
    }

    /// Passes on the text before `end`.
    fn end(&mut self, end: usize) -> Result<(), String> {
        let text = self.piece.text.get(self.at..end).unwrap_or_default();
        let first = self.piece.first && self.at == 0;
        self.at = end;
        (self.out)(Piece { text, first })
    }
}
