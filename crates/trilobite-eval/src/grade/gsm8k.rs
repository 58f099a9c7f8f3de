//! GSM8K: the number after `####`, or the last number.

use regex::Regex;
use serde_json::{Map, json};

use crate::error::Result;
use crate::grade::judge::{Grade, Judge, regex};
use crate::record::Record;

/// The extracted answer if no number is found.
const INVALID: &str = "[invalid]";

/// Grades as lm-evaluation-harness does: by `strict-match`, and by `flexible-extract` as
/// `flexible`.
pub(crate) struct Gsm8k {
    strict: Regex,
    flexible: Regex,
    before: Regex,
}

impl Gsm8k {
    /// Creates the grader.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            strict: regex(r"#### (\-?[0-9\.\,]+)")?,
            flexible: regex(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")?,
            before: regex(r"(?s).*#### ")?,
        })
    }

    /// Removes commas, dollar signs, the text up to `#### `, and a full stop at the end.
    fn normalised(&self, text: &str) -> String {
        let text = text.replace([',', '$'], "");
        let text = self.before.replace_all(&text, "");
        text.strip_suffix('.').unwrap_or(&text).to_lowercase()
    }
}

impl Judge for Gsm8k {
    fn grade(&self, output: &str, record: &Record) -> Result<Grade> {
        let gold = self.normalised(record.text("answer")?);
        let strict = self.strict.captures(output).and_then(|found| found.get(1));
        let strict = strict.map_or(INVALID, |found| found.as_str());
        let flexible = self.flexible.find_iter(output).last();
        let flexible = flexible.map_or(INVALID, |found| found.as_str());
        let more = [
            ("extracted_flexible".to_owned(), flexible.into()),
            ("correct_flexible".to_owned(), (self.normalised(flexible) == gold).into()),
        ];
        Ok(Grade {
            extracted: strict.into(),
            correct: self.normalised(strict) == gold,
            gold: json!(gold),
            more: Map::from_iter(more),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_strictly_and_flexibly() {
        let fields = serde_json::from_str(r#"{"answer": "so 3*6=18\n#### 1,018"}"#).unwrap();
        let record = Record { path: "t".into(), line: 1, index: 0, fields, json: None };
        for (output, strict, flexible) in [
            (" It is 1018.\n#### 1018", true, true),
            ("#### $1,018", false, true),
            ("#### 1,018.\nno, 7", true, false),
            ("The answer is 1018.", false, true),
            ("none", false, false),
        ] {
            let grade = Gsm8k::new().unwrap().grade(output, &record).unwrap();
            assert_eq!(grade.correct, strict, "{output}");
            assert_eq!(grade.more["correct_flexible"], flexible, "{output}");
        }
    }
}
