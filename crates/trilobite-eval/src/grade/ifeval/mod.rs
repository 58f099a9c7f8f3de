//! IFEval: verifiable instructions (Zhou et al. 2023, arXiv 2311.07911), as lm-evaluation-harness
//! checks them.

mod checks;
mod language;
mod punkt;
mod words;

use minijinja::Value;
use serde_json::{Map, json};

use crate::error::Result;
use crate::grade::judge::{Grade, Judge};
use crate::grade::python::strip;
use crate::record::Record;
use checks::{Arguments, Checks};

/// Checks the instructions of a prompt.
pub(crate) struct IfEval {
    checks: Checks,
}

impl IfEval {
    /// Creates the grader.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { checks: Checks::new()? })
    }

    /// For each instruction, whether it is followed strictly and leniently.
    fn verdicts(&self, output: &str, record: &Record) -> Result<Vec<[bool; 2]>> {
        let list = |field: &str| -> Option<Vec<Value>> {
            Some(record.fields.get(field)?.try_iter().ok()?.collect())
        };
        let (Some(ids), Some(kwargs)) = (list("instruction_id_list"), list("kwargs")) else {
            return Err(record.error("no list of instructions or of their arguments"));
        };
        if ids.len() != kwargs.len() {
            let message = format!("{} instructions, {} arguments", ids.len(), kwargs.len());
            return Err(record.error(message));
        }
        let variants = variants(output);
        let mut verdicts = Vec::new();
        for (id, kwargs) in ids.iter().zip(kwargs) {
            let id = id.as_str().ok_or_else(|| record.error("an instruction is not a string"))?;
            let arguments = Arguments { values: kwargs, record };
            let follows = |text: &str| -> Result<bool> {
                Ok(!strip(text).is_empty() && self.checks.follows(id, &arguments, text)?)
            };
            let strict = follows(output)?;
            let mut loose = strict;
            for variant in &variants {
                loose = loose || follows(variant)?;
            }
            verdicts.push([strict, loose]);
        }
        Ok(verdicts)
    }
}

impl Judge for IfEval {
    fn grade(&self, output: &str, record: &Record) -> Result<Grade> {
        let verdicts = self.verdicts(output, record)?;
        let all = |way: usize| verdicts.iter().all(|verdict| verdict[way]);
        let each = |way: usize| verdicts.iter().map(|verdict| verdict[way]).collect::<Vec<bool>>();
        let more = [
            ("correct_loose".to_owned(), json!(all(1))),
            ("instructions_strict".to_owned(), json!(each(0))),
            ("instructions_loose".to_owned(), json!(each(1))),
        ];
        let gold = record.fields.get("instruction_id_list");
        Ok(Grade {
            extracted: output.into(),
            gold: json!(gold),
            correct: all(0),
            more: Map::from_iter(more),
        })
    }
}

/// The lenient variants of an output, without the output itself and without duplicates. An
/// instruction is followed leniently if one of them follows it.
fn variants(output: &str) -> Vec<String> {
    let lines: Vec<&str> = output.split('\n').collect();
    let part = |from: usize, to: usize| {
        strip(&lines.get(from..to.max(from)).unwrap_or_default().join("\n")).to_owned()
    };
    let n = lines.len();
    let parts = [part(1, n), part(0, n.saturating_sub(1)), part(1, n.saturating_sub(1))];
    let mut variants: Vec<String> = Vec::new();
    let plain = [output].into_iter().chain(parts.iter().map(String::as_str));
    let plain: Vec<String> = plain.map(|text| text.replace('*', "")).collect();
    for variant in parts.into_iter().chain(plain) {
        if variant != output && !variants.contains(&variant) {
            variants.push(variant);
        }
    }
    variants
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::read_file;
    use crate::task::{DataFile, Task};
    use std::path::Path;

    fn verdict(id: &str, arguments: &str, output: &str) -> [bool; 2] {
        let fields = format!(r#"{{"instruction_id_list": ["{id}"], "kwargs": [{arguments}]}}"#);
        let fields = serde_json::from_str(&fields).unwrap();
        let record = Record { path: "t".into(), line: 1, index: 0, fields, json: None };
        IfEval::new().unwrap().verdicts(output, &record).unwrap()[0]
    }

    #[test]
    fn each_instruction_is_checked() {
        let strict = |id: &str, arguments: &str, output: &str| verdict(id, arguments, output)[0];
        for (id, arguments, good, bad) in [
            ("keywords:existence", r#"{"keywords": ["sun", "moon"]}"#, "Moon and SUNny", "sun"),
            (
                "keywords:frequency",
                r#"{"keyword": "a", "frequency": 2, "relation": "at least"}"#,
                "A a",
                "a",
            ),
            (
                "keywords:frequency",
                r#"{"keyword": "a", "frequency": 2, "relation": "less than"}"#,
                "a",
                "a a",
            ),
            ("keywords:forbidden_words", r#"{"forbidden_words": ["rock"]}"#, "rocks", "a Rock."),
            (
                "keywords:letter_frequency",
                r#"{"letter": "q", "let_frequency": 2, "let_relation": "at least"}"#,
                "Qq",
                "q",
            ),
            (
                "language:response_language",
                r#"{"language": "de"}"#,
                "Das ist ein ganz gewöhnlicher deutscher Satz, nichts weiter.",
                "This is an ordinary English sentence, nothing else.",
            ),
            (
                "length_constraints:number_sentences",
                r#"{"num_sentences": 2, "relation": "at least"}"#,
                "One. Two.",
                "One, Mr. Two.",
            ),
            (
                "length_constraints:number_paragraphs",
                r#"{"num_paragraphs": 2}"#,
                "a\n***\nb",
                "a\n***\n***\nb",
            ),
            (
                "length_constraints:number_words",
                r#"{"num_words": 3, "relation": "less than"}"#,
                "a b",
                "a b-c",
            ),
            (
                "length_constraints:nth_paragraph_first_word",
                r#"{"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Hey"}"#,
                "a\n\n'hey, you",
                "hey\n\na",
            ),
            (
                "detectable_content:number_placeholders",
                r#"{"num_placeholders": 2}"#,
                "[a] [b]",
                "[a",
            ),
            (
                "detectable_content:postscript",
                r#"{"postscript_marker": "P.S."}"#,
                "x\nP. S. y",
                "x PS",
            ),
            (
                "detectable_content:postscript",
                r#"{"postscript_marker": "P.P.S"}"#,
                "x\np.p.s y",
                "x P.S.",
            ),
            (
                "detectable_format:number_bullet_lists",
                r#"{"num_bullets": 2}"#,
                "* a\n- b",
                "* a\n** b",
            ),
            ("detectable_format:constrained_response", "{}", "Well: My answer is no.", "no"),
            (
                "detectable_format:number_highlighted_sections",
                r#"{"num_highlights": 1}"#,
                "a *b*",
                "a ** **",
            ),
            (
                "detectable_format:multiple_sections",
                r#"{"section_spliter": "Part", "num_sections": 2}"#,
                "Part 1 a Part 2 b",
                "Part 1 a",
            ),
            ("detectable_format:json_format", "{}", "```json\n{\"a\": [1]}\n```", "{a}"),
            ("detectable_format:json_format", "{}", "[NaN, -Infinity, \"NaN\"]", "[-NaN]"),
            ("detectable_format:json_format", "{}", r#"{"a\\": "NaN"}"#, "[aNaN]"),
            ("detectable_format:title", "{}", "<<a>> b", "<< >>"),
            ("combination:two_responses", "{}", "a ****** b", "a ****** a"),
            (
                "combination:repeat_prompt",
                r#"{"prompt_to_repeat": "Do it"}"#,
                "do it now",
                "now do it",
            ),
            (
                "startend:end_checker",
                r#"{"end_phrase": "The end."}"#,
                "x \"the end.\"",
                "the end. x",
            ),
            ("startend:quotation", "{}", "\"a\"", "\"a"),
            (
                "change_case:english_capital",
                "{}",
                "THIS IS AN ORDINARY ENGLISH SENTENCE, NOTHING ELSE.",
                "This is an ordinary English sentence.",
            ),
            (
                "change_case:english_lowercase",
                "{}",
                "this is an ordinary english sentence, nothing else.",
                "This is an ordinary English sentence.",
            ),
            (
                "change_case:capital_word_frequency",
                r#"{"capital_frequency": 2, "capital_relation": "at least"}"#,
                "GO NOW",
                "Go NOW",
            ),
            ("punctuation:no_comma", "{}", "a b", "a, b"),
        ] {
            assert!(strict(id, arguments, good), "{id}: {good}");
            assert!(!strict(id, arguments, bad), "{id}: {bad}");
        }
        assert_eq!(verdict("punctuation:no_comma", "{}", " "), [false, false]);
    }

    #[test]
    fn lenient_verdicts_forgive_an_introduction_and_stars() {
        assert_eq!(verdict("startend:quotation", "{}", "Sure:\n\"a\"\nBye"), [false, true]);
        assert_eq!(
            verdict("startend:end_checker", r#"{"end_phrase": "end"}"#, "the **end**"),
            [false, true]
        );
    }

    #[test]
    fn unknown_instructions_are_refused() {
        let fields = r#"{"instruction_id_list": ["a:b"], "kwargs": [{}]}"#;
        let fields = serde_json::from_str(fields).unwrap();
        let record = Record { path: "t".into(), line: 7, index: 0, fields, json: None };
        let error = IfEval::new().unwrap().verdicts("x", &record).unwrap_err().to_string();
        assert_eq!(error, "t line 7: unknown instruction a:b");
    }

    /// No repetition in an answer makes a check fail by its length.
    #[test]
    fn long_answers_are_checked() {
        const TIMES: usize = 30_000;
        let judge = IfEval::new().unwrap();
        let fields = r#"{"instruction_id_list": ["change_case:capital_word_frequency",
            "length_constraints:number_sentences", "detectable_format:json_format"], "kwargs": [
            {"capital_frequency": 1, "capital_relation": "at least"},
            {"num_sentences": 1, "relation": "at least"}, {}]}"#;
        let fields = serde_json::from_str(fields).unwrap();
        let record = Record { path: "t".into(), line: 1, index: 0, fields, json: None };
        for (piece, capital, json) in [
            (".", false, false),
            ("a.", false, false),
            ("A. ", true, false),
            ("!", false, false),
            (". ", false, false),
            ("-", false, false),
            ("\"", false, false),
            ("'", false, false),
            ("cannot ", false, false),
            ("A ", true, false),
            (".)", false, false),
            ("[", false, false),
            (" ", false, false),
        ] {
            let found = judge.verdicts(&format!("x\n{}y", piece.repeat(TIMES)), &record).unwrap();
            let expected = [[capital, capital], [true, true], [json, json]];
            assert_eq!(found, expected, "{piece}");
        }
        let nested = format!("{}{}", "[".repeat(TIMES), "]".repeat(TIMES));
        assert_eq!(judge.verdicts(&nested, &record).unwrap()[2], [true, true]);
    }

    /// Fraction of the instructions on which the verdicts may differ from the reference's.
    const DISAGREEMENT: f64 = 0.01;

    /// With the original data in `TRILOBITE_EVALDATA`: the verdicts of the real checkers.
    #[test]
    #[ignore = "needs TRILOBITE_EVALDATA, a folder of the original data sets"]
    fn verdicts_agree_with_the_reference() {
        let folder = std::env::var("TRILOBITE_EVALDATA").expect("TRILOBITE_EVALDATA");
        let task = Task::named("ifeval").unwrap();
        let read = |name: &str| {
            let file = DataFile { file: name.into(), ..task.data[0].clone() };
            read_file(&task, &file, 0, Path::new(&folder), None, true).unwrap()
        };
        let prompts = read("ifeval/input_data.jsonl");
        let judge = IfEval::new().unwrap();
        let (mut all, mut wrong) = (0, Vec::new());
        for golden in read("golden/ifeval_golden.jsonl") {
            let prompt = prompts.iter().find(|prompt| prompt.fields["key"] == golden.fields["key"]);
            let prompt = prompt.unwrap();
            let found = judge.verdicts(golden.text("response").unwrap(), prompt).unwrap();
            for (way, name) in ["strict", "loose"].iter().enumerate() {
                let expected: Vec<bool> =
                    golden.fields[*name].try_iter().unwrap().map(|v| v.is_true()).collect();
                for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
                    all += 1;
                    if found[way] != expected {
                        let id =
                            prompt.fields["instruction_id_list"].get_item_by_index(index).unwrap();
                        wrong.push(format!("line {} {name} {id}: {}", golden.line, found[way]));
                    }
                }
            }
        }
        println!("{} of {all} verdicts differ: {wrong:#?}", wrong.len());
        assert!((wrong.len() as f64) <= DISAGREEMENT * f64::from(all), "{wrong:#?}");
    }
}
