//! Normalization of a text before it is cut into words.

use std::borrow::Cow;

use unicode_categories::UnicodeCategories;
use unicode_normalization_alignments::UnicodeNormalization;
use unicode_normalization_alignments::char::is_combining_mark;

use super::bytes;
use super::charsmap::Charsmap;
use super::deadline::Deadline;
use super::node::{Fault, Node};
use super::replace::{Replace, check_growth, most_bytes};

/// The steps of a normalizer, in order.
#[derive(Default)]
pub(super) struct Normalizer(pub(super) Vec<NormalizerStep>);

/// A step. It uses the Unicode tables of the same crates as the reference.
pub(super) enum NormalizerStep {
    Bert {
        clean: bool,
        chinese: bool,
        strip_accents: bool,
        lowercase: bool,
    },
    Strip {
        left: bool,
        right: bool,
    },
    StripAccents,
    Form(Form),
    Lowercase,
    Nmt,
    Charsmap(Charsmap),
    /// The same map, with the longest match at every place.
    LongestMatches(Charsmap),
    /// Removes spaces at both ends and all but one of several in a row.
    ExtraSpaces,
    Replace(Replace),
    Prepend(String),
    ByteLevel,
}

/// Unicode's normalization forms.
#[derive(Clone, Copy)]
pub(super) enum Form {
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
}

impl Normalizer {
    pub(super) fn read(node: &Node<'_>) -> Result<Self, Fault> {
        let steps = node.steps("normalizers")?;
        Ok(Self(steps.iter().map(NormalizerStep::read).collect::<Result<_, _>>()?))
    }

    /// The normalized text, and whether its first character comes from the first character of
    /// `text`.
    pub(super) fn apply<'a>(
        &self,
        text: &'a str,
        deadline: &Deadline,
    ) -> Result<(Cow<'a, str>, bool), String> {
        let most = most_bytes(text.len());
        let mut text = Cow::Borrowed(text);
        let mut first_kept = true;
        for step in &self.0 {
            let (new, kept) = step.apply(&text, most, deadline)?;
            check_growth(new.len(), most)?;
            text = Cow::Owned(new);
            first_kept &= kept;
        }
        Ok((text, first_kept))
    }
}

impl NormalizerStep {
    fn read(node: &Node<'_>) -> Result<Self, Fault> {
        let flag = |key: &str| node.need(key)?.boolean();
        Ok(match node.kind()? {
            "BertNormalizer" | "Bert" => {
                let lowercase = flag("lowercase")?;
                Self::Bert {
                    clean: flag("clean_text")?,
                    chinese: flag("handle_chinese_chars")?,
                    strip_accents: node.flag("strip_accents", lowercase)?,
                    lowercase,
                }
            }
            "Strip" => Self::Strip { left: flag("strip_left")?, right: flag("strip_right")? },
            "StripAccents" => Self::StripAccents,
            "NFC" => Self::Form(Form::Nfc),
            "NFD" => Self::Form(Form::Nfd),
            "NFKC" => Self::Form(Form::Nfkc),
            "NFKD" => Self::Form(Form::Nfkd),
            "Lowercase" => Self::Lowercase,
            "Nmt" => Self::Nmt,
            "Precompiled" => {
                let map = node.need("precompiled_charsmap")?;
                Self::Charsmap(Charsmap::decode(map.string()?).map_err(|what| map.fault(what))?)
            }
            "Replace" => Self::Replace(Replace::read(node)?),
            "Prepend" => Self::Prepend(node.need("prepend")?.string()?.to_owned()),
            "ByteLevel" => Self::ByteLevel,
            _ => return Err(node.unknown_kind()),
        })
    }

    fn apply(
        &self,
        text: &str,
        most: usize,
        deadline: &Deadline,
    ) -> Result<(String, bool), String> {
        let new = match self {
            Self::Replace(replace) => return replace.apply(text, most, deadline),
            Self::Strip { left, right } => {
                let begun = if *left { text.trim_start() } else { text };
                let stripped = if *right { begun.trim_end() } else { begun };
                return Ok((stripped.to_owned(), begun.len() == text.len()));
            }
            Self::StripAccents => return Ok(filter(text, |c| !is_combining_mark(c))),
            Self::Nmt => {
                let (filtered, kept) = filter(text, |c| !is_dropped_by_nmt(c));
                let space = |c| if is_space_to_nmt(c) { ' ' } else { c };
                return Ok((filtered.chars().map(space).collect(), kept));
            }
            Self::Bert { clean, chinese, strip_accents, lowercase } => {
                return Ok(bert(text, *clean, *chinese, *strip_accents, *lowercase));
            }
            Self::Form(form) => normalized(text, *form),
            Self::Lowercase => lowercase(text),
            Self::Charsmap(map) => map.apply(text)?,
            Self::LongestMatches(map) => map.apply_longest(text)?,
            Self::ExtraSpaces => {
                let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
                return Ok((words.join(" "), !text.starts_with(' ')));
            }
            Self::Prepend(_) if text.is_empty() => String::new(),
            Self::Prepend(prefix) => [prefix.as_str(), text].concat(),
            Self::ByteLevel => bytes::to_characters(text),
        };
        Ok((new, true))
    }
}

fn normalized(text: &str, form: Form) -> String {
    match form {
        Form::Nfc => text.nfc().map(|(c, _)| c).collect(),
        Form::Nfd => text.nfd().map(|(c, _)| c).collect(),
        Form::Nfkc => text.nfkc().map(|(c, _)| c).collect(),
        Form::Nfkd => text.nfkd().map(|(c, _)| c).collect(),
    }
}

fn lowercase(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// Keeps some characters. Also returns whether the first character is kept.
fn filter(text: &str, keep: impl Fn(char) -> bool) -> (String, bool) {
    let first_kept = text.chars().next().is_none_or(&keep);
    (text.chars().filter(|&c| keep(c)).collect(), first_kept)
}

fn bert(
    text: &str,
    clean: bool,
    chinese: bool,
    strip_accents: bool,
    lower: bool,
) -> (String, bool) {
    let mut text = text.to_owned();
    let mut first_kept = true;
    if clean {
        let control = |c: char| !matches!(c, '\t' | '\n' | '\r') && c.is_other();
        let keep = |c| !(c == '\0' || c == char::REPLACEMENT_CHARACTER || control(c));
        let (filtered, kept) = filter(&text, keep);
        text = filtered.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
        first_kept &= kept;
    }
    if chinese {
        let mut spaced = String::with_capacity(text.len());
        for c in text.chars() {
            if is_chinese(c) {
                spaced.extend([' ', c, ' ']);
            } else {
                spaced.push(c);
            }
        }
        text = spaced;
    }
    if strip_accents {
        let (filtered, kept) = filter(&normalized(&text, Form::Nfd), |c| !c.is_mark_nonspacing());
        text = filtered;
        first_kept &= kept;
    }
    if lower {
        text = lowercase(&text);
    }
    (text, first_kept)
}

fn is_chinese(c: char) -> bool {
    matches!(
        c,
        '\u{4E00}'..='\u{9FFF}'
            | '\u{3400}'..='\u{4DBF}'
            | '\u{20000}'..='\u{2A6DF}'
            | '\u{2A700}'..='\u{2B73F}'
            | '\u{2B740}'..='\u{2B81F}'
            | '\u{2B920}'..='\u{2CEAF}'
            | '\u{F900}'..='\u{FAFF}'
            | '\u{2F800}'..='\u{2FA1F}'
    )
}

fn is_dropped_by_nmt(c: char) -> bool {
    matches!(
        c,
        '\u{1}'..='\u{8}' | '\u{B}' | '\u{E}'..='\u{1F}' | '\u{7F}' | '\u{8F}' | '\u{9F}'
    )
}

fn is_space_to_nmt(c: char) -> bool {
    matches!(
        c,
        '\t' | '\n' | '\u{C}' | '\r' | '\u{1680}' | '\u{200B}'
            ..='\u{200F}' | '\u{2028}' | '\u{2029}' | '\u{2581}' | '\u{FEFF}' | '\u{FFFD}'
    )
}
