//! Patterns that split a text or are replaced in it: a literal text or a regular expression.

use std::fmt::Display;

use fancy_regex::RegexBuilder as FancyRegexBuilder;
use regex::Regex;

use super::deadline::Deadline;
use super::node::{Fault, Node};
use super::oniguruma;

/// The end of nearly all published expressions: of several spaces before a word it matches all but
/// the last, which belongs to the word.
const SPACES_BEFORE_A_WORD: &str = r"\s+(?!\S)";
const SPACES: [&str; 2] = [r"\s+", r"\s"];

/// Maximum number of backtracking steps in the search for one match.
const MAX_BACKTRACKS: usize = 1_000_000;

/// A compiled pattern.
pub(super) struct Pattern(Engine);

enum Engine {
    /// Runs in time linear in the text.
    Linear(Regex),
    /// Runs in linear time, for expressions that end with `SPACES_BEFORE_A_WORD` and `SPACES`.
    Words {
        /// All alternatives, with `\s+` in place of the last two.
        all: Regex,
        /// The alternatives before those two, anchored at the start. They never match an empty
        /// text.
        first: Regex,
    },
    /// All other expressions, with a limit of the steps.
    Backtracking(fancy_regex::Regex),
}

impl Pattern {
    /// A literal text.
    pub(super) fn text(text: &str) -> Result<Self, String> {
        Ok(Self(Engine::Linear(compile(&regex::escape(text))?)))
    }

    /// Words, and runs of characters that are neither word nor space. The reference uses Rust's
    /// syntax for this expression.
    pub(super) fn words() -> Result<Self, String> {
        Ok(Self(Engine::Linear(compile(r"\w+|[^\w\s]+")?)))
    }

    /// A regular expression.
    pub(super) fn expression(expression: &str) -> Result<Self, String> {
        let alternatives = oniguruma::translate(expression)?;
        let join = |alternatives: &[oniguruma::Alternative]| {
            let texts: Vec<_> = alternatives.iter().map(|one| one.text.as_str()).collect();
            texts.join("|")
        };
        if alternatives.iter().all(|alternative| !alternative.backtracks) {
            return Ok(Self(Engine::Linear(compile(&join(&alternatives))?)));
        }
        if let [before @ .., spaces, last] = &alternatives[..]
            && spaces.text == SPACES_BEFORE_A_WORD
            && SPACES.contains(&last.text.as_str())
            && !before.iter().any(|one| one.backtracks || one.looks_behind)
            && !before.is_empty()
        {
            let before = join(before);
            let all = compile(&format!(r"{before}|\s+"))?;
            let first = compile(&format!(r"\A(?:{before})"))?;
            if !first.is_match("") {
                return Ok(Self(Engine::Words { all, first }));
            }
        }
        let regex = FancyRegexBuilder::new(&format!("(?m){}", join(&alternatives)))
            .backtrack_limit(MAX_BACKTRACKS)
            .build();
        Ok(Self(Engine::Backtracking(regex.map_err(unusable)?)))
    }

    /// Reads a pattern: `{"String": ...}` or `{"Regex": ...}`.
    pub(super) fn read(node: &Node<'_>) -> Result<Self, Fault> {
        if let Some(text) = node.get("String") {
            return Self::text(text.string()?).map_err(|what| text.fault(what));
        }
        let expression = node
            .get("Regex")
            .ok_or_else(|| node.fault("has neither a String nor a Regex, expected one of them"))?;
        Self::expression(expression.string()?).map_err(|what| expression.fault(what))
    }

    /// Calls `found` with the start and the end of every match, in order.
    pub(super) fn each_match(
        &self,
        text: &str,
        deadline: &Deadline,
        found: &mut dyn FnMut(usize, usize) -> Result<(), String>,
    ) -> Result<(), String> {
        match &self.0 {
            Engine::Linear(regex) => {
                for matched in regex.find_iter(text) {
                    deadline.check()?;
                    found(matched.start(), matched.end())?;
                }
            }
            Engine::Words { all, first } => {
                let mut at = 0;
                while let Some(matched) = all.find_at(text, at) {
                    deadline.check()?;
                    at = words_end(matched, first, text);
                    found(matched.start(), at)?;
                }
            }
            Engine::Backtracking(regex) => {
                for matched in regex.find_iter(text) {
                    deadline.check()?;
                    let matched = matched.map_err(|error| {
                        format!("one of its regular expressions gave up: {}", last_line(&error))
                    })?;
                    found(matched.start(), matched.end())?;
                }
            }
        }
        Ok(())
    }
}

/// The end of a match of all alternatives. If `\s+` matched and a word follows, it is before the
/// last space.
fn words_end(matched: regex::Match<'_>, first: &Regex, text: &str) -> usize {
    let (start, end) = (matched.start(), matched.end());
    let last = matched.as_str().chars().next_back();
    let (Some(last), true) = (last.filter(|c| c.is_whitespace()), end < text.len()) else {
        return end;
    };
    let spaces = matched.as_str();
    if last.len_utf8() == spaces.len() || !spaces.starts_with(char::is_whitespace) {
        return end;
    }
    match first.find(text.get(start..).unwrap_or_default()) {
        Some(_) => end,
        None => end - last.len_utf8(),
    }
}

fn compile(expression: &str) -> Result<Regex, String> {
    // In Ruby `^` and `$` match at every line.
    Regex::new(&format!("(?m){expression}")).map_err(unusable)
}

fn unusable(error: impl Display) -> String {
    format!("is no usable regular expression: {}", last_line(&error))
}

/// The last line of an error message, which may start with a drawing of the expression.
fn last_line(error: &impl Display) -> String {
    let message = error.to_string();
    let last = message.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}
