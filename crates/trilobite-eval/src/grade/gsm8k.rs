//! GSM8K: the number after `####`, or the last number.

use serde_json::{Map, json};

use crate::data::Record;
use crate::error::Result;
use crate::generation::Grade;
use crate::grade::regex;

/// What stands for an answer in which no number was found.
const INVALID: &str = "[invalid]";

/// Grades as lm-evaluation-harness: `strict-match`, and `flexible-extract` as `flexible`.
pub(crate) fn grade(output: &str, record: &Record) -> Result<Grade> {
    let strict = regex(r"#### (\-?[0-9\.\,]+)")?;
    let flexible = regex(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")?;
    let gold = normalised(record.text("answer")?)?;
    let strict = strict.captures(output).and_then(|found| found.get(1));
    let strict = strict.map_or(INVALID, |found| found.as_str());
    let flexible = flexible.find_iter(output).last().map_or(INVALID, |found| found.as_str());
    let more = [
        ("extracted_flexible".to_owned(), flexible.into()),
        ("correct_flexible".to_owned(), (normalised(flexible)? == gold).into()),
    ];
    Ok(Grade {
        extracted: strict.into(),
        correct: normalised(strict)? == gold,
        gold: json!(gold),
        more: Map::from_iter(more),
    })
}

/// Without commas, dollar signs, what stands before `#### `, and a full stop at the end.
fn normalised(text: &str) -> Result<String> {
    let text = text.replace([',', '$'], "");
    let text = regex(r"(?s).*#### ")?.replace_all(&text, "");
    Ok(text.strip_suffix('.').unwrap_or(&text).to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_strictly_and_flexibly() {
        let fields = serde_json::from_str(r#"{"answer": "so 3*6=18\n#### 1,018"}"#).unwrap();
        let record = Record { path: "t".into(), line: 1, index: 0, fields };
        for (output, strict, flexible) in [
            (" It is 1018.\n#### 1018", true, true),
            ("#### $1,018", false, true),
            ("#### 1,018.\nno, 7", true, false),
            ("The answer is 1018.", false, true),
            ("none", false, false),
        ] {
            let grade = grade(output, &record).unwrap();
            assert_eq!(grade.correct, strict, "{output}");
            assert_eq!(grade.more["correct_flexible"], flexible, "{output}");
        }
    }
}
