//! TriviaQA: any alias, without case and punctuation.

use serde_json::{Map, json};

use crate::error::Result;
use crate::grade::judge::{Grade, Judge};
use crate::grade::python::strip;
use crate::record::Record;

/// Grades as lm-evaluation-harness does: articles and inner spaces are kept.
pub(crate) struct TriviaQa;

impl Judge for TriviaQa {
    fn grade(&self, output: &str, record: &Record) -> Result<Grade> {
        let aliases = record.fields.get("aliases").and_then(|aliases| aliases.try_iter().ok());
        let aliases: Vec<String> = aliases
            .and_then(|aliases| aliases.map(|alias| alias.as_str().map(unquoted)).collect())
            .ok_or_else(|| record.error("\"aliases\" is not a list of strings"))?;
        let extracted = strip(output);
        let answer = normalised(extracted);
        Ok(Grade {
            extracted: extracted.into(),
            correct: aliases.iter().any(|alias| normalised(alias) == answer),
            gold: json!(aliases),
            more: Map::new(),
        })
    }
}

fn normalised(text: &str) -> String {
    text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect()
}

/// The question in a finished context, `Question: {question}\nAnswer:`. A question mark that the
/// preparation of the data set added is removed.
pub(crate) fn question(context: &str) -> String {
    let text = context.strip_prefix("Question: ").unwrap_or(context);
    unquoted(text.strip_suffix("\nAnswer:").unwrap_or(text))
}

/// Removes the quotes of CSV that were left on a text.
fn unquoted(text: &str) -> String {
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    match inner {
        Some(inner) if inner.contains("\"\"") => inner.replace("\"\"", "\""),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_match_without_case_and_punctuation() {
        let fields = serde_json::from_str(r#"{"aliases": ["\"\"\"Hey!\"\"\"", "St. John's"]}"#);
        let record =
            Record { path: "t".into(), line: 1, index: 0, fields: fields.unwrap(), json: None };
        for (output, correct) in
            [(" hey", true), ("ST JOHNS", true), ("the hey", false), ("St  Johns", false)]
        {
            assert_eq!(TriviaQa.grade(output, &record).unwrap().correct, correct, "{output}");
        }
        let record = Record { fields: Default::default(), ..record };
        assert!(TriviaQa.grade("x", &record).is_err());
    }

    #[test]
    fn questions_are_rebuilt() {
        assert_eq!(question("Question: Who?\nAnswer:"), "Who?");
        let quoted = "Question: \"Who wrote \"\"It\"\"?\"\nAnswer:";
        assert_eq!(question(quoted), "Who wrote \"It\"?");
    }
}
