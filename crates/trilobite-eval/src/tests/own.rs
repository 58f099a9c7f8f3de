//! Task definitions in files, and prompts with examples, system messages and chat templates. The
//! prompts are those of lm-evaluation-harness, recorded by `benches/peers/lm_eval_contexts.py`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::Error;
use crate::task::{Kind, Task};
use crate::{choice, data, generation};

fn folder() -> PathBuf {
    super::folder().join("own")
}

fn written(messages: &[trilobite_runtime::Message]) -> Value {
    let message = |message: &trilobite_runtime::Message| json!({"role": message.role(), "content": message.text()});
    messages.iter().map(message).collect()
}

/// The requests of a task: context and continuation of each choice, or the prompt.
fn requests(task: &Task, system: Option<&str>, chat: Option<bool>) -> Value {
    let nowhere = Path::new("nowhere");
    match &task.kind {
        Kind::Choice(definition) => {
            let questions = choice::questions(task, definition, nowhere, false).unwrap();
            let question = |question: &choice::Question| -> Value {
                let choice = |choice: usize| match chat {
                    Some(turns) => {
                        let (messages, answer) = question.conversation(choice, system, turns);
                        json!([written(&messages), answer])
                    }
                    None => json!(question.requests_after(system)[choice]),
                };
                (0..question.chars().len()).map(choice).collect()
            };
            questions.iter().map(question).collect()
        }
        Kind::Generation(definition) => {
            let prompts = generation::prompts(task, definition, nowhere, false).unwrap();
            let prompt = |prompt: &generation::Prompt| match chat {
                Some(turns) => json!([[written(&prompt.messages(system, turns)), ""]]),
                None => json!([[prompt.text(system), ""]]),
            };
            prompts.iter().map(prompt).collect()
        }
        _ => panic!("{}", task.name),
    }
}

#[test]
fn contexts_are_those_of_the_harness() {
    let recorded: Vec<Value> =
        serde_json::from_str(include_str!("../../tests/data/own/harness.json")).unwrap();
    assert_eq!(recorded.len(), 81);
    for case in recorded {
        let path = folder().join(format!("{}.toml", case["task"].as_str().unwrap()));
        let shots = case["shots"].as_u64().unwrap() as usize;
        let task = Task::open(&path).unwrap().with_shots(shots).unwrap();
        let chat = case["chat"].as_str().map(|chat| chat == "turns");
        let found = requests(&task, case["system"].as_str(), chat);
        let (name, system) = (&case["task"], &case["system"]);
        assert_eq!(found, case["requests"], "{name} {shots} {system} {chat:?}");
    }
}

#[test]
fn a_definition_is_called_by_its_file_and_has_its_data_beside_it() {
    let task = Task::open(&folder().join("capitals.toml")).unwrap();
    assert_eq!(
        (task.name.as_str(), task.title.as_str(), task.version),
        ("capitals", "Capitals", 1)
    );
    assert_eq!((task.sha256.len(), task.shots, task.is_own()), (64, 0, true));
    let hashes = |task: &Task| -> Vec<String> {
        let hashes = data::hashes(task, Path::new("nowhere")).unwrap();
        hashes.into_iter().map(|(file, _)| file).collect()
    };
    assert_eq!(hashes(&task), ["capitals.jsonl"]);
    let three = task.with_shots(3).unwrap();
    assert_eq!(hashes(&three), ["capitals.jsonl", "capitals_examples.csv"]);
    let sums = Task::open(&folder().join("sums.toml")).unwrap();
    assert_eq!((sums.title.as_str(), sums.kind.name()), ("Sums", "generation"));
}

/// A template that would take all of the memory or never end is an error that names its file.
#[test]
fn the_time_and_memory_of_a_template_are_limited() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    std::fs::write(folder.path().join("d.jsonl"), r#"{"o": ["x", "y"], "a": 0}"#).unwrap();
    let double = "{% set ns = namespace(x='a') %}{% for i in range(40) %}\
                  {% set ns.x = ns.x ~ ns.x %}{% endfor %}";
    let spin = "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}";
    let tests = [
        ("context", double, "o"),
        ("context", spin, "o"),
        ("context", "{{ 'x' * 100000000000 }}", "o"),
        ("choices", "", "['x'] * 90000000"),
    ];
    for (key, context, choices) in tests {
        let text = format!(
            "metrics = [\"acc\"]\n[[data]]\nfile = \"d.jsonl\"\nformat = \"jsonl\"\n\
             [kind.choice]\ncontext = \"{context}\"\nchoices = \"{choices}\"\ngold = \"a\"\n"
        );
        std::fs::write(&path, text).unwrap();
        let task = Task::open(&path).unwrap();
        let Kind::Choice(definition) = &task.kind else { panic!("{}", task.name) };
        let said = choice::questions(&task, definition, Path::new("nowhere"), true);
        let said = said.err().unwrap().to_string();
        assert!(said.contains("mine.toml") && said.contains("d.jsonl line 1"), "{said}");
        assert!(said.contains(&format!("{key}: it takes too much time or memory")), "{said}");
    }
}

/// The error of an invalid definition names the file, the line and the allowed values.
#[test]
fn faulty_definitions_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    let good = std::fs::read_to_string(self::folder().join("sums.toml")).unwrap();
    let fault = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        std::fs::write(&path, good.replace(from, to)).unwrap();
        let said = Task::open(&path).unwrap_err().to_string();
        assert!(said.contains("mine.toml line ") && !said.contains('\n'), "{said}");
        said
    };
    for (from, to, line, expected) in [
        ("title", "titel", 1, "unknown field `titel`, expected one of `version`, `title`, `split`"),
        (
            "format = \"tsv\"",
            "format = \"parquet\"",
            7,
            "unknown variant `parquet`, expected one of",
        ),
        ("role", "rule", 12, "unknown field `rule`, expected one of `file`, `format`, `role`"),
        ("stop", "stops", 17, "unknown field `stops`, expected one of `id`, `prompt`, `target`"),
        (
            "{ pattern",
            "{ regex",
            21,
            "unknown field `regex`, expected one of `pattern`, `ignore_case`",
        ),
        (
            "match = { pattern = ",
            "match = { pattern = \"(\" } # ",
            1,
            "kind.generation.match.pattern: unclosed group",
        ),
        (
            "match = { pattern = ",
            "match = { pattern = \".{1000}{1000}\" } # ",
            1,
            "kind.generation.match.pattern: Compiled regex exceeds size limit",
        ),
        ("max_tokens = 8", "", 14, "missing field `max_tokens`"),
        ("max_tokens = 8", "max_tokens = 0", 1, "generation.max_tokens is 0, expected at least 1"),
        (
            "max_tokens = 8",
            "max_tokens = -8",
            18,
            "integer `-8`, expected a whole number that is not negative",
        ),
        (
            "[kind.generation]",
            "[kind.guess]",
            14,
            "unknown variant `guess`, expected one of `choice`",
        ),
        ("first_n", "last_n", 3, "unknown variant `last_n`, expected `random` or `first_n`"),
        ("title = \"Sums\"", "title = Sums", 1, "string values must be quoted"),
        ("[\"exact_match\"]", "[\"acc\"]", 1, "metrics: \"acc\" is none of exact_match"),
        ("[\"exact_match\"]", "[]", 1, "metrics: the list is empty; there are exact_match"),
        ("\"exact_match\"\ngold", "\"gsm8k\"\ngold", 1, "only the grader exact_match reads it"),
        (
            "role = \"shots\"",
            "role = \"labels\"\n[[data]]\nfile = \"l\"\nformat = \"lines\"\nrole = \"labels\"",
            1,
            "more than one file has the role \"labels\"",
        ),
        ("sums.tsv", "{group}.tsv", 1, "data: {group}.tsv needs [groups.NAME] tables"),
    ] {
        let said = fault(from, to);
        assert!(said.contains(&format!("line {line}: ")) && said.contains(expected), "{said}");
    }
    let missing = Task::open(&folder.path().join("none.toml")).unwrap_err();
    assert!(matches!(missing, Error::Io { .. }), "{missing}");
    std::fs::write(&path, b"title = \"\xff\"\n").unwrap();
    assert!(Task::open(&path).unwrap_err().to_string().contains("line 1: not UTF-8"));
}

/// The error of invalid data names the template and the values found.
#[test]
fn faulty_records_name_the_key() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["sums.tsv", "sums_examples.json"] {
        std::fs::copy(self::folder().join(name), folder.path().join(name)).unwrap();
    }
    let path = folder.path().join("mine.toml");
    let good = std::fs::read_to_string(self::folder().join("sums.toml")).unwrap();
    let fault = |from: &str, to: &str| {
        std::fs::write(&path, good.replace(from, to)).unwrap();
        let task = Task::open(&path).unwrap();
        let Kind::Generation(definition) = &task.kind else { panic!() };
        let prompts = generation::prompts(&task, definition, Path::new("nowhere"), false);
        prompts.unwrap_err().to_string()
    };
    let said = fault("{{ b }} is", "{{ c }} is");
    assert!(
        said.ends_with("sums.tsv line 2: prompt: `c` is undefined; the record has a, b"),
        "{said}"
    );
    let said = fault("gold = \"a", "gold = \"a +");
    assert!(said.starts_with("task mine: gold: unexpected `|`"), "{said}");
    let said = fault("gold = \"a | int + b | int\"", "gold = \"c\"");
    assert!(said.contains("line 2: gold: undefined value; the record has a, b"), "{said}");
    let said = fault("sums.tsv", "gone.tsv");
    let gone = folder.path().join("gone.tsv");
    assert!(said.starts_with(&format!("{}: there is no such data file", gone.display())), "{said}");
}

#[test]
fn the_number_of_examples_is_chosen_where_there_are_examples() {
    let named = |name: &str| Task::named(name).map(|task| (task.name, task.shots));
    assert_eq!(named("gsm8k_8shot").unwrap(), ("gsm8k_8shot".to_owned(), 8));
    assert_eq!(named("gsm8k_0shot").unwrap(), ("gsm8k_0shot".to_owned(), 0));
    assert_eq!(named("mmlu_5shot").unwrap(), ("mmlu_5shot".to_owned(), 5));
    for name in ["gsm8k_shot", "gsm8k_08shot", "gsm8k_-1shot", "gsm8k_1shots", "_1shot"] {
        assert!(matches!(named(name), Err(Error::UnknownTask { .. })), "{name}");
    }
    for (name, why) in [
        ("piqa", "no data file has the role \"shots\""),
        ("wikitext", "a task of the kind rolling has no examples"),
        ("mt_bench", "a task of the kind conversation has no examples"),
        ("ifeval", "kind.generation.target is missing"),
    ] {
        let said = Task::named(name).unwrap().with_shots(2).unwrap_err().to_string();
        assert!(said.contains("2 examples before each item: ") && said.contains(why), "{said}");
        assert_eq!(Task::named(name).unwrap().with_shots(0).unwrap().shots, 0);
    }
    // More examples than exist, and more than exist besides the item itself.
    for (name, shots, expected) in [("capitals", 7, "6 examples"), ("blanks", 5, "4 examples")] {
        let task = Task::open(&folder().join(format!("{name}.toml"))).unwrap();
        let task = task.with_shots(shots).unwrap();
        let Kind::Choice(definition) = &task.kind else { panic!() };
        let said = choice::questions(&task, definition, Path::new("nowhere"), false);
        let said = said.unwrap_err().to_string();
        assert!(said.contains(expected) && said.contains(&format!("needs {shots}")), "{said}");
    }
}
