//! Protocols, tested on small hand-written records.

use std::path::Path;

use serde_json::json;

use crate::choice;
use crate::generation::{self, Prompt};
use crate::rolling;
use crate::task::{Generation, Kind, Task};

/// The definition of a generation task, and its prompts on these records.
fn generated(name: &str, files: &[(&str, &str)]) -> (Generation, Vec<Prompt>) {
    let task = Task::named(name).unwrap();
    let Kind::Generation(definition) = task.kind.clone() else { panic!("{name}") };
    let folder = tempfile::tempdir().unwrap();
    for (file, text) in files {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let prompts = generation::prompts(&task, &definition, folder.path(), true).unwrap();
    (definition, prompts)
}

fn turns(prompt: &Prompt, turns: bool) -> Vec<(String, String)> {
    let message = |message: trilobite_runtime::Message| {
        (message.role().to_owned(), message.text().to_owned())
    };
    prompt.messages(None, turns).into_iter().map(message).collect()
}

#[test]
fn gsm8k_has_five_drawn_examples() {
    let rows = |name: &str, count: usize| -> String {
        let row = |i| json!({"question": format!("{name} {i}?"), "answer": format!("#### {i}")});
        (0..count).map(|i| format!("{}\n", row(i))).collect()
    };
    let files = [("gsm8k/test.jsonl", rows("Test", 2)), ("gsm8k/train.jsonl", rows("Train", 7473))];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let (definition, prompts) = generated("gsm8k", &files);
    assert_eq!(definition.stop, ["Question:", "</s>", "<|im_end|>"]);
    assert_eq!(definition.max_tokens, 256);
    // random.Random(1234).sample(range(7473), 5), twice
    let drawn = [[6374, 3610, 957, 61, 742], [7462, 6610, 4769, 286, 5501]];
    for (number, (prompt, drawn)) in prompts.iter().zip(drawn).enumerate() {
        let shot = |i: &usize| format!("Question: Train {i}?\nAnswer: #### {i}\n\n");
        let text: String = drawn.iter().map(shot).collect();
        let text = format!("{text}Question: Test {number}?\nAnswer:");
        assert_eq!(prompt.text(None), text);
        // One turn with all examples, or a turn for each.
        assert_eq!(turns(prompt, false), [("user".to_owned(), text)]);
        let turns = turns(prompt, true);
        assert_eq!(turns.len(), 11);
        let question = format!("Question: Train {}?\nAnswer:", drawn[0]);
        assert_eq!(turns[0], ("user".to_owned(), question));
        assert_eq!(turns[1], ("assistant".to_owned(), format!("#### {}", drawn[0])));
        assert_eq!(turns[10].1, format!("Question: Test {number}?\nAnswer:"));
    }
}

#[test]
fn questions_are_asked_as_the_toolkits_ask() {
    let file = "triviaqa/triviaqa_sm_sub.llmfoundry.jsonl";
    let row = json!({"context": "Question: Who wrote it?\nAnswer:", "aliases": ["x"]}).to_string();
    let (definition, prompts) = generated("triviaqa", &[(file, &row)]);
    assert_eq!(prompts[0].text(None), "Question: Who wrote it??\nAnswer:");
    assert_eq!(
        (definition.stop, definition.max_tokens),
        (["\n", ".", ","].map(String::from).into(), 256)
    );

    let row = json!({"key": 7, "prompt": "Say {{hi}}.", "instruction_id_list": [], "kwargs": []});
    let (definition, prompts) =
        generated("ifeval", &[("ifeval/input_data.jsonl", &row.to_string())]);
    assert_eq!((prompts[0].id.as_str(), prompts[0].text(None).as_str()), ("7", "Say {{hi}}."));
    assert_eq!((definition.stop.len(), definition.max_tokens), (0, 1280));

    let row = json!({"unique_id": "a/1", "problem": "Add.", "solution": "\\boxed{1}"}).to_string();
    let (definition, prompts) = generated("math500", &[("math500/math500_test.jsonl", &row)]);
    let text = "Add.\nPlease reason step by step, and put your final answer within \\boxed{}.";
    assert_eq!(prompts[0].text(None), text);
    assert_eq!(definition.stop, ["</s>", "\n\nQuestion:", "\n\nProblem:"]);
    assert_eq!(definition.max_tokens, 1024);
}

#[test]
fn code_is_asked_for_as_evalplus_asks() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let task = Task::named("humaneval_plus").unwrap();
    let Kind::Generation(definition) = &task.kind else { panic!() };
    let prompts = generation::prompts(&task, definition, &folder, true).unwrap();
    let problem = "def double(x: int) -> int:\n    \"\"\" Twice x. \"\"\"\n";
    let text = format!(
        "Please provide a self-contained Python script that solves the following problem in a \
         markdown code block:\n```\n{}\n```\n",
        problem.trim()
    );
    assert_eq!(turns(&prompts[0], false), [("user".to_owned(), text)]);
    // A model without a chat template continues the problem itself.
    assert_eq!(prompts[0].plain.as_deref(), Some(format!("{}\n", problem.trim()).as_str()));
    assert_eq!(
        definition.begun,
        "Below is a Python script with a self-contained function that solves the problem and passes \
         corresponding tests:\n```python\n"
    );
    let stop =
        ["<|endoftext|>", "<|endofmask|>", "</s>", "\nif __name__", "\ndef main(", "\nprint("];
    assert_eq!(definition.stop, stop);
    assert_eq!(definition.chat_stop, ["\n```\n"]);
    let plain = ["\ndef ", "\nclass ", "\nimport ", "\nfrom ", "\nassert "];
    assert_eq!(
        (&definition.plain_stop[..], definition.max_tokens),
        (&plain.map(String::from)[..], 768)
    );
}

/// A scored item with these log-likelihoods and right choices.
fn scored(
    group: &str,
    logprobs: &[f64],
    gold: serde_json::Value,
    correct: bool,
) -> choice::Decision {
    let choice = |logprob: &f64| json!({"logprob": logprob, "tokens": 1, "chars": 1});
    serde_json::from_value(json!({
        "id": "i", "group": group, "prompt_sha256": "",
        "choices": logprobs.iter().map(choice).collect::<Vec<_>>(),
        "gold": gold, "pred": 0, "correct": correct, "pred_norm": 0, "correct_norm": !correct,
    }))
    .unwrap()
}

/// Every item of MMLU has the same weight. Subjects and categories are reported besides.
#[test]
fn mmlu_is_averaged_in_three_ways() {
    let task = Task::named("mmlu").unwrap();
    let mut answers = Vec::new();
    for (group, right, count) in [("anatomy", 3, 4), ("astronomy", 0, 1), ("world_religions", 1, 2)]
    {
        answers.extend((0..count).map(|i| scored(group, &[-1.0, -2.0], json!(0), i < right)));
    }
    let measured = choice::measure(&task, &answers);
    let metrics = &measured.metrics;
    let value = |name: &str| metrics[name].value;
    assert_eq!(value("acc"), 4.0 / 7.0);
    assert!((value("acc_macro") - (0.75 + 0.0 + 0.5) / 3.0).abs() < 1e-15);
    assert_eq!((value("acc_stem"), value("acc_humanities")), (3.0 / 5.0, 0.5));
    // [sum (n_s - 1) n_s se_s^2 / (N - groups)] / N, with n_s se_s^2 the variance of a subject.
    let pooled: f64 = (3.0 * 0.25 + 1.0 * 0.5) / (7.0 - 3.0) / 7.0;
    assert!((metrics["acc"].stderr.unwrap() - pooled.sqrt()).abs() < 1e-15);
    let subject = |name: &str| {
        let score = &measured.groups[name];
        (score.n, score.metrics["acc"].value, score.metrics["acc"].stderr)
    };
    assert_eq!(measured.groups.len(), 3);
    assert_eq!(subject("anatomy"), (4, 0.75, Some(0.25)));
    assert_eq!(subject("astronomy"), (1, 0.0, None));
    assert_eq!(subject("world_religions"), (2, 0.5, Some(0.5)));
    assert_eq!(task.groups.len(), 57);
    let categories: std::collections::BTreeSet<_> =
        task.groups.values().map(|group| group.category.as_str()).collect();
    let expected = ["humanities", "other", "social_sciences", "stem"];
    assert_eq!(categories.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn mc2_is_the_share_of_the_true_answers() {
    let task = Task::named("truthfulqa_mc2").unwrap();
    // Far below what a float can hold as a probability.
    let far = [-2000.0 - 2f64.ln(), -2000.0, -2000.0 - 4f64.ln()];
    let answers =
        [scored("", &far, json!([1, 0, 1]), true), scored("", &[-1.0, -1.0], json!([0, 1]), true)];
    let mc2 = choice::measure(&task, &answers).metrics["mc2"];
    // (1/2 + 1/4) / (1/2 + 1 + 1/4) and 1/2
    assert!((mc2.value - (3.0 / 7.0 + 0.5) / 2.0).abs() < 1e-9, "{mc2:?}");
}

#[test]
fn metrics_are_those_that_the_table_quotes() {
    for (name, metrics, split, items) in [
        ("arc_challenge", &["acc_norm", "acc"][..], "test", 1172),
        ("arc_easy", &["acc_norm", "acc"], "test", 2376),
        ("openbookqa", &["acc_norm", "acc"], "test", 500),
        ("boolq", &["acc"], "validation", 3270),
        ("hellaswag", &["acc_norm", "acc"], "validation", 10042),
        ("winogrande", &["acc"], "validation", 1267),
        ("commonsense_qa", &["acc"], "validation", 1221),
        ("truthfulqa_mc1", &["acc"], "validation", 817),
        ("truthfulqa_mc2", &["mc2"], "validation", 817),
        ("mmlu", &["acc"], "test", 14042),
        ("ifeval", &["inst_level_strict", "inst_level_loose"], "train", 541),
        ("humaneval_plus", &["pass_at_1"], "test", 164),
        ("math500", &["accuracy"], "test", 500),
        ("mt_bench", &["rating"], "the only one", 80),
    ] {
        let task = Task::named(name).unwrap();
        assert_eq!(
            (&task.metrics[..metrics.len()], task.items),
            (&metrics.map_strings()[..], items)
        );
        assert!(task.split.starts_with(split), "{name}");
    }
    let piqa = Task::named("piqa").unwrap();
    assert!(
        piqa.metrics.contains(&"acc".to_owned()) && piqa.metrics.contains(&"acc_norm".to_owned())
    );
    let gsm8k = Task::named("gsm8k").unwrap();
    assert_eq!((gsm8k.shots, gsm8k.items, gsm8k.metrics.len()), (5, 1319, 2));
    let mmlu = ["mmlu", "mmlu_5shot"].map(|name| Task::named(name).unwrap().shots);
    assert_eq!(mmlu, [0, 5]);
}

trait Strings {
    fn map_strings(&self) -> Vec<String>;
}

impl Strings for [&str] {
    fn map_strings(&self) -> Vec<String> {
        self.iter().map(|&text| text.to_owned()).collect()
    }
}

/// Perplexities of words, bytes and tokens from the same sum.
#[test]
fn perplexities_count_words_bytes_and_tokens() {
    let page = |logprob: f64, tokens: usize, words: usize, bytes: usize| {
        let page = json!({
            "id": "0", "prompt_sha256": "", "logprob": logprob,
            "tokens": tokens, "words": words, "bytes": bytes,
        });
        serde_json::from_value(page).unwrap()
    };
    let metrics = rolling::metrics(&[page(-30.0, 10, 5, 40), page(-10.0, 6, 3, 24)]);
    let near = |name: &str, expected: f64| {
        assert!((metrics[name].value / expected - 1.0).abs() < 1e-12, "{name}");
    };
    near("word_perplexity", (40.0f64 / 8.0).exp());
    near("byte_perplexity", (40.0f64 / 64.0).exp());
    near("bits_per_byte", 40.0 / 64.0 / 2f64.ln());
    near("token_perplexity", (40.0f64 / 16.0).exp());
}

/// Lengths are counted in characters as in Python, not in bytes or tokens.
#[test]
fn lengths_are_numbers_of_characters() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("arc")).unwrap();
    let choice = |label: &str, text: &str| json!({"label": label, "text": text});
    let choices = [choice("A", "café"), choice("B", "日本語"), choice("C", "e\u{301} 🦀")];
    let row = json!({"id": "1", "question": {"stem": "?", "choices": choices}, "answerKey": "B"});
    std::fs::write(folder.path().join("arc/ARC-Easy-Test.jsonl"), row.to_string()).unwrap();
    let questions = super::questions_in("arc_easy", folder.path()).unwrap();
    assert_eq!(questions[0].chars(), [4, 3, 4]);
}
