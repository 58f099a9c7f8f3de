//! Tests of tasks in files, numbers of examples, chat templates, and the files of a run.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::chat::{checkpoint, set_template};
use crate::eval::{data, items};
use crate::trilobite::{command, stdout};

fn own(name: &str) -> PathBuf {
    data().join("own").join(name)
}

/// The output of `eval --json` for a task in a file.
fn eval(task: &Path, output: &Path, args: &[&str]) -> Value {
    let mut command = command(["eval", "--json", "--quiet", "--tasks"]);
    command.arg(task).arg("-o").arg(output).args(args);
    serde_json::from_str(&stdout(&mut command).unwrap()).unwrap()
}

/// The error message of `eval`, which is one line.
fn refused(args: &[&str], output: &Path) -> String {
    refused_with(1, args, output)
}

/// The error of an evaluation with an exit status.
fn refused_with(status: i32, args: &[&str], output: &Path) -> String {
    let output = command(["eval", "--quiet"]).args(args).arg("-o").arg(output).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.lines().count()), (Some(status), 1), "{said}");
    said
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_task_of_ones_own_is_run_with_any_number_of_examples() {
    let folder = tempfile::tempdir().unwrap();
    let (none, three) = (folder.path().join("none"), folder.path().join("three"));
    let report = eval(&own("capitals.toml"), &none, &[]);
    let task = &report["tasks"]["capitals"];
    assert_eq!((&task["n"], &task["shots"]), (&3.into(), &0.into()));
    assert!(task["metrics"]["acc"]["value"].is_f64() && task["metrics"]["acc_norm"].is_object());
    assert!(!none.join("capitals.samples.jsonl").exists());

    let report = eval(&own("capitals.toml"), &three, &["--shots", "3", "--log-samples"]);
    let task = &report["tasks"]["capitals"];
    assert_eq!((&task["n"], &task["shots"]), (&3.into(), &3.into()));
    let samples = std::fs::read_to_string(three.join("capitals.samples.jsonl")).unwrap();
    let (samples, items) = (lines(&samples), lines(&items(&three, "capitals")));
    assert_eq!(samples.len(), 3);
    for (sample, item) in samples.iter().zip(&items) {
        let requests = sample["requests"].as_array().unwrap();
        assert_eq!(requests.len(), item["choices"].as_array().unwrap().len());
        assert_eq!(requests[0]["context"].as_str().unwrap().matches("\n\nQuestion: ").count(), 3);
        // A sample has the item's result and its prompts.
        for (field, value) in item.as_object().unwrap() {
            assert_eq!(sample[field], *value, "{field}");
        }
    }
    assert_eq!(samples[0]["requests"][1]["continuation"], " Paris");
    // The same prompts, scored by `trilobite score`.
    let input = folder.path().join("in.jsonl");
    std::fs::write(&input, samples[0]["requests"][1].to_string()).unwrap();
    let scored = stdout(command(["score", "--quiet", "--input"]).arg(&input)).unwrap();
    let scored: Value = serde_json::from_str(&scored).unwrap();
    assert_eq!(items[0]["choices"][1]["logprob"], scored["logprob"]);

    let said = refused(&["--tasks", own("capitals.toml").to_str().unwrap()], &three);
    assert!(said.contains("results of another run (shots is 3, this run's is 0)"), "{said}");
    let report = eval(&own("sums.toml"), &three, &["--num-fewshot=2", "--log-samples"]);
    assert_eq!(report["tasks"]["sums"]["n"], 2);
    let samples = lines(&std::fs::read_to_string(three.join("sums.samples.jsonl")).unwrap());
    let prompt = "5 plus 5 is 10\n\n7 plus 1 is 8\n\n1 plus 2 is";
    assert_eq!((&samples[0]["prompt"], &samples[0]["gold"]), (&prompt.into(), &json!(["3"])));
}

#[test]
fn prompts_for_which_the_context_has_no_room_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    for (name, n) in [("capitals", 3), ("sums", 2)] {
        let task = own(&format!("{name}.toml"));
        let whole = eval(&task, &folder.path().join("whole"), &[]);
        assert_eq!(whole["tasks"][name].get("cut"), None);

        let cut = folder.path().join("cut");
        let mut command = command(["eval", "--json", "--ctx", "6", "--tasks"]);
        let output = command.arg(&task).arg("-o").arg(&cut).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["tasks"][name]["cut"], n);
        let said = String::from_utf8(output.stderr).unwrap();
        let note = format!("note: {name}: the context is too short for {n} of {n} items");
        assert!(said.contains(&note), "{said}");
        for item in lines(&items(&cut, name)) {
            assert!(item["cut"].as_u64().unwrap() > 0, "{item}");
        }
    }
}

/// The samples include items of an earlier run.
#[test]
fn samples_are_whole_after_a_run_that_went_on() {
    let folder = tempfile::tempdir().unwrap();
    eval(&own("capitals.toml"), folder.path(), &["--limit", "1"]);
    eval(&own("capitals.toml"), folder.path(), &["--log-samples"]);
    let samples = std::fs::read_to_string(folder.path().join("capitals.samples.jsonl")).unwrap();
    let ids: Vec<Value> = lines(&samples).iter().map(|sample| sample["id"].clone()).collect();
    assert_eq!(ids, ["france", "river", "peru"]);
}

/// Another definition with the same name and the same prompts.
#[test]
fn results_belong_to_one_definition() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["capitals.toml", "capitals.jsonl"] {
        std::fs::copy(own(name), folder.path().join(name)).unwrap();
    }
    let (task, output) = (folder.path().join("capitals.toml"), folder.path().join("out"));
    eval(&task, &output, &["--limit", "1"]);
    let text = std::fs::read_to_string(&task).unwrap();
    std::fs::write(&task, text.replace("answer | int", "0")).unwrap();
    let said = refused(&["--tasks", task.to_str().unwrap()], &output);
    assert!(said.contains("results of another run (task_sha256 is"), "{said}");
}

#[test]
fn the_report_is_kept_beside_the_items() {
    let folder = tempfile::tempdir().unwrap();
    let printed = eval(&own("capitals.toml"), folder.path(), &["--limit", "2"]);
    let path = folder.path().join("results.json");
    let kept: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(kept, printed);
    for field in ["model", "model_sha256", "settings", "engine", "machine"] {
        assert!(!kept[field].is_null(), "{field}");
    }
    let words = kept["command"].as_array().unwrap();
    assert!(words.contains(&"--limit".into()) && words.contains(&"eval".into()));
    let date = kept["date"].as_str().unwrap();
    assert!(date.starts_with("20") && date.ends_with('Z') && date.contains('T'), "{date}");
    let task = &kept["tasks"]["capitals"];
    let hash = task["data"]["capitals.jsonl"].as_str().unwrap();
    assert_eq!((hash.len(), &task["data_sha256"]), (64, &hash.into()));
    assert_eq!((&task["version"], task["task_sha256"].as_str().unwrap().len()), (&1.into(), 64));
    // The complete report of the last command.
    let printed = eval(&own("sums.toml"), folder.path(), &[]);
    let kept: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(kept, printed);
    assert!(!folder.path().join("results.json.partial").exists());
}

#[test]
fn a_task_is_named_once() {
    let folder = tempfile::tempdir().unwrap();
    let said = refused_with(2, &["--tasks", "piqa,arc_easy,piqa"], folder.path());
    assert!(said.contains("--tasks names piqa twice"), "{said}");
    let path = own("capitals.toml");
    let twice = format!("{0},{0}", path.display());
    let said = refused_with(2, &["--tasks", &twice], folder.path());
    assert!(said.contains("--tasks names capitals twice"), "{said}");
    let said = refused_with(2, &["--tasks", "mmlu_5shot", "--shots", "3"], folder.path());
    assert!(said.contains("mmlu_5shot has 5 examples before each item, --shots says 3"), "{said}");
    let said = refused(&["--tasks", "./none.toml"], folder.path());
    assert!(said.contains("./none.toml: "), "{said}");
}

/// A folder can be merged only once, and an item has one line.
#[test]
fn results_are_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let part = folder.path().join("part");
    eval(&own("capitals.toml"), &part, &[]);
    let task = own("capitals.toml");
    let (task, merged) = (task.to_str().unwrap(), folder.path().join("merged"));
    let again = part.join(".");
    let merge = ["--tasks", task, "--merge", part.to_str().unwrap(), again.to_str().unwrap()];
    let said = refused(&merge, &merged);
    assert!(said.contains("is among the parts twice") && !merged.exists(), "{said}");
    let path = part.join("capitals.jsonl");
    let text = items(&part, "capitals");
    let first = text.lines().next().unwrap();
    std::fs::write(&path, format!("{text}{first}\n")).unwrap();
    let said = refused(&["--tasks", task], &part);
    assert!(said.contains("line 4: item france has a result in line 1 already"), "{said}");
    std::fs::write(&path, &text).unwrap();
    std::fs::write(part.join("capitals.settings.json"), "null\n").unwrap();
    let said = refused(&["--tasks", task], &part);
    assert!(said.contains("capitals.settings.json line 1: not the settings of a run"), "{said}");
    assert_eq!(items(&part, "capitals"), text);
}

#[test]
fn answers_may_begin_with_a_byte_order_mark() {
    let folder = tempfile::tempdir().unwrap();
    let answers = folder.path().join("answers.jsonl");
    std::fs::write(&answers, "\u{feff}{\"id\":\"0\",\"output\":\" 3\"}\n").unwrap();
    let args = ["--answers", answers.to_str().unwrap()];
    let report = eval(&own("sums.toml"), &folder.path().join("out"), &args);
    assert_eq!(report["tasks"]["sums"]["metrics"]["exact_match"]["value"], 1.0);
}

#[test]
fn tasks_are_listed_before_they_are_run() {
    let list = |args: &[&str]| {
        let mut command = command(["eval", "--list", "--any-data", "--data"]);
        stdout(command.arg(data()).args(args)).unwrap()
    };
    let listed: Vec<Value> = serde_json::from_str(&list(&["--json"])).unwrap();
    let named = |name: &str| listed.iter().find(|task| task["name"] == name).unwrap();
    let arc = named("arc_easy");
    let of = |field: &str| arc[field].clone();
    assert_eq!((of("kind"), of("shots"), of("items")), ("choice".into(), 0.into(), 3.into()));
    assert_eq!(of("metrics"), json!(["acc_norm", "acc"]));
    assert_eq!(arc["data"][0]["repository"], "FormulaMonks/llm-benchmarker-suite");
    assert_eq!((&named("gsm8k")["items"], &named("gsm8k")["shots"]), (&Value::Null, &5.into()));
    assert_eq!(
        (&named("wikitext")["items"], &named("wikitext")["kind"]),
        (&2.into(), &"rolling".into())
    );
    let table = list(&["--tasks", own("capitals.toml").to_str().unwrap(), "--shots", "3"]);
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    let expected = [
        "capitals",
        "choice",
        "3",
        "3",
        "acc,",
        "acc_norm",
        "capitals.jsonl,",
        "capitals_examples.csv",
    ];
    assert_eq!(row, expected);
}

/// Scores the prompt of a chat template, with a single beginning-of-text token.
#[test]
fn multiple_choice_goes_through_a_chat_template() {
    let (_parent, model) = checkpoint();
    let output = model.join("out");
    let run = |args: &[&str], output: &Path| {
        let mut command = command(["eval", "--json", "--quiet"]);
        command.arg(&model).arg("--tasks").arg(own("capitals.toml")).arg("-o").arg(output);
        let report = stdout(command.args(["--shots", "1", "--log-samples"]).args(args)).unwrap();
        let samples = std::fs::read_to_string(output.join("capitals.samples.jsonl")).unwrap();
        (serde_json::from_str::<Value>(&report).unwrap(), lines(&samples))
    };
    let template = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}\
                    {% if add_generation_prompt %}[assistant]\n{% endif %}";
    set_template(&model, template);
    let (report, samples) = run(&["--apply-chat-template", "--system", "Be brief."], &output);
    let settings = &report["settings"];
    assert_eq!(settings["apply_chat_template"], true);
    assert_eq!((&settings["turns"], &settings["system"]), (&true.into(), &"Be brief.".into()));
    let request = &samples[2]["requests"][1];
    let about = "[system]Be brief.\n\nThe following are questions about cities.\n";
    let context = request["context"].as_str().unwrap();
    assert!(context.starts_with(&format!("<|begin_of_text|>{about}[user]Question: ")), "{context}");
    let end = "[user]Question: What is the capital of Peru?\nAnswer:\n[assistant]\n";
    assert!(context.ends_with(end) && context.matches("[assistant]").count() == 2, "{context}");
    assert_eq!(request["continuation"], "Lima");
    // The scores equal those of `trilobite score` for this text, which begins with the name of the
    // beginning-of-text token.
    let input = model.join("in.jsonl");
    std::fs::write(&input, request.to_string()).unwrap();
    let mut score = command(["score", "--quiet"]);
    let scored = stdout(score.arg(&model).arg("--input").arg(&input)).unwrap();
    let scored: Value = serde_json::from_str(&scored).unwrap();
    assert_eq!(samples[2]["choices"][1]["logprob"], scored["logprob"]);

    // All examples are in one question.
    let (_, samples) =
        run(&["--apply-chat-template", "--fewshot-as-multiturn=false"], &model.join("single"));
    let context = samples[2]["requests"][0]["context"].as_str().unwrap();
    assert_eq!(context.matches("[user]").count(), 1, "{context}");
    // Without the flag the template is not used.
    let (report, samples) = run(&[], &model.join("plain"));
    assert!(report["settings"].get("apply_chat_template").is_none());
    assert!(!samples[0]["requests"][0]["context"].as_str().unwrap().contains('['));
}

#[test]
fn a_model_without_a_template_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let task = own("capitals.toml");
    let args = ["--tasks", task.to_str().unwrap(), "--apply-chat-template"];
    let said = refused(&args, &output);
    assert!(said.contains("tinystories has no chat template (tokenizer.chat_template)"), "{said}");
    assert!(!output.exists());
}

/// Each subject of MMLU has its own result. All items have the same weight in the average.
#[test]
fn groups_have_results_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let definition = r#"
        metrics = ["acc"]
        [[data]]
        file = "{group}.csv"
        format = "csv"
        [groups.one]
        category = "easy"
        [groups.two]
        [kind.choice]
        context = "{{ text }}"
        choices = "['x', 'y']"
        gold = "right | int"
    "#;
    write("parts.toml", definition);
    write("one.csv", "text,right\na,0\nb,0\nc,0\n");
    write("two.csv", "text,right\nd,1\n");
    let output = folder.path().join("out");
    let report = eval(&folder.path().join("parts.toml"), &output, &[]);
    let task = &report["tasks"]["parts"];
    let acc = |value: &Value| value["metrics"]["acc"]["value"].as_f64().unwrap();
    let (one, two) = (&task["groups"]["one"], &task["groups"]["two"]);
    assert_eq!((&task["n"], &one["n"], &two["n"]), (&4.into(), &3.into(), &1.into()));
    assert!((acc(task) - (3.0 * acc(one) + acc(two)) / 4.0).abs() < 1e-12, "{task}");
    assert_eq!(task["metrics"]["acc_easy"]["value"], one["metrics"]["acc"]["value"]);
    let mean = task["metrics"]["acc_macro"]["value"].as_f64().unwrap();
    assert!((mean - (acc(one) + acc(two)) / 2.0).abs() < 1e-12);
    let mut table = command(["eval", "--quiet", "--tasks"]);
    table.arg(folder.path().join("parts.toml")).arg("-o").arg(&output);
    let table = stdout(&mut table).unwrap();
    let row = |name: &str| table.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
    assert!(row("one").contains(" 3  acc ") && row("two").contains(" 1  acc "), "{table}");
}
