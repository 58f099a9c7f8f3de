//! Tests of benchmark tasks with the built-in model, on data written for these tests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::trilobite::{command, stdout};

pub(crate) fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../trilobite-eval/tests/data")
}

/// The output of `eval --json` with these arguments.
fn eval(output: &Path, args: &[&str]) -> Value {
    let mut command = command(["eval", "--any-data", "--json", "--quiet", "--data"]);
    command.arg(data()).arg("-o").arg(output).args(args);
    serde_json::from_str(&stdout(&mut command).unwrap()).unwrap()
}

pub(crate) fn items(output: &Path, task: &str) -> String {
    std::fs::read_to_string(output.join(format!("{task}.jsonl"))).unwrap()
}

#[test]
fn choices_are_scored_as_score_scores_them() {
    let folder = tempfile::tempdir().unwrap();
    let report = eval(folder.path(), &["--tasks", "arc_easy,truthfulqa_mc2"]);
    assert_eq!(report["tasks"]["arc_easy"]["n"], 3);
    let acc = report["tasks"]["arc_easy"]["metrics"]["acc"]["value"].as_f64().unwrap();
    let lines: Vec<Value> = items(folder.path(), "arc_easy")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let correct = lines.iter().filter(|line| line["correct"] == true).count();
    assert!((acc - correct as f64 / 3.0).abs() < 1e-12);

    // The first item, scored by `trilobite score`.
    let input = folder.path().join("in.jsonl");
    let texts = [" an oven", " a refrigerator", " a lamp"];
    let request = |text: &str| {
        let context = "Question: Which of these keeps milk cold?\nAnswer:";
        serde_json::json!({"context": context, "continuation": text}).to_string()
    };
    std::fs::write(&input, texts.map(request).join("\n")).unwrap();
    let mut score = command(["score", "--quiet", "--input"]);
    let scored = stdout(score.arg(&input)).unwrap();
    for (index, line) in scored.lines().enumerate() {
        let line: Value = serde_json::from_str(line).unwrap();
        let choice = &lines[0]["choices"][index];
        assert_eq!(choice["logprob"], line["logprob"]);
        assert_eq!(choice["tokens"], line["tokens"]);
        assert_eq!(choice["chars"], texts[index].chars().count() - 1);
    }

    // The share of the probability that falls on the true answers.
    let truth: Value = serde_json::from_str(&items(folder.path(), "truthfulqa_mc2")).unwrap();
    let p = |index: usize| truth["choices"][index]["logprob"].as_f64().unwrap().exp();
    let expected = (p(0) + p(2)) / (p(0) + p(1) + p(2));
    let mc2 = report["tasks"]["truthfulqa_mc2"]["metrics"]["mc2"]["value"].as_f64().unwrap();
    assert!((mc2 - expected).abs() < 1e-9, "{mc2} {expected}");
}

#[test]
fn a_run_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let whole = eval(&folder.path().join("whole"), &["--tasks", "arc_easy,wikitext"]);
    let part = folder.path().join("part");
    eval(&part, &["--tasks", "arc_easy", "--limit", "2"]);
    let path = part.join("arc_easy.jsonl");
    let mut two = items(&part, "arc_easy");
    assert_eq!(two.lines().count(), 2);
    // The state that a killed run leaves.
    two.truncate(two.len() - 10);
    std::fs::write(&path, &two).unwrap();
    let report = eval(&part, &["--tasks", "arc_easy,wikitext"]);
    for task in ["arc_easy", "wikitext"] {
        assert_eq!(report["tasks"][task]["metrics"], whole["tasks"][task]["metrics"]);
        assert_eq!(items(&part, task), items(&folder.path().join("whole"), task));
    }

    // Results with other settings are neither used nor lost.
    let mut other = command(["eval", "--any-data", "--tasks", "arc_easy", "--no-bos", "--data"]);
    let output = other.arg(data()).arg("-o").arg(&part).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("arc_easy.settings.json: results of another run (settings"), "{said}");
    assert_eq!(items(&part, "arc_easy"), items(&folder.path().join("whole"), "arc_easy"));
}

#[test]
fn parts_make_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let whole = eval(&at("whole"), &["--tasks", "arc_easy"]);
    eval(&at("one"), &["--tasks", "arc_easy", "--shard", "1/2"]);
    eval(&at("two"), &["--tasks", "arc_easy", "--shard", "2/2"]);
    assert_eq!(items(&at("two"), "arc_easy").lines().count(), 1);
    let merge = |output: &str, parts: &[&str], args: &[&str]| {
        let mut merge = command(["eval", "--tasks", "arc_easy", "--json", "-o"]);
        merge.arg(at(output)).args(args).arg("--merge").args(parts.iter().map(|part| at(part)));
        let output = merge.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), serde_json::from_slice::<Value>(&output.stdout).ok(), said)
    };
    // The same bits in the order of the task, for any order of the parts.
    let (_, merged, said) = merge("merged", &["two", "one"], &[]);
    let merged = merged.unwrap_or_else(|| panic!("{said}"));
    assert_eq!(merged["tasks"]["arc_easy"]["n"], 3);
    let metrics = |report: &Value| report["tasks"]["arc_easy"]["metrics"].clone();
    assert_eq!(metrics(&merged), metrics(&whole));
    assert_eq!(items(&at("merged"), "arc_easy"), items(&at("whole"), "arc_easy"));

    let (code, _, said) = merge("part", &["one"], &[]);
    assert_eq!(code, Some(1), "{said}");
    let expected = "arc_easy: 1 of 3 items are missing: part 2/2; --partial merges what there is";
    assert!(said.contains(expected), "{said}");
    assert!(!at("part").exists());
    let (code, merged, said) = merge("part", &["one"], &["--partial"]);
    assert_eq!((code, &merged.unwrap()["tasks"]["arc_easy"]["n"]), (Some(0), &2.into()));
    assert!(said.contains("1 of 3 items are missing: part 2/2"), "{said}");

    eval(&at("other"), &["--tasks", "arc_easy", "--shard", "2/2", "--kv", "f16"]);
    let (code, _, said) = merge("mixed", &["one", "other"], &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("settings is") && said.contains("\"kv\":\"f16\""), "{said}");
}

/// The error message of `eval`.
fn refused(output: &Path, data: &Path, args: &[&str]) -> String {
    let mut command = command(["eval", "--any-data", "--quiet", "--data"]);
    let output = command.arg(data).arg("-o").arg(output).args(args).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

/// Results depend on the settings, the data and the prompts. A run does not continue one with
/// others.
#[test]
fn results_of_other_runs_are_not_taken_for_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let run =
        |output: &Path, args: &[&str]| eval(output, &[&["--tasks", "arc_easy"], args].concat());
    let out = folder.path().join("out");
    run(&out, &["--limit", "1"]);
    let before = items(&out, "arc_easy");
    for (args, named) in [
        (&["--kv", "f16"][..], "\"kv\":\"f32\""),
        (&["--no-bos"], "\"bos\":true"),
        (&["--no-chat"], "\"chat\":true"),
        (&["--ctx", "128"], "\"context\":512"),
    ] {
        let said = refused(&out, &data(), &[&["--tasks", "arc_easy"], args].concat());
        assert!(
            said.contains("results of another run (settings is") && said.contains(named),
            "{said}"
        );
    }
    let said = refused(&out, &data(), &["--tasks", "arc_easy", "--shuffle", "1"]);
    assert!(said.contains("results of another run (shuffle is null"), "{said}");
    // The same items in a file with another hash.
    let other = folder.path().join("data");
    std::fs::create_dir_all(other.join("arc")).unwrap();
    let file = "arc/ARC-Easy-Test.jsonl";
    let text = std::fs::read_to_string(data().join(file)).unwrap();
    std::fs::write(other.join(file), format!("{text}\n")).unwrap();
    let said = refused(&out, &other, &["--tasks", "arc_easy"]);
    assert!(said.contains("results of another run (data_sha256 is"), "{said}");
    // Another prompt with the same id.
    let path = out.join("arc_easy.jsonl");
    let mut line: Value = serde_json::from_str(&before).unwrap();
    line["prompt_sha256"] = "0".into();
    std::fs::write(&path, format!("{line}\n")).unwrap();
    let said = refused(&out, &data(), &["--tasks", "arc_easy"]);
    assert!(said.contains("(prompt_sha256 of item T_1 is \"0\""), "{said}");
    std::fs::write(&path, &before).unwrap();
    run(&out, &["--limit", "1"]);
    assert_eq!(items(&out, "arc_easy"), before);

    // While one run is in progress, another is refused.
    let held = std::fs::File::open(&path).unwrap();
    held.lock().unwrap();
    let said = refused(&out, &data(), &["--tasks", "arc_easy"]);
    assert!(said.contains("arc_easy.jsonl: another run is at work on it"), "{said}");
    drop(held);
    run(&out, &[]);

    // Two items with the same id.
    std::fs::write(other.join(file), format!("{text}{text}")).unwrap();
    let said = refused(&folder.path().join("twice"), &other, &["--tasks", "arc_easy"]);
    assert!(said.contains("arc_easy: two items have the id \"T_1\""), "{said}");
    let none = command(["eval", "--tasks", "arc_easy", "--limit", "0"]).output().unwrap();
    assert_eq!(none.status.code(), Some(2));
    let said = refused(&out, &data(), &["--tasks", "arc_easy", "--limit", "1", "--shard", "2/2"]);
    assert!(said.contains("arc_easy: there are no items in what was asked for"), "{said}");
}

/// Every answer gets a verdict. A score needs one answer per item.
#[test]
fn answers_are_graded_once_an_item() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("data"), folder.path().join("out"));
    std::fs::create_dir_all(data.join("gsm8k")).unwrap();
    for name in ["test", "train"] {
        let row = serde_json::json!({"question": "How many?", "answer": "#### 7"});
        let rows: String = (0..6).map(|_| format!("{row}\n")).collect();
        std::fs::write(data.join(format!("gsm8k/{name}.jsonl")), rows).unwrap();
    }
    let answers = folder.path().join("answers.jsonl");
    let write = |ids: &[&str]| {
        let line = |id: &&str| serde_json::json!({"id": id, "output": "#### 7"}).to_string();
        std::fs::write(&answers, ids.iter().map(line).collect::<Vec<_>>().join("\n")).unwrap();
    };
    let args = ["--tasks", "gsm8k", "--answers", answers.to_str().unwrap()];
    let graded = |ids: &[&str]| {
        write(ids);
        let mut command = command(["eval", "--any-data", "--json", "--quiet", "--data"]);
        let report = stdout(command.arg(&data).arg("-o").arg(&out).args(args)).unwrap();
        let report: Value = serde_json::from_str(&report).unwrap();
        report["tasks"]["gsm8k"].clone()
    };
    assert_eq!(graded(&["0", "5"])["n"], 2);
    assert_eq!(graded(&["3"])["metrics"]["exact_match"]["value"], 1.0);
    write(&["1", "4", "1"]);
    let said = refused(&out, &data, &args);
    assert!(said.contains("answers.jsonl line 3: another answer to item \"1\""), "{said}");
    assert_eq!(items(&out, "gsm8k").lines().count(), 3);
    write(&["6"]);
    let said = refused(&out, &data, &args);
    assert!(said.contains("answers.jsonl line 1: no item \"6\""), "{said}");
    write(&[]);
    let said = refused(&out, &data, &args);
    assert!(said.contains("gsm8k: there are no items"), "{said}");
    // They are not results of a model.
    let said = refused(&out, &data, &["--tasks", "gsm8k"]);
    assert!(said.contains("results of another run (data_sha256 is missing"), "{said}");
    let model = folder.path().join("model");
    let mut command = command(["eval", "--any-data", "--quiet", "--tasks", "gsm8k", "--data"]);
    stdout(command.arg(&data).arg("-o").arg(&model).args(["--limit", "1"])).unwrap();
    write(&["1"]);
    let said = refused(&model, &data, &args);
    assert!(said.contains("results of another run (answers is missing"), "{said}");
}

/// Several answers are generated at once. Neither their number nor an interruption changes them.
#[test]
fn answers_do_not_depend_on_how_many_are_generated_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir_all(data.join("gsm8k")).unwrap();
    for name in ["test", "train"] {
        let row = |number| {
            let question = format!("How many are {number} and {}?", number * number);
            serde_json::json!({"question": question, "answer": format!("So many. #### {number}")})
        };
        let rows: String = (0..6).map(|number| format!("{}\n", row(number))).collect();
        std::fs::write(data.join(format!("gsm8k/{name}.jsonl")), rows).unwrap();
    }
    let run = |name: &str, args: &[&str]| {
        let out = folder.path().join(name);
        let mut command = command(["eval", "--any-data", "--quiet", "--tasks", "gsm8k", "--data"]);
        stdout(command.arg(&data).arg("-o").arg(&out).args(args)).unwrap();
        let mut lines: Vec<String> = items(&out, "gsm8k").lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let alone = run("alone", &["--batch-size", "1"]);
    assert_eq!(alone.len(), 6);
    assert_eq!(run("together", &[]), alone);
    assert_eq!(run("parts", &["--batch-size", "3", "--limit", "4"]), alone[..4]);
    assert_eq!(run("parts", &["--batch-size", "3"]), alone);
}

#[test]
fn unknown_tasks_and_foreign_data_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let fail = |task: &str, status| {
        let mut command = command(["eval", "--tasks", task, "--data"]);
        let output = command.arg(data()).arg("-o").arg(folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(status));
        String::from_utf8(output.stderr).unwrap()
    };
    let said = fail("arc_hard", 2);
    assert!(said.contains("no task \"arc_hard\"; there are arc_challenge,"), "{said}");
    let said = fail("piqa", 1);
    assert!(said.contains("valid.jsonl: its SHA-256 is") && said.contains("93503cc9"), "{said}");
    assert!(!folder.path().join("piqa.jsonl").exists());
}

/// Each token of a page is scored once, in windows of 16. The first window begins with the
/// beginning-of-text token, a later one with the token before it, and the last one with as many
/// tokens as fill it.
#[test]
fn pages_are_scored_in_windows() {
    let folder = tempfile::tempdir().unwrap();
    let report = eval(folder.path(), &["--tasks", "wikitext", "--ctx", "16"]);
    let page: Value =
        serde_json::from_str(items(folder.path(), "wikitext").lines().next().unwrap()).unwrap();
    let text = " = Small River =\n\nThe river's length is 1,200 metres (about 4.5 \"miles\"), and \
                it's cold.\n\n== Course ==\n\nIt flows north; then west!\n";
    let ids = stdout(&mut command(["tokenize", "--no-special", "-p", text])).unwrap();
    let ids: Vec<u32> = ids.trim().split(',').map(|id| id.parse().unwrap()).collect();
    assert_eq!(page["tokens"], ids.len());
    let with_first = stdout(&mut command(["tokenize", "-p", text])).unwrap();
    let first: u32 = with_first.split(',').next().unwrap().parse().unwrap();
    assert_ne!(first, ids[0]);
    let all = [&[first], &ids[..]].concat();
    let window = |from: usize| {
        let end = (from + 16).min(all.len());
        let window = (&all[end.saturating_sub(17)..from], &all[from..end]);
        serde_json::json!({"context_ids": window.0, "continuation_ids": window.1}).to_string()
    };
    let windows: Vec<String> = (1..all.len()).step_by(16).map(window).collect();
    assert!(windows.len() > 2 && !ids.len().is_multiple_of(16));
    let input = folder.path().join("windows.jsonl");
    std::fs::write(&input, windows.join("\n")).unwrap();
    let scored = stdout(command(["score", "--quiet", "--input"]).arg(&input)).unwrap();
    let logprob =
        |line: &str| serde_json::from_str::<Value>(line).unwrap()["logprob"].as_f64().unwrap();
    let sum: f64 = scored.lines().map(logprob).sum();
    let found = page["logprob"].as_f64().unwrap();
    assert!((found - sum).abs() < 1e-9 * sum.abs(), "{found} {sum}");
    assert_eq!(report["tasks"]["wikitext"]["n"], 2);
}

/// Runs `eval --tasks mt_bench` with these arguments. Returns its output and its requests to the
/// judge's server.
fn mt_bench(output: &Path, args: &[&str], ratings: &[&str]) -> (Value, Vec<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let replies: Vec<String> = ratings.iter().map(|&rating| rating.to_owned()).collect();
    let server = std::thread::spawn(move || {
        let answer = |rating: &String| {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                reader.read_line(&mut head).unwrap();
            }
            let head = head.to_lowercase();
            assert!(head.contains("authorization: bearer secret\r\n"), "{head}");
            let length = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
            let mut body = vec![0; length.parse().unwrap()];
            reader.read_exact(&mut body).unwrap();
            let reply = serde_json::json!({"choices": [{"message": {"content": rating}}]});
            let reply = reply.to_string();
            let head = format!("connection: close\r\ncontent-length: {}", reply.len());
            let mut stream = reader.into_inner();
            stream
                .write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{reply}").as_bytes())
                .unwrap();
            serde_json::from_slice(&body).unwrap()
        };
        replies.iter().map(answer).collect()
    });
    let mut command = command(["eval", "--any-data", "--quiet", "--tasks", "mt_bench", "--data"]);
    command.arg(data()).arg("-o").arg(output).args(args).env("JUDGE_KEY", "secret");
    if !ratings.is_empty() {
        command.args(["--judge-model", "j", "--judge-key-env", "JUDGE_KEY", "--judge-url", &url]);
    }
    let report = stdout(&mut command).unwrap();
    (serde_json::from_str(&report).unwrap_or(Value::String(report)), server.join().unwrap())
}

#[test]
fn conversations_are_rated_by_a_judge_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let (table, _) = mt_bench(folder.path(), &[], &[]);
    let table = table.as_str().unwrap();
    assert!(table.contains("not run  no judge was given (--judge-url)"), "{table}");
    let (report, _) = mt_bench(folder.path(), &["--json"], &[]);
    let task = &report["tasks"]["mt_bench"];
    assert_eq!((task["n"].as_u64(), task["metrics"].to_string().as_str()), (Some(2), "{}"));
    assert!(task["not_run"].as_str().unwrap().contains("no judge"));
    let answers = items(folder.path(), "mt_bench");
    let first: Value = serde_json::from_str(answers.lines().next().unwrap()).unwrap();
    assert_eq!((&first["question_id"], &first["model_id"]), (&901.into(), &"tinystories".into()));
    assert_eq!(first["answer_id"].as_str().unwrap().len(), 22);
    let turns = first["choices"][0]["turns"].as_array().unwrap();
    assert!(turns.len() == 2 && first["choices"][0]["index"] == 0 && first["tstamp"].is_f64());

    // The stored answers are rated, in their order.
    let ratings = ["Rating: [[3]]", "[[4]]", "Hm.", "[8]"];
    let (report, requests) = mt_bench(folder.path(), &["--json"], &ratings);
    assert_eq!(items(folder.path(), "mt_bench"), answers);
    let metrics = &report["tasks"]["mt_bench"]["metrics"];
    assert_eq!(
        (&metrics["rating"]["value"], &metrics["unrated"]["value"]),
        (&5.0.into(), &1.0.into())
    );
    assert!(report["tasks"]["mt_bench"].get("not_run").is_none());
    assert!(requests.iter().all(|request| request["model"] == "j" && request["temperature"] == 0));
    let prompt = requests[1]["messages"][1]["content"].as_str().unwrap();
    let said = |turn: usize| turns[turn].as_str().unwrap();
    let question = "Write a line about {answer} in a garden.";
    assert_eq!(prompt, format!("{question}|{}|Make it shorter.|{}", said(0), said(1)));
    assert!(requests[2]["messages"][1]["content"].as_str().unwrap().contains("[R] It is 12."));
}

/// After Ctrl-C during a request to the judge, results are kept, and the message says so.
#[test]
#[cfg(unix)]
fn an_interrupted_run_says_what_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut command = command(["eval", "--any-data", "--quiet", "--tasks", "mt_bench", "--data"]);
    command.arg(data()).arg("-o").arg(folder.path()).args(["--judge-url", &url]);
    let child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let mut interrupt = std::process::Command::new("kill");
    assert!(interrupt.args(["-INT", &child.id().to_string()]).status().unwrap().success());
    // Wait until the signal has arrived.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let reply = r#"{"choices": [{"message": {"content": "[[7]]"}}]}"#;
    let head = format!("connection: close\r\ncontent-length: {}", reply.len());
    stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{reply}").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let said = String::from_utf8(output.stderr).unwrap();
    let path = folder.path().join("mt_bench.judgments.jsonl");
    let expected = format!(
        "mt_bench: interrupted after 1 of 4 judgments, which {} keeps; \
         the same command goes on from there",
        path.display()
    );
    assert!(said.contains(&expected), "{said}");
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
}

#[test]
fn sharing_what_prompts_begin_with_changes_no_result() {
    let folder = tempfile::tempdir().unwrap();
    let (shared, whole) = (folder.path().join("shared"), folder.path().join("whole"));
    let tasks = "arc_easy,openbookqa,boolq,piqa,winogrande,commonsense_qa,truthfulqa_mc2";
    eval(&shared, &["--tasks", tasks, "-t", "2"]);
    eval(&whole, &["--tasks", tasks, "--whole"]);
    for task in tasks.split(',') {
        assert_eq!(items(&shared, task), items(&whole, task), "{task}");
    }
}
