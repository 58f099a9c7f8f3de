//! Tests of whole comparisons, with scripts in place of the engines.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde_json::Value;
use tempfile::TempDir;

use crate::XtaskCommand;

/// A script's response to `pull` without a network.
const NO_NETWORK: &str = "echo \"error: $2: https://hub.example/x to /x: no answer from hub.example: refused\" >&2; exit 1";

/// The perplexity that PyTorch computes with the built-in model; `compare` expects it.
fn built_in_perplexity() -> f64 {
    let file = crate::repository::root().join("models/tinystories/perplexity.json");
    let known: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    known["perplexity"].as_f64().unwrap()
}

/// A folder with a script in place of `trilobite`, which records its arguments.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new(pull: &str) -> Place {
        let place = Place { folder: tempfile::tempdir().unwrap() };
        let script = format!(
            r#"echo "$*" >> {log}
case "$1" in
--version) echo "trilobite 0" ;;
pull) {pull} ;;
convert) for out; do :; done; echo gguf > "$out" ;;
inspect) echo '{{"file_bytes": 200, "non_embedding_bytes": 100000000, "sha256": "0123456789",
  "tensors": [{{"name": "token_embd.weight", "shape": [1000, 8]}}],
  "architecture": "tiny", "metadata": {{"tiny.context_length": 300}}}}' ;;
perplexity) echo '{{"perplexity": {perplexity}, "bits_per_byte": 1.5, "method": "windows"}}' ;;
bench) echo '[{{"isa": "avx2", "threads": 3, "prefill": [{{"tokens_per_s": {{"median": 100.0}}}}],
  "decode": {{"tokens_per_s": {{"median": 20.0, "min": 19.0, "max": 21.0}}, "bandwidth_bytes_per_s": 3e10, "bytes_per_token": 7}},
  "peak_resident_bytes": 300000000}}]' ;;
eval) case "$*" in
  *mt_bench*) echo '{{"tasks": {{"mt_bench": {{"n": 2, "metrics": {{}}, "not_run": "no judge"}}}}}}' ;;
  *) task=$4; score='{{"value": 0.5, "stderr": 0.1}}'
    echo "{{\"tasks\": {{\"$task\": {{\"n\": 2, \"metrics\": {{\"acc\": $score, \"acc_norm\": $score,
    \"mc2\": $score, \"exact_match\": $score, \"pass_at_1\": $score, \"accuracy\": $score,
    \"inst_level_strict\": $score}}}}}}}}" ;;
  esac ;;
esac"#,
            log = place.path("log").display(),
            perplexity = built_in_perplexity(),
        );
        place.script("trilobite", &script);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn script(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), format!("#!/bin/sh\n{text}\n")).unwrap();
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.path(name), executable).unwrap();
    }

    /// Runs `cargo xtask compare` with the script. Returns the report as JSON and as text. Without
    /// `--wrap`, runs that other processes disturb would be repeated; `env` is a command that
    /// changes nothing.
    fn compare(&self, args: &[&str]) -> (Value, String) {
        let shown = |name: &str| self.path(name).display().to_string();
        let whole = [&["xtask", "compare"], args].concat();
        let files = ["--trilobite", &shown("trilobite"), "-o", &shown("out"), "--wrap", "env"];
        let XtaskCommand::Compare(args) = XtaskCommand::parse_from([&whole[..], &files].concat())
        else {
            panic!()
        };
        super::run(&args).unwrap();
        let read = |name: &str| std::fs::read_to_string(self.path("out").join(name)).unwrap();
        (serde_json::from_str(&read("report.json")).unwrap(), read("report.md"))
    }

    /// The calls of the script whose first argument is this word.
    fn calls(&self, of: &str) -> Vec<String> {
        let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        log.lines().filter(|line| line.starts_with(of)).map(str::to_owned).collect()
    }
}

fn names(report: &Value) -> Vec<&str> {
    let rows = report["rows"].as_array().unwrap();
    rows.iter().map(|row| row["name"].as_str().unwrap()).collect()
}

/// The cells of a line of the table.
fn line<'a>(markdown: &'a str, label: &str) -> Vec<&'a str> {
    let start = format!("| {label}");
    let line = markdown.lines().find(|line| line.starts_with(&start));
    let cells = line.unwrap_or_else(|| panic!("{label}: {markdown}")).trim_matches('|').split('|');
    cells.skip(1).map(str::trim).collect()
}

const MODELS: [&str; 4] =
    ["bitnet-b1.58-2b-4t", "llama-3.2-1b-instruct", "gemma-3-1b-it", "qwen2.5-1.5b-instruct"];

#[test]
fn without_a_network_every_cell_of_the_published_comparison_says_so() {
    let place = Place::new(NO_NETWORK);
    let (report, markdown) = place.compare(&["--published", "-r", "1"]);
    assert_eq!(names(&report), MODELS);
    let reason = "no answer from hub.example: refused";
    for row in report["rows"].as_array().unwrap() {
        for name in ["file_bytes", "non_embedding_bytes", "peak_resident_bytes", "perplexity"] {
            assert_eq!(row[name]["not_run"], reason, "{name}");
        }
        let scores = row["scores"].as_object().unwrap();
        assert_eq!(scores.len(), 16);
        assert!(scores.values().all(|score| score["not_run"] == reason), "{scores:?}");
    }
    // Every line has a number or a numbered reason in all eight columns. Each reason is a line.
    let published = ["*400*", "*2000*", "*1400*", "*2600*"];
    let empty = ["not run [1]"; 4];
    assert_eq!(line(&markdown, "weights without"), [&empty[..], &published].concat());
    assert_eq!(line(&markdown, "training tokens")[4..], ["*4*", "*9*", "*2*", "*18*"]);
    assert_eq!(
        line(&markdown, "mean of all 16")[4..],
        ["*54.19*", "*46.30*", "*45.64*", "*55.44*"]
    );
    assert_eq!(line(&markdown, "average, as")[4..], ["*54.19*", "*44.90*", "*43.74*", "*55.23*"]);
    assert!(
        markdown.contains("qwen2.5-1.5b-instruct (55.23 printed, 55.44 computed)"),
        "{markdown}"
    );
    assert!(markdown.contains("For bitnet-b1.58-2b-4t the printed average is"), "{markdown}");
    for cells in markdown.lines().filter(|line| line.contains("not run [")) {
        assert_eq!(cells.matches("not run [").count(), 4, "{cells}");
    }
    assert!(markdown.contains(&format!("\n1. Not run: {reason}\n")), "{markdown}");
    // A server that does not answer is asked once. Data that no model needs are not fetched.
    let lockfile = crate::repository::root().join("models/models.lock");
    let pull = format!("pull {} --lock {}", MODELS[0], lockfile.display());
    assert_eq!(place.calls("pull"), [pull]);
}

#[test]
fn the_published_comparison_measures_four_models_on_sixteen_tasks() {
    let place =
        Place::new("if [ \"$2\" = gemma-3-1b-it ]; then echo 'error: it is gated' >&2; exit 1; fi");
    let (report, markdown) = place.compare(&["--published", "-r", "2"]);
    assert_eq!(names(&report), MODELS);
    let memory = line(&markdown, "weights without");
    assert_eq!(memory[..4], ["100", "100", "not run [1]", "100"]);
    assert!(
        markdown.contains("\n1. Not run: ") && markdown.contains(": it is gated\n"),
        "{markdown}"
    );
    assert_eq!(line(&markdown, "decoded token, ms")[..2], ["50.0", "50.0"]);
    assert_eq!(line(&markdown, "prefill of 512 tokens")[0], "100.0 (100.0 to 100.0)");
    assert_eq!(
        line(&markdown, "perplexity")[0],
        format!("{:.3} (1.500 bits per byte)", built_in_perplexity())
    );
    // All items of all tasks, for the three available models.
    let evals = place.calls("eval");
    assert_eq!(evals.len(), 3 * 16);
    assert!(evals.iter().all(|call| !call.contains("--limit")), "{evals:?}");
    let bitnet = &report["rows"][0]["scores"];
    assert_eq!(bitnet["gsm8k"]["value"]["value"], 50.0);
    assert_eq!(bitnet["mt_bench"]["not_run"], "no judge");
    assert_eq!(line(&markdown, "mean of the 15 tasks run here")[0], "50.0");

    // A subset, on fewer items and tasks.
    let place = Place::new("");
    let args = ["--published", "Llama-3.2-1B-Instruct", "--tasks", "piqa", "--limit", "5"];
    let (report, markdown) = place.compare(&args);
    assert_eq!(report["rows"][0]["listed"], "llama-3.2-1b-instruct");
    assert!(line(&markdown, "GSM8K")[0].starts_with("not run"), "{markdown}");
    let evals = place.calls("eval");
    assert!(evals.len() == 1 && evals[0].ends_with("--limit 5"), "{evals:?}");
}

#[test]
fn random_weights_are_measured_without_fetching_or_scoring() {
    let place = Place::new(NO_NETWORK);
    let models = place.path("out/models");
    std::fs::create_dir_all(&models).unwrap();
    // Models of an earlier comparison.
    for name in MODELS {
        std::fs::write(models.join(format!("{name}-random.gguf")), "").unwrap();
    }
    place.script("peer", "[ \"$1\" = --perplexity ] && exit 1
        echo '[{\"n_prompt\": 512, \"n_gen\": 0, \"avg_ts\": 50}, {\"n_prompt\": 0, \"n_gen\": 128, \"avg_ts\": 10}]'");
    let peer = format!("other={}", place.path("peer").display());
    let (report, markdown) = place.compare(&["--synthetic", "-r", "1", "--peer", &peer]);
    assert_eq!(names(&report), [&MODELS[..], &["other"]].concat());
    assert_eq!(
        line(&markdown, "decode of 128 tokens")[..5],
        ["20.0", "20.0", "20.0", "20.0", "10.0"]
    );
    assert_eq!(line(&markdown, "prefill of 512 tokens")[4], "50.0");
    assert_eq!(line(&markdown, "decoded token, ms")[5], "*29*");
    assert!(!markdown.contains("ARC-Easy") && !markdown.contains("training tokens"), "{markdown}");
    assert!(
        markdown.contains("Random weights in the shape of google/gemma-3-1b-it."),
        "{markdown}"
    );
    for none in ["pull", "eval", "convert"] {
        assert_eq!(place.calls(none), [""; 0], "{none}");
    }

    // A model without a shape gets a row with that reason.
    let (report, _) = place.compare(&["--synthetic", "falcon-e-1b-instruct", "bitnet-b1.58-2b-4t"]);
    let reason = "models/models.toml does not know the shape of falcon-e-1b-instruct";
    assert_eq!(report["rows"][0]["file_bytes"]["not_run"], reason);
    assert_eq!(report["rows"][1]["file_bytes"]["value"], 200);
}

#[test]
fn scaling_is_measured_by_threads_and_contexts() {
    let place = Place::new("");
    let args = ["tinystories", "--tasks", "piqa", "--no-fetch", "-r", "1", "-n", "8", "-t", "6"];
    let (report, _) = place.compare(&[&args[..], &["--scaling"]].concat());
    let scaling = &report["rows"][0]["scaling"];
    let axis = |name: &str| {
        let points = scaling[name].as_array().unwrap();
        points
            .iter()
            .map(|point| (point[0].clone(), point[1]["median"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(axis("threads"), [(3.into(), 20.0.into())]);
    // The context has 300 tokens.
    assert_eq!(axis("context"), [(0.into(), 20.0.into()), (256.into(), 20.0.into())]);
    let calls = place.calls("bench").join("\n");
    assert!(calls.contains("-t 1,2,4,6") && !calls.contains("-d 1024"), "{calls}");
    assert_eq!(place.calls("run").len(), 1);
    let page = std::fs::read_to_string(place.path("out/report.html")).unwrap();
    assert!(page.contains("-d 0 -t 6</pre>") && page.contains("-d 256 -t 6</pre>"), "{page}");
}

#[test]
fn rows_of_a_file_are_interleaved_test_by_test() {
    let place = Place::new("");
    place.script("bench", "[ \"$1\" = --perplexity ] && exit 1
        [ \"$NO_PROMPT\" = 1 ] && [ \"$2\" != 0 ] && { echo 'error: segmentation fault' >&2; exit 1; }
        echo '[{\"n_prompt\": 512, \"n_gen\": 0, \"avg_ts\": 50}, {\"n_prompt\": 0, \"n_gen\": 64, \"avg_ts\": 10}]'");
    let rows = format!(
        r#"
title = "Two engines"
notes = ["A note."]
[[row]]
name = "ours"
model = "a.gguf"
args = ["--plain"]
note = "exact head"
[[row]]
name = "theirs"
peer = "{}"
env = {{ NO_PROMPT = "1" }}
[[row]]
name = "missing"
peer = "$NO_SUCH_VARIABLE/bench"
[[test]]
name = "tg64-2"
rows = ["ours", "theirs", "missing"]
[[test]]
name = "pp512-1"
rows = ["ours", "theirs"]
[[goal]]
name = "decode"
test = "tg64"
ours = ["ours"]
theirs = ["theirs", "missing"]
at_least = 1.5
[[goal]]
name = "prefill"
test = "pp512"
ours = ["ours"]
theirs = ["theirs"]
at_least = 1.5
"#,
        place.path("bench").display()
    );
    let file = place.path("rows.toml");
    std::fs::write(&file, rows).unwrap();
    let (report, markdown) = place.compare(&["--rows", path(&file), "-r", "3"]);
    assert!(
        markdown.starts_with("# Two engines\n") && markdown.contains("\nA note.\n"),
        "{markdown}"
    );
    assert!(!markdown.contains("published"), "{markdown}");
    let ours = |test: &str| vec![format!("bench a.gguf {test} -r 1 --json -q --plain"); 3];
    let calls = [ours("-p 0 -n 64 -t 2"), ours("-p 512 -n 0 -t 1")].concat();
    assert_eq!(place.calls("bench"), calls);
    let missing = "the variable NO_SUCH_VARIABLE of \"$NO_SUCH_VARIABLE/bench\" is not set";
    let decode = line(&markdown, "decode of 64 tokens, tokens/s, 2 threads");
    assert_eq!(decode[..2], ["20.0 (20.0 to 20.0)", "10.0 (10.0 to 10.0)"]);
    assert_eq!(report["rows"][2]["perplexity"]["not_run"], missing);
    // A row that fails in one test is run in the others.
    let prefill = line(&markdown, "prefill of 512 tokens, tokens/s, 1 thread");
    assert!(
        prefill[0] == "100.0 (100.0 to 100.0)" && prefill[1].starts_with("not run"),
        "{prefill:?}"
    );
    assert!(markdown.contains(": segmentation fault\n"), "{markdown}");
    let goals = report["goals"].as_array().unwrap();
    assert_eq!(goals.len(), 1);
    assert_eq!((&goals[0]["goal"], &goals[0]["ratio"]), (&"decode".into(), &2.0.into()));
    assert!(
        markdown.contains(
            "| decode | decode of 64 tokens, tokens/s, 2 threads | ours | theirs | **2.00** | 1.5 |"
        ),
        "{markdown}"
    );
    assert_eq!(report["rows"][0]["facts"]["bytes_per_token"], 7);

    // The row that goes first changes from round to round.
    let noted = |name: &str| format!("{name} >> {}", place.path("order").display());
    for name in ["a", "b"] {
        place.script(
            name,
            &format!(
                "[ \"$1\" = --perplexity ] && exit 1; {}
            echo '[{{\"n_prompt\": 0, \"n_gen\": 8, \"avg_ts\": 1}}]'",
                noted(&format!("printf {name}"))
            ),
        );
    }
    let peer = |name: &str| format!("{name}={}", place.path(name).display());
    let args = ["tinystories", "--peer", &peer("a"), "--peer", &peer("b"), "-p", "0", "-n", "8"];
    place.compare(&[&args[..], &["-r", "3", "--tasks", "piqa", "--no-fetch"]].concat());
    // With the built-in model m, the rounds are m a b, a b m and b m a.
    assert_eq!(std::fs::read_to_string(place.path("order")).unwrap(), "ababba");
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
