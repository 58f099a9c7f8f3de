//! The checks of the 25 instructions.

use minijinja::Value;
use regex::{Captures, Regex, RegexBuilder};

use crate::error::Result;
use crate::grade::ifeval::language::detect;
use crate::grade::ifeval::punkt::Punkt;
use crate::grade::ifeval::words::Words;
use crate::grade::judge::regex;
use crate::grade::python::{WORD, strip, words};
use crate::record::Record;

/// An instruction's arguments.
pub(crate) struct Arguments<'a> {
    /// The arguments, a JSON object.
    pub(crate) values: Value,
    /// The record that contains them.
    pub(crate) record: &'a Record,
}

impl Arguments<'_> {
    fn get(&self, name: &str) -> Result<Value> {
        let value = self.values.get_attr(name).ok().filter(|value| !value.is_undefined());
        value.ok_or_else(|| self.record.error(format!("the argument {name} is missing")))
    }

    fn text(&self, name: &str) -> Result<String> {
        let value = self.get(name)?;
        value.as_str().map(str::to_owned).ok_or_else(|| self.wrong(name, "a string"))
    }

    fn number(&self, name: &str) -> Result<usize> {
        let value = self.get(name)?;
        let whole = || f64::try_from(value.clone()).ok().map(|number| number as usize);
        usize::try_from(value.clone())
            .ok()
            .or_else(whole)
            .ok_or_else(|| self.wrong(name, "a number"))
    }

    fn texts(&self, name: &str) -> Result<Vec<String>> {
        let value = self.get(name)?;
        let texts = value.try_iter().ok().and_then(|items| {
            items.map(|item| item.as_str().map(str::to_owned)).collect::<Option<_>>()
        });
        texts.ok_or_else(|| self.wrong(name, "a list of strings"))
    }

    fn wrong(&self, name: &str, expected: &str) -> crate::Error {
        self.record.error(format!("the argument {name} is not {expected}"))
    }

    /// Whether a count satisfies the relation of an instruction.
    fn compare(&self, count: usize, relation: &str, threshold: &str) -> Result<bool> {
        let threshold = self.number(threshold)?;
        match self.text(relation)?.as_str() {
            "less than" => Ok(count < threshold),
            "at least" => Ok(count >= threshold),
            other => Err(self.record.error(format!("unknown relation {other:?}"))),
        }
    }
}

/// The checks, with their compiled expressions.
pub(crate) struct Checks {
    punkt: Punkt,
    words: Words,
    word: Regex,
    divider: Regex,
    placeholder: Regex,
    star_bullet: Regex,
    dash_bullet: Regex,
    highlight: Regex,
    strong_highlight: Regex,
    title: Regex,
    string_or_no_number: Regex,
}

impl Checks {
    /// Creates the checks.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            punkt: Punkt::new()?,
            words: Words::new()?,
            word: regex(&format!("[{WORD}]+"))?,
            divider: regex(r"\s?\*\*\*\s?")?,
            placeholder: regex(r"\[.*?\]")?,
            star_bullet: regex(r"(?m)^\s*\*[^\*].*$")?,
            dash_bullet: regex(r"(?m)^\s*-.*$")?,
            highlight: regex(r"\*[^\n\*]*\*")?,
            strong_highlight: regex(r"\*\*[^\n\*]*\*\*")?,
            title: regex(r"<<[^\n]+>>")?,
            string_or_no_number: regex(r#"(?s)("(?:[^"\\]|\\.)*")|(?:-?\bInfinity|\bNaN)\b"#)?,
        })
    }

    /// Whether a text follows an instruction.
    pub(crate) fn follows(&self, id: &str, arguments: &Arguments<'_>, text: &str) -> Result<bool> {
        let trimmed = strip(text);
        Ok(match id {
            "keywords:existence" => {
                let keywords = arguments.texts("keywords")?;
                keywords.iter().all(|keyword| pattern(keyword).is_none_or(|p| p.is_match(text)))
            }
            "keywords:frequency" => {
                let keyword = pattern(arguments.text("keyword")?.trim());
                let count = keyword.map_or(0, |keyword| keyword.find_iter(text).count());
                arguments.compare(count, "relation", "frequency")?
            }
            "keywords:forbidden_words" => {
                let words = arguments.texts("forbidden_words")?;
                let found = |word: &String| {
                    pattern(&format!(r"\b{word}\b")).is_some_and(|word| word.is_match(text))
                };
                !words.iter().any(found)
            }
            "keywords:letter_frequency" => {
                let letter = arguments.text("letter")?.trim().to_lowercase();
                let lower = text.to_lowercase();
                let count = lower.chars().filter(|&c| letter.chars().eq([c])).count();
                arguments.compare(count, "let_relation", "let_frequency")?
            }
            "language:response_language" => {
                let language = arguments.text("language")?;
                detect(text).is_none_or(|found| found == language)
            }
            "length_constraints:number_sentences" => {
                let count = self.punkt.sentences(text).len();
                arguments.compare(count, "relation", "num_sentences")?
            }
            "length_constraints:number_paragraphs" => {
                self.paragraphs(text) == Some(arguments.number("num_paragraphs")?)
            }
            "length_constraints:number_words" => {
                let count = self.word.find_iter(text).count();
                arguments.compare(count, "relation", "num_words")?
            }
            "length_constraints:nth_paragraph_first_word" => nth_paragraph(arguments, text)?,
            "detectable_content:number_placeholders" => {
                let count = self.placeholder.find_iter(text).count();
                count >= arguments.number("num_placeholders")?
            }
            "detectable_content:postscript" => {
                let marker = arguments.text("postscript_marker")?;
                let marker = match marker.trim() {
                    "P.P.S" => r"p\.\s?p\.\s?s".to_owned(),
                    "P.S." => r"p\.\s?s\.".to_owned(),
                    other => other.to_lowercase(),
                };
                let lower = text.to_lowercase();
                pattern(&format!(r"(?m)\s*{marker}.*$")).is_some_and(|p| p.is_match(&lower))
            }
            "detectable_format:number_bullet_lists" => {
                let stars = self.star_bullet.find_iter(text).count();
                let dashes = self.dash_bullet.find_iter(text).count();
                stars + dashes == arguments.number("num_bullets")?
            }
            "detectable_format:constrained_response" => {
                let answers = ["My answer is yes.", "My answer is no.", "My answer is maybe."];
                answers.iter().any(|answer| trimmed.contains(answer))
            }
            "detectable_format:number_highlighted_sections" => {
                let filled = |text: &str| !strip(text).is_empty();
                let single = self.highlight.find_iter(text);
                let single = single.filter(|found| filled(found.as_str().trim_matches('*')));
                let double = self.strong_highlight.find_iter(text);
                let double = double.filter(|found| {
                    let inner = found.as_str();
                    filled(&inner[2..inner.len() - 2])
                });
                single.count() + double.count() >= arguments.number("num_highlights")?
            }
            "detectable_format:multiple_sections" => {
                let splitter = arguments.text("section_spliter")?;
                let splitter = regex_of(&format!(r"\s?{}\s?\d+\s?", splitter.trim()));
                let count = splitter.map_or(0, |splitter| splitter.find_iter(text).count());
                count >= arguments.number("num_sections")?
            }
            "detectable_format:json_format" => {
                let inner = ["```json", "```Json", "```JSON", "```"]
                    .iter()
                    .fold(trimmed, |text, fence| text.strip_prefix(fence).unwrap_or(text));
                let inner = strip(inner.strip_suffix("```").unwrap_or(inner));
                // Python's JSON also has NaN and infinities.
                let plain = self.string_or_no_number.replace_all(inner, |found: &Captures<'_>| {
                    found.get(1).map_or("null", |string| string.as_str()).to_owned()
                });
                serde_json::from_str::<serde::de::IgnoredAny>(&plain).is_ok()
            }
            "detectable_format:title" => self.title.find_iter(text).any(|title| {
                !strip(title.as_str().trim_start_matches('<').trim_end_matches('>')).is_empty()
            }),
            "combination:two_responses" => two_responses(text),
            "combination:repeat_prompt" => {
                let prompt = arguments.text("prompt_to_repeat")?;
                trimmed.to_lowercase().starts_with(&prompt.trim().to_lowercase())
            }
            "startend:end_checker" => {
                let phrase = arguments.text("end_phrase")?;
                let text = trimmed.trim_matches('"').to_lowercase();
                text.ends_with(&phrase.trim().to_lowercase())
            }
            "startend:quotation" => {
                trimmed.len() > 1 && trimmed.starts_with('"') && trimmed.ends_with('"')
            }
            "change_case:english_capital" => {
                is_upper(text) && detect(text).is_none_or(|found| found == "en")
            }
            "change_case:english_lowercase" => {
                is_lower(text) && detect(text).is_none_or(|found| found == "en")
            }
            "change_case:capital_word_frequency" => {
                let words = self.words.of(text, &self.punkt);
                let count = words.iter().filter(|word| is_upper(word)).count();
                arguments.compare(count, "capital_relation", "capital_frequency")?
            }
            "punctuation:no_comma" => !text.contains(','),
            _ => return Err(arguments.record.error(format!("unknown instruction {id}"))),
        })
    }

    /// The number of paragraphs between dividers; `None` if an inner one is empty.
    fn paragraphs(&self, text: &str) -> Option<usize> {
        let paragraphs: Vec<&str> = self.divider.split(text).collect();
        let mut count = paragraphs.len();
        for (index, paragraph) in paragraphs.iter().enumerate() {
            if strip(paragraph).is_empty() {
                if index != 0 && index != paragraphs.len() - 1 {
                    return None;
                }
                count -= 1;
            }
        }
        Some(count)
    }
}

/// Whether paragraph n of a given number of paragraphs begins with a word.
fn nth_paragraph(arguments: &Arguments<'_>, text: &str) -> Result<bool> {
    let paragraphs: Vec<&str> = text.split("\n\n").collect();
    let count = paragraphs.iter().filter(|paragraph| !strip(paragraph).is_empty()).count();
    let nth = arguments.number("nth_paragraph")?;
    let paragraph = paragraphs.get(nth.wrapping_sub(1)).filter(|_| nth <= count);
    let Some(word) = paragraph.and_then(|paragraph| words(paragraph).next()) else {
        return Ok(false);
    };
    let word = word.trim_start_matches('\'').trim_start_matches('"');
    let end = word.find(['.', ',', '?', '!', '\'', '"']).unwrap_or(word.len());
    let wanted = arguments.text("first_word")?.to_lowercase();
    Ok(count == arguments.number("num_paragraphs")? && word[..end].to_lowercase() == wanted)
}

/// Whether the text consists of exactly two different responses, separated by six stars.
fn two_responses(text: &str) -> bool {
    let parts: Vec<&str> = text.split("******").collect();
    let mut responses = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        if !strip(part).is_empty() {
            responses.push(strip(part));
        } else if index != 0 && index != parts.len() - 1 {
            return false;
        }
    }
    matches!(responses[..], [first, second] if first != second)
}

/// Compiles a pattern of the data, ignoring case. The reference fails on an invalid one.
fn pattern(text: &str) -> Option<Regex> {
    RegexBuilder::new(text).case_insensitive(true).build().ok()
}

fn regex_of(text: &str) -> Option<Regex> {
    Regex::new(text).ok()
}

/// Python's `str.isupper`: the text has cased letters, and none is lower or title case.
fn is_upper(text: &str) -> bool {
    let lower = |c: char| c.is_lowercase() || is_title(c);
    text.chars().any(char::is_uppercase) && !text.chars().any(lower)
}

/// Python's `str.islower`.
fn is_lower(text: &str) -> bool {
    let upper = |c: char| c.is_uppercase() || is_title(c);
    text.chars().any(char::is_lowercase) && !text.chars().any(upper)
}

/// Whether a character is title case: neither upper nor lower case, but with a lower case form.
fn is_title(c: char) -> bool {
    !c.is_uppercase() && !c.to_lowercase().eq([c])
}
