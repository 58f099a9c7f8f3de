//! Tests of HumanEval+: verdicts on answers.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::eval::{data, items};
use crate::trilobite::command;

/// The command `eval --answers` for lines of answers.
pub(crate) fn eval(folder: &Path, lines: &[Value]) -> Command {
    let file = folder.join("answers.jsonl");
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let mut command = command(["eval", "--any-data", "--tasks", "humaneval_plus", "--data"]);
    command.arg(data()).arg("--run-untrusted-code").arg("--answers").arg(&file);
    command.arg("-o").arg(folder.join("out"));
    command
}

/// The verdicts on answers to a problem.
pub(crate) fn verdicts(id: &str, answers: &[&str]) -> Vec<Value> {
    let lines: Vec<_> = answers.iter().map(|output| json!({"id": id, "output": output})).collect();
    verdicts_on(&lines)
}

fn verdicts_on(lines: &[Value]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    // Several answers to a problem get verdicts, but no score.
    eval(folder.path(), lines).output().unwrap();
    let items = items(&folder.path().join("out"), "humaneval_plus");
    items.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Whether this machine supports all layers of the sandbox. Otherwise the test ends here.
pub(crate) fn sandbox_is_whole() -> bool {
    static REASON: LazyLock<Option<String>> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        let answer = json!({"id": "HumanEval/900", "output": ""});
        let output = eval(folder.path(), &[answer]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() || said.contains("does not give these layers"), "{said}");
        (!output.status.success()).then_some(said)
    });
    if let Some(reason) = &*REASON {
        eprintln!("skipped: {reason}");
    }
    REASON.is_none()
}

#[test]
fn solutions_are_run_against_their_tests() {
    if !sandbox_is_whole() {
        return;
    }
    let answers = [
        // A continuation of the prompt, by a model without a chat template.
        "    return x + x\n",
        "    def double_inner(y):\n        return y + y\n    return double_inner(x)\n",
        "Sure:\nimport math\n\ndef helper(x):\n    return x\n\ndef double(x):\n    return helper(x) * 2\n",
        // Passes the base tests only.
        "    return 2 * abs(x)\n",
        "    return x\n",
        "    return (\n",
        "    raise SystemExit\n",
    ];
    let found = verdicts("HumanEval/900", &answers);
    let correct: Vec<_> = found.iter().map(|line| line["correct"] == true).collect();
    assert_eq!(correct, [true, true, true, false, false, false, false], "{found:#?}");
    assert_eq!(
        (&found[3]["correct_base"], &found[4]["correct_base"]),
        (&json!(true), &json!(false))
    );
}

/// In a chat, an answer with the function's body alone is not a solution.
#[test]
fn the_prompt_belongs_to_base_models() {
    if !sandbox_is_whole() {
        return;
    }
    let line =
        |chat: bool, output: &str| json!({"id": "HumanEval/900", "chat": chat, "output": output});
    let body = "    return x + x\n";
    let whole = "def double(x):\n    return x + x\n";
    let found =
        verdicts_on(&[line(true, body), line(false, body), line(true, whole), line(false, whole)]);
    let correct: Vec<_> = found.iter().map(|line| line["correct"] == true).collect();
    assert_eq!(correct, [false, true, true, true], "{found:#?}");
}

/// Floats may differ in the last bits, and any zero of a polynomial is accepted.
#[test]
fn zeros_are_checked_by_their_polynomial() {
    if !sandbox_is_whole() {
        return;
    }
    // x^2 - 4 and 2x + 1
    let answers = [
        "    return -0.5 if len(xs) == 2 else -2\n",
        "    return -0.50001 if len(xs) == 2 else 2\n",
        "    return -0.6 if len(xs) == 2 else 2\n",
    ];
    let found = verdicts("HumanEval/902", &answers);
    let correct: Vec<_> = found.iter().map(|line| line["correct"] == true).collect();
    assert_eq!(correct, [true, true, false], "{found:#?}");
}

/// Compares the verdicts with those that `record.py` recorded, except on chats about the first
/// problem: these differ in the extracted solution, which `trilobite-eval` compares.
#[test]
fn verdicts_are_those_of_evalplus() {
    if !sandbox_is_whole() {
        return;
    }
    let recorded = std::fs::read_to_string(data().join("humaneval_plus/verdicts.jsonl")).unwrap();
    let recorded = recorded.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let recorded: Vec<_> =
        recorded.filter(|line| line["id"] != "HumanEval/900" || line["chat"] == false).collect();
    assert!(recorded.len() > 70);
    for (found, recorded) in verdicts_on(&recorded).iter().zip(&recorded) {
        let found = (&found["correct_base"], &found["correct"], &found["extracted"]);
        assert_eq!(
            (found.0, found.1),
            (&recorded["base"], &recorded["plus"]),
            "{recorded} {found:?}"
        );
    }
}

/// Code that forges a result, or takes too long, fails.
#[test]
fn verdicts_cannot_be_forged() {
    if !sandbox_is_whole() {
        return;
    }
    let answers = [
        (
            "class Any:\n    def __eq__(self, other):\n        return True\n\ndef double(x):\n    return Any()\n",
            "wrong result",
        ),
        (
            "class Any(int):\n    def __eq__(self, other):\n        return True\n    def __hash__(self):\n        return 0\n\ndef double(x):\n    return Any(1)\n",
            "wrong result",
        ),
        (
            "import sys\n\ndef double(x):\n    main = sys.modules['__main__']\n    main.encode = main.json.dumps = lambda *a, **k: 'true'\n    return 1\n",
            "wrong result",
        ),
        // It can write to the pipe of its results only.
        (
            "import os\n\ndef double(x):\n    for fd in range(3, 64):\n        for line in (b'true', b'[true, 0]', b'\"passed\"', b'{\"like\": {}}'):\n            try:\n                os.write(fd, line + b'\\n')\n            except OSError:\n                pass\n    return 1\n",
            "wrong result",
        ),
        (
            "import os, sys\n\ndef double(x):\n    os.write(1, b'passed\\n')\n    os._exit(0)\n    return 1\n",
            "no answer",
        ),
        // No object in this process has the expected results.
        (
            "import gc, sys\n\ndef double(x):\n    found = [o for o in gc.get_objects() if isinstance(o, dict) and ('expected' in o or 'canonical_solution' in o)]\n    frame = sys._getframe()\n    while frame:\n        found += [k for k in frame.f_locals if k in ('expected', 'reference', 'verdict')]\n        frame = frame.f_back\n    raise KeyError if found else LookupError\n    return 1\n",
            "LookupError",
        ),
        (
            "import signal, time\n\ndef double(x):\n    signal.setitimer(signal.ITIMER_REAL, 0)\n    time.sleep(3)\n    return 2 * x\n",
            "out of time",
        ),
        (
            "import time\ntime.sleep(3)\ntime.sleep = lambda s: None\ntime.time = time.monotonic = lambda: 0\n\ndef double(x):\n    while True:\n        pass\n    return 2 * x\n",
            "out of time",
        ),
        (
            "import os\n\ndef double(x):\n    os.write(4, b'[' * 100_000 + b'\\n')\n    return 2 * x\n",
            "wrong result",
        ),
        (
            "import os\n\ndef double(x):\n    while True:\n        os.write(4, b'x' * 65536)\n    return 2 * x\n",
            "no answer|out of time",
        ),
        (
            "def double(x):\n    return {i * ((1 << 61) - 1) for i in range(5000)}\n",
            "wrong result|out of time",
        ),
    ];
    let found = verdicts("HumanEval/900", &answers.map(|(code, _)| code));
    for (found, (code, reason)) in found.iter().zip(answers) {
        assert_eq!(found["correct_base"], false, "{code}");
        let said = found["extracted"].as_str().unwrap().trim_start_matches("test 0: ");
        assert!(reason.split('|').any(|reason| reason == said), "{code}: {said}");
    }
}

#[test]
fn code_is_not_run_without_leave() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(["eval", "--any-data", "--tasks", "humaneval_plus", "--data"]);
    let output = command.arg(data()).arg("-o").arg(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--run-untrusted-code allows it"), "{said}");
    assert!(!folder.path().join("humaneval_plus.jsonl").exists());
}
