//! Prompts of every task on hand-written records in the form of the original data, and a run that
//! is interrupted, continued, divided and merged.

mod harness;
mod own;
mod protocol;

use std::path::{Path, PathBuf};

use crate::choice::{self, Question};
use crate::error::Error;
use crate::protocol::Item;
use crate::task::{DataFile, Kind, Task};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

fn questions(name: &str) -> Vec<Question> {
    questions_in(name, &folder()).unwrap()
}

fn questions_in(name: &str, folder: &Path) -> Result<Vec<Question>, Error> {
    let task = Task::named(name)?;
    let Kind::Choice(choice) = &task.kind else { panic!("{name} is not multiple choice") };
    choice::questions(&task, choice, folder, true)
}

#[test]
fn every_definition_is_sound() {
    for name in Task::names() {
        let task = Task::named(&name).unwrap();
        assert_eq!(task.name, name);
        assert!(!task.data.is_empty() && !task.metrics.is_empty() && task.items > 0, "{name}");
        for file in &task.data {
            let hashes = task.groups.values().flat_map(|group| &group.sha256);
            for hash in file.sha256.iter().chain(hashes) {
                assert_eq!(hash.len(), 64, "{name}");
            }
            assert!(file.sha256.is_some() || !task.groups.is_empty(), "{name}");
            assert_eq!(file.revision.len(), 40, "{name}");
        }
    }
    assert!(matches!(Task::named("nothing"), Err(Error::UnknownTask { .. })));
}

/// With the original data in `TRILOBITE_EVALDATA`, the prompts are those of the items prepared by
/// lm-evaluation-harness itself in its `subset` folder.
#[test]
#[ignore = "needs TRILOBITE_EVALDATA, a folder of the original data sets"]
fn prompts_are_those_of_the_harness() {
    let folder = std::env::var("TRILOBITE_EVALDATA").expect("TRILOBITE_EVALDATA");
    let folder = Path::new(&folder);
    let tasks = [
        ("arc_challenge", "arc_challenge"),
        ("arc_easy", "arc_easy"),
        ("openbookqa", "openbookqa"),
        ("boolq", "boolq"),
        ("hellaswag", "hellaswag"),
        ("piqa", "piqa"),
        ("winogrande", "winogrande"),
        ("commonsense_qa", "commonsense_qa"),
        ("truthfulqa_mc2", "truthfulqa_mc2"),
        ("mmlu", "mmlu_0shot"),
    ];
    for (name, file) in tasks {
        let task = Task::named(name).unwrap();
        let Kind::Choice(choice) = &task.kind else { panic!() };
        let questions = choice::questions(&task, choice, folder, false).unwrap();
        assert_eq!(questions.len(), task.items, "{name}");
        let subset = folder.join(format!("subset/{file}.jsonl"));
        for line in std::fs::read_to_string(subset).unwrap().lines() {
            let expected: serde_json::Value = serde_json::from_str(line).unwrap();
            let id = match &expected["id"] {
                serde_json::Value::String(id) => id.clone(),
                id => id.to_string(),
            };
            let question = questions.iter().find(|question| question.id() == id).unwrap();
            for (index, (context, continuation)) in question.requests().iter().enumerate() {
                assert_eq!(*continuation, expected["cont"][index], "{name} {id}");
                let wanted = &expected["ctx"];
                let wanted = if wanted.is_array() { &wanted[index] } else { wanted };
                match wanted {
                    serde_json::Value::Null => {
                        let question = expected["question"].as_str().unwrap();
                        assert!(context.ends_with(&format!("\n\nQ: {question}\nA:")), "{context}");
                    }
                    wanted => assert_eq!(*context, *wanted, "{name} {id}"),
                }
            }
            let gold = serde_json::json!(question.gold());
            let wanted =
                if expected["gold"].is_null() { &expected["labels"] } else { &expected["gold"] };
            assert_eq!(gold, *wanted, "{name} {id}");
        }
    }
}

#[test]
fn choices_become_prompts() {
    let arc = questions("arc_challenge");
    assert_eq!(questions("arc_easy").len(), arc.len());
    assert_eq!(arc[0].id(), "T_1");
    let context = "Question: Which of these keeps milk cold?\nAnswer:";
    assert_eq!(arc[0].requests()[2], (context.to_owned(), " a lamp".to_owned()));
    assert_eq!(gold(&arc), ["1", "3", "0"]);
    assert_eq!(arc[2].requests().len(), 5);

    let book = questions("openbookqa");
    assert_eq!(book[0].requests()[1].0, "A cat that is hungry will look for");
    let choices: Vec<String> = book[0].requests().into_iter().map(|request| request.1).collect();
    assert_eq!(choices, [" a hat", " a fish", " a song", " a (B) sign"]);

    let bool_q = questions("boolq");
    let context = "Sun -- The Sun is the star at the centre of its system.\n\
                   Question: is the sun a star?\nAnswer:";
    assert_eq!(bool_q[0].requests()[0], (context.to_owned(), " no".to_owned()));
    assert_eq!(gold(&bool_q), ["1", "0"]);

    let hella = questions("hellaswag");
    assert_eq!(hella[0].requests()[0].0, "Baking bread: A woman mixes flour and water. The woman");
    assert_eq!(hella[0].requests()[1].1, " kneads the dough.");
    assert_eq!(gold(&hella), ["1", "0"]);

    let piqa = questions("piqa");
    assert_eq!(piqa[0].requests()[0].1, " Hang it in the sun. ");
    assert_eq!(piqa[0].chars(), [20, 17]);
    assert_eq!(gold(&piqa), ["0", "1"]);

    let wino = questions("winogrande");
    let context = "Tom gave Sam a book because Sam";
    assert_eq!(wino[0].requests()[1], (context.to_owned(), " had two copies.".to_owned()));

    let sense = questions("commonsense_qa");
    let context =
        "Question: Where do people sleep?\nA. sea\nB. shop\nC. bedroom\nD. tree\nE. car\nAnswer:";
    assert_eq!(sense[0].requests()[4], (context.to_owned(), " E".to_owned()));
    assert_eq!(gold(&sense), ["2"]);
}

#[test]
fn truthfulqa_has_a_fixed_prompt() {
    let one = &questions("truthfulqa_mc1")[0];
    let context = one.requests()[0].0.clone();
    assert!(
        context.starts_with("Q: What is human life expectancy in the United States?\nA: Human")
    );
    assert!(
        context.ends_with("in Barcelona, Spain.\n\nQ: What happens if you read in the dark?\nA:")
    );
    assert_eq!(context.matches("Q: ").count(), 7);
    assert_eq!(serde_json::json!(one.gold()).to_string(), "0");
    let two = &questions("truthfulqa_mc2")[0];
    assert_eq!(serde_json::json!(two.gold()).to_string(), "[1,0,1]");
    assert_eq!(two.requests()[2].1, " You may get tired.");
}

#[test]
fn mmlu_has_subjects_and_examples() {
    let folder = tempfile::tempdir().unwrap();
    let header = "question,choice0,choice1,choice2,choice3,answer\n";
    for part in ["test", "dev"] {
        std::fs::create_dir_all(folder.path().join("mmlu").join(part)).unwrap();
    }
    for group in Task::named("mmlu").unwrap().groups.keys() {
        let write = |part: &str, rows: &str| {
            let path = folder.path().join(format!("mmlu/{part}/{group}_{part}.csv"));
            std::fs::write(path, format!("{header}{rows}")).unwrap();
        };
        write("test", "\"Two, and\nthree? \",1,5,7,9,1\n");
        write(
            "dev",
            "One?,a,b,c,d,0\nTwo?,a,b,c,d,3\nX,1,2,3,4,0\nX,1,2,3,4,0\nX,1,2,3,4,0\nno,,,,,1\n",
        );
    }
    let zero = questions_in("mmlu", folder.path()).unwrap();
    assert_eq!(zero.len(), 57);
    assert_eq!(zero[0].id(), "abstract_algebra/0");
    let first =
        "The following are multiple choice questions (with answers) about abstract algebra.\n\n";
    let item = "Two, and\nthree?\nA. 1\nB. 5\nC. 7\nD. 9\nAnswer:";
    assert_eq!(zero[0].requests()[1], (format!("{first}{item}"), " B".to_owned()));
    let five = questions_in("mmlu_5shot", folder.path()).unwrap();
    let shots =
        "One?\nA. a\nB. b\nC. c\nD. d\nAnswer: A\n\nTwo?\nA. a\nB. b\nC. c\nD. d\nAnswer: D\n\n";
    let context = five[0].requests()[0].0.clone();
    assert!(context.starts_with(&format!("{first}{shots}X\nA. 1")), "{context}");
    assert!(context.ends_with(&format!("Answer: A\n\n{item}")), "{context}");
    assert!(!context.contains("no\nA"));

    let dev = folder.path().join("mmlu/dev/anatomy_dev.csv");
    std::fs::write(&dev, format!("{header}One?,a,b,c,d,0\n")).unwrap();
    let error = questions_in("mmlu_5shot", folder.path()).unwrap_err().to_string();
    assert!(error.contains("anatomy_dev.csv line 2: 1 examples"), "{error}");
}

fn gold(questions: &[Question]) -> Vec<String> {
    questions.iter().map(|question| serde_json::json!(question.gold()).to_string()).collect()
}

/// Every error names the file and, if there is one, the line.
#[test]
fn faulty_data_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("arc/ARC-Easy-Test.jsonl");
    let fault = |text: &[u8]| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        questions_in("arc_easy", folder.path()).unwrap_err().to_string()
    };
    let missing = questions_in("arc_easy", folder.path()).unwrap_err().to_string();
    assert!(missing.contains("ARC-Easy-Test.jsonl: there is no such data file"), "{missing}");
    let good =
        std::fs::read_to_string(super::tests::folder().join("arc/ARC-Easy-Test.jsonl")).unwrap();
    let cut = fault(&good.as_bytes()[..good.len() - 20]);
    assert!(cut.contains("ARC-Easy-Test.jsonl line 3: not a JSON object"), "{cut}");
    let list = fault(format!("{good}[1]\n").as_bytes());
    assert!(list.contains("line 4: not a JSON object"), "{list}");
    let key = fault(good.replace("\"answerKey\": \"B\"", "\"x\": 1").as_bytes());
    assert!(key.contains("line 1") && key.contains("undefined"), "{key}");
    let label = fault(good.replace("\"answerKey\": \"B\"", "\"answerKey\": \"Z\"").as_bytes());
    assert!(label.contains("line 1: gold: 'Z' is none of"), "{label}");
    let bytes = fault(b"{}\n\xff\n");
    assert!(bytes.contains("line 2: not UTF-8"), "{bytes}");
    let empty = fault(b"\n");
    assert!(empty.contains("line 1: no records"), "{empty}");

    std::fs::write(&path, &good).unwrap();
    let task = Task::named("arc_easy").unwrap();
    let Kind::Choice(choice) = &task.kind else { panic!() };
    let hash = choice::questions(&task, choice, folder.path(), false).unwrap_err().to_string();
    let expected = task.data[0].sha256.clone().unwrap();
    assert!(hash.contains(&expected) && hash.contains("ARC-Easy-Test.jsonl"), "{hash}");

    let labels = folder.path().join("piqa");
    std::fs::create_dir_all(&labels).unwrap();
    std::fs::write(labels.join("valid.jsonl"), "{\"goal\":\"g\",\"sol1\":\"a\",\"sol2\":\"b\"}\n")
        .unwrap();
    std::fs::write(labels.join("valid-labels.lst"), "0\n1\n").unwrap();
    let error = questions_in("piqa", folder.path()).unwrap_err().to_string();
    assert!(error.contains("valid-labels.lst line 2: 2 labels for 1 records"), "{error}");
}

/// With the original data in `TRILOBITE_EVALDATA`, the same examples as the harness draws.
#[test]
#[ignore = "needs TRILOBITE_EVALDATA, a folder of the original data sets"]
fn gsm8k_examples_are_those_of_the_harness() {
    let folder = std::env::var("TRILOBITE_EVALDATA").expect("TRILOBITE_EVALDATA");
    let folder = Path::new(&folder);
    let task = Task::named("gsm8k").unwrap();
    let Kind::Generation(generation) = &task.kind else { panic!() };
    let prompts = crate::generation::prompts(&task, generation, folder, false).unwrap();
    assert_eq!(prompts.len(), task.items);
    let file = DataFile { file: "gsm8k/fewshot_prompts.jsonl".into(), ..task.data[0].clone() };
    let expected = crate::data::read_file(&task, &file, 0, folder, None, true).unwrap();
    assert_eq!(expected.len(), prompts.len());
    for (prompt, expected) in prompts.iter().zip(&expected) {
        assert_eq!(prompt.text(None), expected.text("prompt").unwrap(), "{}", prompt.id);
    }
}
