//! Tests of the judge alone, on data that `tests/data/humaneval_plus/record.py` recorded of
//! evalplus.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

fn lines(name: &str) -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/humaneval_plus");
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The judge's replies, run outside of the sandbox since these inputs are harmless.
fn judge(input: &[String]) -> Option<Vec<Value>> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(input.join("\n").as_bytes()).unwrap();
    let mut python = Command::new("python3");
    python.args(["-I", "-Wignore", "-c", include_str!("judge.py")]);
    let output = match python.stdin(File::open(file.path()).unwrap()).output() {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: python3: {error}");
            return None;
        }
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = String::from_utf8(output.stdout).unwrap();
    let mut answers = output.lines().map(|line| serde_json::from_str(line).unwrap());
    assert_eq!(answers.next(), Some(json!("ready")));
    Some(answers.collect())
}

#[test]
fn solutions_are_those_that_evalplus_finds() {
    let problems: HashMap<String, Value> = lines("HumanEvalPlus.jsonl")
        .into_iter()
        .map(|problem| (problem["task_id"].as_str().unwrap().to_owned(), problem))
        .collect();
    let recorded = lines("verdicts.jsonl");
    assert!(recorded.len() > 300);
    let question = |line: &Value| {
        let problem = &problems[line["id"].as_str().unwrap()];
        let (prompt, entry_point) = (&problem["prompt"], &problem["entry_point"]);
        let (output, chat) = (&line["output"], &line["chat"]);
        json!({"output": output, "chat": chat, "prompt": prompt, "entry_point": entry_point})
    };
    let questions: Vec<_> = recorded.iter().map(|line| question(line).to_string()).collect();
    let Some(found) = judge(&questions) else { return };
    assert_eq!(found.len(), recorded.len());
    for (found, line) in found.iter().zip(&recorded) {
        assert_eq!(found, &line["solution"], "{}", line["output"]);
    }
}

/// If it is unknown whether an answer continues the prompt, the prompt is prepended unless the
/// answer defines the function itself. A helper whose name has the same prefix is another function.
#[test]
fn answers_that_do_not_define_the_function_continue_the_prompt() {
    let answers = [
        ("    return x\n", true),
        ("    def f_inner(y):\n        return y\n    return f_inner(x)\n", true),
        ("def f(x):\n    return x\n", false),
        ("```python\ndef  f (x):\n    return x\n```", false),
    ];
    let question = |output: &str| json!({"output": output, "chat": null, "prompt": "\ndef f(x):\n    'doc'\n\n", "entry_point": "f"});
    let questions: Vec<_> = answers.map(|(output, _)| question(output).to_string()).into();
    let Some(found) = judge(&questions) else { return };
    for (found, (output, continues)) in found.iter().zip(answers) {
        assert_eq!(found.as_str().unwrap().contains("'doc'"), continues, "{output}: {found}");
    }
}

/// Results as evalplus compares them, and results that no honest harness writes.
#[test]
fn results_are_compared_as_data() {
    let deep = "[".repeat(100_000);
    let alike = [
        ("2", "2", true),
        ("2", "2.0", true),
        ("1", "true", true),
        ("2", r#"{"like": 2}"#, true),
        ("2", r#"{"like": {"ratio": [4, 2]}}"#, true),
        (r#"{"int": "0x20000000000000000"}"#, r#"{"int": "0x20000000000000000"}"#, true),
        (r#"{"int": "0x20000000000000001"}"#, "36893488147419103232.0", false),
        ("2", r#""2""#, false),
        ("2", "[2]", false),
        ("2", "null", false),
        ("[1, 2]", r#"{"tuple": [1, 2]}"#, false),
        (r#"{"set": [1, 2]}"#, r#"{"like": {"frozenset": [2, 1]}}"#, true),
        (r#"{"dict": [["a", 1], [2, []]]}"#, r#"{"dict": [[2, []], ["a", 1.0]]}"#, true),
        // Floats may differ slightly, but only from floats of the same type.
        ("0.5", "0.5000001", true),
        ("0.5", "0.50001", false),
        ("0.5", r#"{"like": 0.5000001}"#, false),
        ("[0.5, 1.0]", "[0.5000001, 1]", true),
        ("[0.5, 1.0]", "[0.5000001]", false),
        ("[0.5, 1]", "[0.5000001, 1]", false),
        ("[[0.5]]", "[[0.5000001]]", false),
        ("Infinity", "Infinity", true),
        ("Infinity", "1e308", false),
        ("NaN", "NaN", false),
        ("[NaN]", "[NaN]", false),
        // A line that is not a result equals nothing.
        (r#"{"other": "C"}"#, r#"{"other": "C"}"#, false),
        ("2", r#"{"raised": "ValueError"}"#, false),
        ("2", "", false),
        ("2", "2 2", false),
        ("2", "__import__('os')", false),
        ("2", r#"{"set": [[2]]}"#, false),
        ("2", r#"{"like": null}"#, false),
        ("2", r#"{"int": 2}"#, false),
        ("2", r#"{}"#, false),
        ("2", deep.as_str(), false),
    ];
    let question = |(expected, found, _): (&str, &str, bool)| {
        format!("{{\"entry_point\": \"f\", \"atol\": 0, \"arguments\": []}}\n{expected}\n{found}")
    };
    let Some(found) = judge(&alike.map(question)) else { return };
    assert_eq!(found.len(), alike.len());
    for (found, (expected, result, same)) in found.iter().zip(alike) {
        assert_eq!(found[0], same, "{expected} {}", &result[..result.len().min(40)]);
    }
}
