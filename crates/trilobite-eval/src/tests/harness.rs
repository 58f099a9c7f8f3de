//! Prompts, verdicts and windows of lm-evaluation-harness, recorded by
//! `benches/peers/lm_eval_prompts.py`.

use std::path::Path;

use serde_json::Value;

use crate::bytes::sha256;
use crate::task::{Kind, Task};
use crate::{choice, generation, rolling};

fn recorded() -> Value {
    serde_json::from_str(include_str!("../../tests/data/harness.json")).unwrap()
}

/// The made-up log-likelihoods of the script.
fn score(task: &str, item: usize, choice: usize) -> f64 {
    let hash = sha256(format!("{task}/{item}/{choice}").as_bytes());
    -1.0 - f64::from(u8::from_str_radix(&hash[..2], 16).unwrap() % 8)
}

/// With the original data in `TRILOBITE_EVALDATA`: every prompt of every task, and the harness's
/// verdicts on made-up scores.
#[test]
fn all_prompts_and_verdicts_are_those_of_the_harness() {
    let Ok(folder) = std::env::var("TRILOBITE_EVALDATA") else {
        println!("skipped: TRILOBITE_EVALDATA names no folder of data sets");
        return;
    };
    let folder = Path::new(&folder);
    for (name, expected) in recorded()["tasks"].as_object().unwrap() {
        let task = Task::named(name).unwrap();
        let mut texts = Vec::new();
        let items = match &task.kind {
            Kind::Choice(kind) => {
                let questions = choice::questions(&task, kind, folder, false).unwrap();
                let mut answers = Vec::new();
                for (item, question) in questions.iter().enumerate() {
                    let requests = question.requests();
                    let choices = 0..requests.len();
                    texts.extend(requests.into_iter().flat_map(|(a, b)| [a, b]));
                    let scores: Vec<_> =
                        choices.map(|choice| (score(name, item, choice), 1)).collect();
                    answers.push(question.decided(&scores));
                }
                let metrics = choice::measure(&task, &answers).metrics;
                for (metric, sum) in expected["sums"].as_object().unwrap() {
                    let metric = if name.ends_with("_mc2") { "mc2" } else { metric };
                    let found = metrics[metric].value * answers.len() as f64;
                    assert!((found - sum.as_f64().unwrap()).abs() < 1e-6, "{name} {metric}");
                }
                questions.len()
            }
            Kind::Generation(kind) => {
                let prompts = generation::prompts(&task, kind, folder, false).unwrap();
                texts.extend(prompts.iter().map(|prompt| prompt.text(None)));
                prompts.len()
            }
            Kind::Rolling {} => {
                let pages = rolling::pages(&task, folder, false).unwrap();
                texts.extend(pages.iter().map(|page| page.text.clone()));
                pages.len()
            }
            Kind::Conversation(_) => panic!("{name}"),
        };
        assert_eq!(items, expected["items"].as_u64().unwrap() as usize, "{name}");
        let text: String = texts.iter().map(|text| format!("{text}\0")).collect();
        assert_eq!(sha256(text.as_bytes()), expected["sha256"], "{name}");
    }
}

/// Texts of 0 to 80 tokens in windows of 1 to 20; token 0 is the prefix.
#[test]
fn windows_are_those_of_the_harness() {
    let mut lines = String::new();
    for count in 0..=80 {
        let tokens: Vec<usize> = (0..=count).collect();
        for span in 1..=20 {
            for window in rolling::windows(count, span) {
                let context = &tokens[window.start..window.from];
                let continuation = &tokens[window.from..window.end];
                lines += &format!("{count} {span} {context:?} {continuation:?}\n");
            }
        }
    }
    assert!(lines.contains("7 3 [4, 5, 6] [7]\n"));
    assert!(lines.contains("8 3 [5, 6] [7, 8]\n"));
    assert_eq!(sha256(lines.as_bytes()), recorded()["windows"]);
}
