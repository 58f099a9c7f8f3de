//! Exact match: the answer equals one of the right texts.

use minijinja::value::{Value, ValueKind};
use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, json};

use crate::error::Result;
use crate::grade::judge::{Grade, Judge, regex};
use crate::grade::python::strip;
use crate::record::Record;

/// The extracted answer if the pattern does not match.
const INVALID: &str = "[invalid]";

/// How answers are compared with the right ones.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matching {
    /// A regular expression that extracts the answer from the output: the first group of the first
    /// match, or the whole match. Without it, the answer is the whole output.
    pub pattern: Option<String>,
    /// Whether case is ignored.
    #[serde(default)]
    pub ignore_case: bool,
    /// Whether ASCII punctuation is ignored.
    #[serde(default)]
    pub ignore_punctuation: bool,
}

impl Matching {
    /// The error of an invalid pattern.
    pub(crate) fn fault(&self) -> Option<String> {
        let error = Regex::new(self.pattern.as_deref()?).err()?.to_string();
        // The lines before the last one show the pattern.
        let last = error.lines().last().unwrap_or_default();
        Some(last.strip_prefix("error: ").unwrap_or(last).to_owned())
    }
}

/// Compares the answer with the record's field `gold`, which is a text, a number or a list of
/// these. Surrounding spaces are ignored.
pub(crate) struct ExactMatch {
    pattern: Option<Regex>,
    ignore_case: bool,
    ignore_punctuation: bool,
}

impl ExactMatch {
    /// Creates the grader.
    pub(crate) fn new(matching: &Matching) -> Result<Self> {
        Ok(Self {
            pattern: matching.pattern.as_deref().map(regex).transpose()?,
            ignore_case: matching.ignore_case,
            ignore_punctuation: matching.ignore_punctuation,
        })
    }

    fn extracted<'a>(&self, output: &'a str) -> &'a str {
        let Some(pattern) = &self.pattern else { return strip(output) };
        let found = pattern.captures(output);
        let found = found.and_then(|found| found.get(1).or(found.get(0)));
        found.map_or(INVALID, |found| strip(found.as_str()))
    }

    fn normalised(&self, text: &str) -> String {
        let text = if self.ignore_case { text.to_lowercase() } else { text.to_owned() };
        let kept = |c: &char| !(self.ignore_punctuation && c.is_ascii_punctuation());
        strip(&text.chars().filter(kept).collect::<String>()).to_owned()
    }
}

impl Judge for ExactMatch {
    fn grade(&self, output: &str, record: &Record) -> Result<Grade> {
        let gold = right(record.fields.get("gold"))
            .ok_or_else(|| record.error("\"gold\" is not a text, a number or a list of such"))?;
        let extracted = self.extracted(output);
        let answer = self.normalised(extracted);
        Ok(Grade {
            extracted: extracted.into(),
            correct: gold.iter().any(|gold| self.normalised(gold) == answer),
            gold: json!(gold),
            more: Map::new(),
        })
    }
}

/// The right answers.
fn right(gold: Option<&Value>) -> Option<Vec<String>> {
    let text =
        |value: &Value| (value.as_str().is_some() || value.is_number()).then(|| value.to_string());
    let gold = gold?;
    match gold.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            let all: Option<Vec<String>> =
                gold.try_iter().ok()?.map(|value| text(&value)).collect();
            all.filter(|all| !all.is_empty())
        }
        _ => Some(vec![text(gold)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(matching: &Matching, output: &str, gold: &str) -> (String, bool) {
        let fields = serde_json::from_str(&format!("{{\"gold\": {gold}}}")).unwrap();
        let record = Record { path: "t".into(), line: 1, index: 0, fields, json: None };
        let grade = ExactMatch::new(matching).unwrap().grade(output, &record).unwrap();
        (grade.extracted.as_str().unwrap().to_owned(), grade.correct)
    }

    #[test]
    fn answers_are_compared_as_the_task_says() {
        let plain = Matching::default();
        for (output, gold, correct) in [
            (" Paris\n", "\"Paris\"", true),
            ("paris", "\"Paris\"", false),
            ("Paris.", "\"Paris\"", false),
            ("7", "7", true),
            ("rouge", "[\"red\", \"rouge\"]", true),
            ("", "\"Paris\"", false),
        ] {
            assert_eq!(verdict(&plain, output, gold).1, correct, "{output:?} {gold}");
        }
        let loose = Matching { ignore_case: true, ignore_punctuation: true, pattern: None };
        assert!(!verdict(&loose, "st. johns!", "\"St John’s\"").1);
        assert!(verdict(&loose, " st. john's!", "\"St Johns\"").1);
        let found = Matching { pattern: Some("is (\\w+)".to_owned()), ..Matching::default() };
        assert_eq!(verdict(&found, "It is red, is it?", "\"red\""), ("red".to_owned(), true));
        assert_eq!(verdict(&found, "red", "\"red\""), (INVALID.to_owned(), false));
        let whole = Matching { pattern: Some("\\d+".to_owned()), ..Matching::default() };
        assert_eq!(verdict(&whole, "from 3 to 4", "3"), ("3".to_owned(), true));
    }

    #[test]
    fn faults_are_named() {
        let broken = Matching { pattern: Some("(".to_owned()), ..Matching::default() };
        assert!(ExactMatch::new(&broken).is_err());
        for fields in ["{}", "{\"gold\": null}", "{\"gold\": [[1]]}", "{\"gold\": []}"] {
            let fields = serde_json::from_str(fields).unwrap();
            let record = Record { path: "t".into(), line: 3, index: 0, fields, json: None };
            let judge = ExactMatch::new(&Matching::default()).unwrap();
            let error = judge.grade("x", &record).unwrap_err().to_string();
            assert!(error.contains("t line 3: \"gold\" is not a text"), "{error}");
        }
    }
}
