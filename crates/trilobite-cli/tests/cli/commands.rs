//! Tests of the output of the other commands.

use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::trilobite::{comma_separated, command, convert_to, stdout};

/// Tolerance of a log-likelihood: about twenty tokens, each with the float noise of its logits.
const LOGPROB: f64 = 1e-3;
/// Relative tolerance of a perplexity, compared with PyTorch's.
const PERPLEXITY: f64 = 1e-3;

/// The built-in model's folder.
fn built_in() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tinystories")
}

/// Runs `score` with these lines as standard input.
fn score(model: &Path, lines: &[Value]) -> Vec<Value> {
    let mut child = command(["score", "--quiet"])
        .arg(model)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for line in lines {
        writeln!(stdin, "{line}").unwrap();
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Some editors write a byte-order mark before a text. It is not part of the text.
#[test]
fn a_byte_order_mark_is_no_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text");
    let with = |text: &str, args: &[&str]| {
        std::fs::write(&path, text).unwrap();
        stdout(command(args).arg(&path)).unwrap()
    };
    let line = "{\"context\": \"Once\", \"continuation\": \" upon\"}\n";
    for (args, text) in [
        (&["tokenize", "--file"][..], "Once upon\na time"),
        (&["perplexity", "--file"], "Once upon a time there was a cat."),
        (&["score", "-i"], line),
    ] {
        assert_eq!(with(&format!("\u{feff}{text}"), args), with(text, args), "{args:?}");
    }
}

#[test]
fn line_ends_of_other_systems_are_no_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text");
    let ids = |text: &str| {
        std::fs::write(&path, text).unwrap();
        stdout(command(["tokenize", "--file"]).arg(&path)).unwrap()
    };
    assert_eq!(ids("Once upon\r\n\r\na time\r\n"), ids("Once upon\n\na time\n"));
    // Within a line it is text.
    assert_ne!(ids("Once\rupon\n"), ids("Onceupon\n"));
}

#[test]
fn log_likelihoods_agree_with_the_reference() {
    let fixture = Fixture::named("bitnet_offline");
    let ids = fixture.prompt("short").unwrap();
    let reference = fixture.logits("short").unwrap();
    let rows: Vec<&[f32]> = reference.rows().collect();
    let expected = |from: usize| -> f64 {
        let logprob = |row: &[f32], id: u32| {
            let top = row.iter().copied().fold(f32::MIN, f32::max);
            let sum: f64 = row.iter().map(|&logit| f64::from(logit - top).exp()).sum();
            f64::from(row[id as usize] - top) - sum.ln()
        };
        (from..ids.len()).map(|at| logprob(rows[at - 1], ids[at])).sum()
    };
    let line = |from: usize| json!({"context_ids": ids[..from], "continuation_ids": ids[from..]});
    let froms = [1, 5, 12, ids.len() - 1, 5, 1];
    let scored = score(&fixture.folder, &froms.map(line));
    for (scored, from) in scored.iter().zip(froms) {
        let logprob = scored["logprob"].as_f64().unwrap();
        assert!((logprob - expected(from)).abs() < LOGPROB, "{from}: {logprob}");
        assert_eq!(scored["tokens"], ids.len() - from);
        assert_eq!(scored["context_ids"], json!(ids[..from]), "the line itself comes back");
    }
    // The lines before a line do not affect its score.
    assert_eq!(scored[1], scored[4]);
    assert_eq!(scored[0], scored[5]);
}

#[test]
fn text_is_scored_as_its_tokens() {
    let context = "Once upon a time, there was a little ";
    let continuation = "girl named Lily.";
    let tokens = |text: &str| -> Vec<u32> {
        let printed = stdout(&mut command(["tokenize", "-p", text])).unwrap();
        printed.trim_end().split(',').map(|id| id.parse().unwrap()).collect()
    };
    // The space at the end of the context belongs to the continuation.
    let head = tokens(context.trim_end());
    let whole = tokens(&format!("{context}{continuation}"));
    let text = json!({"context": context, "continuation": continuation});
    let ids = json!({"context_ids": head, "continuation_ids": whole[head.len()..]});
    let empty = json!({"context": "", "continuation": "Once"});
    let scored = score(&built_in(), &[text, ids, empty]);
    assert_eq!(scored[0]["logprob"], scored[1]["logprob"]);
    assert_eq!(scored[0]["tokens"], whole.len() - head.len());
    assert_eq!(scored[0]["bytes"], continuation.len());
    assert!(scored[2]["logprob"].as_f64().unwrap() < 0.0);
}

#[test]
fn a_scored_line_keeps_its_values() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.jsonl");
    let scored = |line: &str| {
        std::fs::write(&path, line).unwrap();
        let scored = stdout(command(["score", "-i"]).arg(&path)).unwrap();
        let (_, rest) = scored.split_once("\"logprob\":").unwrap();
        let (logprob, _) = rest.split_once(',').unwrap();
        (scored.trim_end().to_owned(), logprob.to_owned())
    };
    let rest = "\"z\":12345678901234567890123,\"price\":1.10,\"big\":1e400,\"a\":\"\\u00e9\",\
                \"list\":[1, {\"b\":-0.0}]";
    let texts = "\"context\":\"Once upon\",\"continuation\":\" a time\"";
    let (line, logprob) = scored(&format!("{{{rest},{texts},\"tokens\":0}}"));
    let added = format!("\"logprob\":{logprob},\"greedy\":");
    let (before, after) = line.split_once(&added).unwrap();
    assert_eq!(before, format!("{{{rest},{texts},\"tokens\":2,"));
    assert!(after.ends_with(",\"bytes\":7}"), "{line}");
    // Spaces do not control the terminal.
    let (line, _) = scored(&format!("{{\"list\":[1,\t2,\r3],{texts}}}"));
    assert!(line.starts_with("{\"list\":[1, 2, 3],"), "{line}");
}

#[test]
fn an_empty_context_begins_the_text_and_an_empty_continuation_is_refused() {
    let encoded = |text: &str| {
        let ids = stdout(&mut command(["tokenize", "--no-special", "-p", text])).unwrap();
        Value::from(ids.trim().split(',').map(|id| id.parse::<u32>().unwrap()).collect::<Vec<_>>())
    };
    let ids = encoded("Once upon");
    let text = json!({"context": "", "continuation": "Once upon"});
    let same = json!({"context_ids": [], "continuation_ids": ids});
    let scored = score(&built_in(), &[text, same]);
    assert_eq!(scored[0]["logprob"], scored[1]["logprob"]);
    assert_eq!(scored[1]["context_ids"], json!([]));
    assert_eq!(scored[0]["tokens"], scored[1]["tokens"]);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.jsonl");
    for line in [
        json!({"context": "Once", "continuation": ""}),
        json!({"context_ids": [1], "continuation_ids": []}),
        json!({"context_ids": [], "continuation_ids": []}),
    ] {
        std::fs::write(&path, line.to_string()).unwrap();
        let output = command(["score", "-i"]).arg(&path).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(" line 1: the continuation is empty"), "{said}");
    }
    for (line, expected) in [
        (json!({"context": "Onc", "continuation": "e"}), "the continuation adds no token"),
        (json!({"continuation": "a"}), "\"context\" is missing"),
        (json!({"context": null, "continuation": "a"}), "\"context\" is not a string"),
        (json!({"context_ids": [1]}), "\"continuation_ids\" is missing"),
    ] {
        std::fs::write(&path, line.to_string()).unwrap();
        let error = stdout(command(["score", "-i"]).arg(&path)).unwrap_err().to_string();
        assert!(error.contains(&format!(" line 1: {expected}")), "{error}");
    }
}

#[test]
fn score_says_that_contexts_were_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lines.jsonl");
    let line = |context: &[u32]| json!({"context_ids": context, "continuation_ids": [7]});
    std::fs::write(&path, format!("{}\n{}\n", line(&[4, 5, 6]), line(&[3, 4, 5, 6]))).unwrap();
    let mut scores = command(["score", "--ctx", "3", "-i"]);
    let output = scores.arg(&path).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("the context of 3 tokens is too short for 1 of 2 lines"), "{said}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let logprob = |line: &str| serde_json::from_str::<Value>(line).unwrap()["logprob"].clone();
    let found: Vec<Value> = lines.lines().map(logprob).collect();
    assert_eq!(found[0], found[1]);
    let quiet = scores.arg("-q").output().unwrap();
    assert!(quiet.stderr.is_empty(), "{quiet:?}");
}

#[test]
fn a_bad_line_is_named_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (input, out) = (folder.path().join("in.jsonl"), folder.path().join("out.jsonl"));
    std::fs::write(&input, "{\"context\":\"a\",\"continuation\":\" b\"}\n{\"context\":1}\n")
        .unwrap();
    let output = command(["score", "-i"]).arg(&input).arg("-o").arg(&out).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("line 2") && said.contains("context"), "{said}");
    assert!(said.starts_with(&format!("error: {} line 2: ", input.display())), "{said}");
    assert!(!out.exists());
}

#[test]
fn perplexity_of_the_built_in_model_is_pytorch_s() {
    let expected: Value =
        serde_json::from_slice(&std::fs::read(built_in().join("perplexity.json")).unwrap())
            .unwrap();
    let file = built_in().join(expected["file"].as_str().unwrap());
    let ctx = expected["ctx"].to_string();
    let mut command = command(["perplexity", "--json", "--quiet", "--ctx", &ctx, "--file"]);
    let found: Value = serde_json::from_str(&stdout(command.arg(file)).unwrap()).unwrap();
    assert_eq!(found["tokens"], expected["tokens"]);
    let (found, expected) = (&found["perplexity"], &expected["perplexity"]);
    let ratio = found.as_f64().unwrap() / expected.as_f64().unwrap();
    assert!((ratio - 1.0).abs() < PERPLEXITY, "{found}, expected {expected}");
}

/// `cargo xtask readme` writes it.
#[test]
fn the_story_in_the_readme_is_the_model_s() {
    let readme = std::fs::read_to_string(built_in().join("../../README.md")).unwrap();
    let begin = "<!-- output trilobite run -p \"Once upon a time\" --echo --seed 1 -q -->\n";
    let (_, rest) = readme.split_once(begin).unwrap();
    let (quoted, _) = rest.split_once("<!-- end -->").unwrap();
    let lines = quoted.lines().filter_map(|line| line.strip_prefix("> "));
    let mut command = command(["run", "-p", "Once upon a time", "--echo", "--seed", "1", "-q"]);
    let story = stdout(&mut command).unwrap();
    assert_eq!(lines.collect::<Vec<_>>(), story.trim().lines().collect::<Vec<_>>());
}

#[test]
fn overlapping_windows_score_every_token_once() {
    let expected: Value =
        serde_json::from_slice(&std::fs::read(built_in().join("perplexity.json")).unwrap())
            .unwrap();
    let file = built_in().join(expected["file"].as_str().unwrap());
    let run = |args: &[&str]| -> Value {
        let mut command = command(["perplexity", "--json", "--quiet", "--file"]);
        serde_json::from_str(&stdout(command.arg(&file).args(args)).unwrap()).unwrap()
    };
    let disjoint = run(&["--ctx", "64"]);
    let overlapping = run(&["--ctx", "64", "--stride", "16"]);
    assert_eq!(disjoint["tokens"], overlapping["tokens"]);
    // More context lowers the perplexity of a text in the model's language.
    let value = |result: &Value| result["perplexity"].as_f64().unwrap();
    assert!(value(&overlapping) < value(&disjoint), "{overlapping} {disjoint}");
}

/// The first token of a text has nothing before it in a model without a beginning-of-text token.
/// Every other token is scored, whatever the windows, and the bytes are those of the scored tokens.
#[test]
fn windows_without_a_first_token_score_every_token_but_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text");
    let text = "Once upon a time there was a cat. It sat on a mat and looked at the rain.";
    std::fs::write(&path, text).unwrap();
    let model = Fixture::named("qwen2").source().unwrap();
    let mut tokenize = command(["tokenize", "--no-special", "--file"]);
    let ids = stdout(tokenize.arg(&path).arg(&model)).unwrap();
    let first = ids.split(',').next().unwrap();
    let first = stdout(command(["tokenize", "--decode", first]).arg(&model)).unwrap();
    let first = first.trim_end_matches('\n').len();
    for (args, ctx, stride) in [
        (&["--ctx", "2"][..], 2, 1),
        (&["--ctx", "7"], 7, 6),
        (&["--ctx", "7", "--stride", "7"], 7, 6),
        (&["--ctx", "7", "--stride", "3"], 7, 3),
        (&["--ctx", "256"], 256, 255),
    ] {
        let mut command = command(["perplexity", "--json", "--quiet", "--file"]);
        let printed = stdout(command.arg(&path).args(args).arg(&model)).unwrap();
        let found: Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(found["tokens"], ids.split(',').count() - 1, "{args:?}");
        assert_eq!(found["bytes"], text.len() - first, "{args:?}");
        let [bits, mean] = ["bits_per_byte", "mean_negative_log_likelihood"]
            .map(|name| found[name].as_f64().unwrap());
        let nats = mean * found["tokens"].as_f64().unwrap();
        let expected = nats / std::f64::consts::LN_2 / found["bytes"].as_f64().unwrap();
        assert!((bits - expected).abs() < 1e-9, "{bits} {expected}");
        let method = format!(
            "windows of {ctx} tokens, one every {stride}; every token but the first scored once"
        );
        assert_eq!(found["method"], method);
        assert_eq!(found["stride"], stride);
    }
}

/// A stride of the whole window means windows that touch, which the first token of each shortens.
#[test]
fn a_stride_is_at_most_the_window() {
    let file = built_in().join("story.txt");
    let run = |args: &[&str]| {
        let mut command = command(["perplexity", "--json", "--quiet", "--file"]);
        stdout(command.arg(&file).args(args))
    };
    let whole = run(&["--ctx", "64", "--stride", "64"]).unwrap();
    assert_eq!(whole, run(&["--ctx", "64"]).unwrap());
    let found: Value = serde_json::from_str(&whole).unwrap();
    assert_eq!(found["stride"], 63);
    assert_eq!(found["bytes"], std::fs::metadata(&file).unwrap().len());
    let method = "windows of 64 tokens that begin with the beginning-of-text token, one every 63; \
                  every token scored once";
    assert_eq!(found["method"], method);
    let error = run(&["--ctx", "64", "--stride", "65"]).unwrap_err().to_string();
    assert!(error.contains("--stride is 65, expected 1..=64"), "{error}");
}

#[test]
fn a_seed_gives_the_same_story_with_any_threads() {
    let story = |args: &[&str]| {
        let mut command = command(["run", "-p", "Once upon a time", "-n", "40", "--temp", "0.8"]);
        stdout(command.args(args)).unwrap()
    };
    let one = story(&["--seed", "1", "-t", "1"]);
    assert_eq!(one, story(&["--seed", "1", "-t", "2"]));
    assert_ne!(one, story(&["--seed", "2", "-t", "2"]));
    assert!(one.split_whitespace().count() > 10, "{one}");
}

#[test]
fn prompts_come_from_flags_files_and_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompt.txt");
    std::fs::write(&file, "The cat").unwrap();
    let run = |args: &[&str]| {
        let mut command = command(["run", "-n", "8", "--temp", "0", "--quiet"]);
        stdout(command.args(args)).unwrap()
    };
    let text = run(&["-p", "The cat"]);
    assert_eq!(text, run(&["--prompt-file", file.to_str().unwrap()]));
    assert_eq!(run(&["-p", "The cat", "--echo"]), format!("The cat{text}"));

    let mut command = command(["run", "-n", "8", "--temp", "0", "--quiet"]);
    let stdin = std::fs::File::open(&file).unwrap();
    assert_eq!(text, stdout(command.stdin(stdin)).unwrap());

    let ids = stdout(&mut crate::trilobite::command(["tokenize", "-p", "The cat"])).unwrap();
    assert_eq!(text, run(&["--tokens", ids.trim_end()]));
    let generated = run(&["-p", "The cat", "--ids", "--ignore-eos"]);
    assert_eq!(generated.split_whitespace().count(), 8);
    let (before, _) = text.trim_end().split_at(text.trim_end().len() / 2);
    let stop = &text[before.len()..before.len() + 3];
    assert!(!run(&["-p", "The cat", "--stop", stop]).contains(stop));
    // The ids end where the text does.
    let all: Vec<&str> = generated.split_whitespace().collect();
    for prompt in [["-p", "The cat"], ["--tokens", ids.trim_end()]] {
        let stopped = run(&[&prompt[..], &["--ids", "--stop", stop]].concat());
        let stopped: Vec<&str> = stopped.split_whitespace().collect();
        assert!((1..8).contains(&stopped.len()) && all.starts_with(&stopped), "{stopped:?}");
        let args = ["tokenize", "--decode", &stopped.join(",")];
        let text = stdout(&mut crate::trilobite::command(args)).unwrap();
        assert!(text.contains(stop), "{text}");
    }
}

#[test]
fn a_full_context_ends_a_generation_and_refuses_a_prompt() {
    let fixture = Fixture::named("bitnet_offline");
    let ids = comma_separated(&fixture.prompt("short").unwrap());
    let run = |ctx: &str| {
        command(["run", "--tokens", &ids, "--ids", "--ignore-eos", "--temp", "0", "--ctx", ctx])
            .arg(&fixture.folder)
            .output()
            .unwrap()
    };
    let output = run("24");
    assert!(output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("context of 24 full"));
    let output = run("4");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("do not fit in the context of 4"), "{said}");
}

#[test]
fn inspect_counts_what_is_there() {
    let model = Fixture::named("bitnet_offline").folder;
    let text = stdout(command(["inspect", "--json"]).arg(&model)).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["architecture"], "bitnet-b1.58");
    let tensors = report["tensors"].as_array().unwrap();
    let weights = |tensor: &Value| -> u64 {
        tensor["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).product()
    };
    assert_eq!(report["parameters"], tensors.iter().map(weights).sum::<u64>());
    let embedding = tensors.iter().find(|tensor| tensor["name"] == "token_embd.weight").unwrap();
    let bytes: u64 = tensors.iter().map(|tensor| tensor["bytes"].as_u64().unwrap()).sum();
    let without = bytes - embedding["bytes"].as_u64().unwrap();
    // The tail of each ternary tensor holds its scale, and does not count as weights.
    let tails = 32 * tensors.iter().filter(|tensor| tensor["type"] == "I2_S").count() as u64;
    assert_eq!(report["non_embedding_bytes"], without - tails);
    assert!(tensors.iter().all(|tensor| tensor["sha256"].as_str().unwrap().len() == 64));
    assert_eq!(report["metadata"]["bitnet-b1.58.attention.layer_norm_rms_epsilon"], 1e-5);
    assert_eq!(report["metadata"]["bitnet-b1.58.embedding_length"], 128);
    let tokens = &report["metadata"]["tokenizer.ggml.tokens"];
    assert!(tokens.as_str().unwrap().starts_with("array of "), "{tokens}");
}

#[test]
fn inspect_begins_with_a_summary() {
    let model = Fixture::named("bitnet_offline").folder;
    let shown = stdout(command(["inspect"]).arg(&model)).unwrap();
    let position = |text: &str| shown.find(text).unwrap_or_else(|| panic!("no {text}: {shown}"));
    let order = ["  architecture      bitnet-b1.58\n", "  bits per weight ", "\nmetadata\n"];
    let order = order.map(position);
    assert!(order.is_sorted(), "{order:?}: {shown}");
    position("\n  bitnet-b1.58.rope.freq_base            500000.0\n");
    assert!(!shown.contains("blk.0.attn_q.weight"), "{shown}");
    let listed = stdout(command(["inspect", "--tensors"]).arg(&model)).unwrap();
    assert!(listed.contains("\n  blk.0.attn_q.weight "), "{listed}");
}

#[test]
fn an_evaluation_of_nothing_is_refused() {
    let output = command(["eval", "--tasks", "piqa", "--limit", "0"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("--limit"), "{said}");
}

#[test]
fn bench_reports_every_thread_count() {
    let text =
        stdout(&mut command(["bench", "-p", "8,16", "-n", "4", "-t", "1,2", "-r", "1", "--json"]));
    let report: Value = serde_json::from_str(&text.unwrap()).unwrap();
    let report = report.as_array().unwrap();
    assert_eq!(report.len(), 2);
    for (result, threads) in report.iter().zip([1, 2]) {
        assert_eq!(result["threads"], threads);
        assert_eq!(result["prefill"][1]["tokens"], 16);
        assert!(result["prefill"][0]["tokens_per_s"]["median"].as_f64().unwrap() > 0.0);
        let decode = &result["decode"];
        assert!(decode["bytes_per_token"].as_u64() > result["non_embedding_bytes"].as_u64());
        let fraction = decode["bytes_per_token"].as_f64().unwrap()
            * decode["tokens_per_s"]["median"].as_f64().unwrap()
            / decode["bandwidth_bytes_per_s"].as_f64().unwrap();
        assert!((decode["fraction_of_limit"].as_f64().unwrap() - fraction).abs() < 1e-9);
    }
}

#[test]
fn bench_says_what_it_measures_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("sparse.gguf");
    convert_to("sparse", &Fixture::named("bitnet_offline").folder, &model).unwrap();
    let args = ["bench", "-p", "4", "-n", "4", "-t", "1,2", "-r", "1", "--profile"];
    let output = command(args).arg(&model).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let told: Vec<&str> = said.lines().filter(|line| line.contains("thread")).collect();
    let [one, two] = ["1 thread", "2 threads"];
    let expected = [format!("warming up, {one}"), format!("warming up, {two}")];
    let expected = expected.into_iter().chain([one, two].map(|what| format!("run 1 of 1, {what}")));
    assert_eq!(told, expected.collect::<Vec<_>>());
    let text = String::from_utf8(output.stdout).unwrap();
    for row in ["  1 thread   prefill 4 ", "  2 threads  decode 4 ", " 1 thread ", " 2 threads "] {
        assert!(text.contains(row), "{row}: {text}");
    }
    assert!(!text.contains("1 threads"), "{text}");
    let zeros = text.lines().find(|line| line.contains("gate activations are not zero")).unwrap();
    assert!(zeros.ends_with(" % of the down projection's inputs"), "{zeros}");
}

#[test]
fn bench_decodes_several_sequences_at_once() {
    let args = ["-p", "0", "-n", "3", "--depth", "5", "--batch", "2,9", "-r", "2", "--profile"];
    let text = stdout(command(["bench", "-t", "2"]).args(args)).unwrap();
    assert!(text.contains("9 x decode 3@5") && text.contains("sequences 9"), "{text}");
    let text = stdout(command(["bench", "-t", "2", "--json"]).args(args)).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    let batches = report[0]["batches"].as_array().unwrap();
    let sequences: Vec<_> = batches.iter().map(|batch| &batch["sequences"]).collect();
    assert_eq!(sequences, [2, 9]);
    assert!(batches[1]["tokens_per_s"]["min"].as_f64().unwrap() > 0.0);
    assert_eq!(report[0]["decode"]["tokens"], 3);
    let profile = report[0]["profile"].as_array().unwrap();
    assert_eq!((&profile[2]["work"], &profile[2]["count"]), (&"sequences".into(), &9.into()));
    assert_eq!(profile[2]["tokens"], 27);
    assert!(stdout(&mut command(["bench", "--batch", "0"])).is_err());
}

#[test]
fn bench_counts_the_cache_of_a_deep_context() {
    let report = |args: &[&str]| -> Value {
        // With `--plain` no weight is skipped.
        let fixed = ["bench", "--plain", "-p", "8", "-n", "4", "-t", "2", "-r", "1", "--json"];
        let text = stdout(&mut command(fixed.iter().chain(args)));
        serde_json::from_str::<Value>(&text.unwrap()).unwrap()[0].take()
    };
    let [shallow, deep] = [&["--kv=q8"][..], &["--kv=q8", "--depth=100"]].map(report);
    assert_eq!(deep["decode"]["depth"], 100);
    assert_eq!(deep["cache"], "q8");
    let cache = 100 * deep["cache_bytes_per_token"].as_u64().unwrap();
    let [shallow, deep] = [shallow, deep].map(|r| r["decode"]["bytes_per_token"].as_u64().unwrap());
    assert_eq!(deep, shallow + cache);
    let refused = stdout(&mut command(["bench", "--depth=100000", "-n", "4"]));
    assert!(refused.unwrap_err().to_string().contains("100005"));
}

#[test]
fn the_help_of_a_command_begins_with_its_summary() {
    let all = stdout(&mut command(["--help"])).unwrap();
    let (_, commands) = all.split_once("Commands:\n").unwrap();
    for line in commands.lines().take_while(|line| !line.is_empty()) {
        let (name, summary) = line.trim().split_once(' ').unwrap();
        if name != "help" {
            let help = stdout(&mut command([name, "--help"])).unwrap();
            assert!(help.starts_with(summary.trim()), "{name}: {help}");
        }
    }
}

#[test]
fn completions_and_manual_are_written() {
    let script = stdout(&mut command(["completions", "bash"])).unwrap();
    assert!(script.contains("perplexity"));
    let folder = tempfile::tempdir().unwrap();
    stdout(command(["man", "-o"]).arg(folder.path())).unwrap();
    assert!(folder.path().join("trilobite-convert.1").exists());
}

/// On a terminal, result and messages appear on the same screen.
#[test]
fn the_answer_continues_the_line_of_the_echoed_prompt() {
    let mut screen = tempfile::tempfile().unwrap();
    let mut run = command(["run", "-p", "Once upon a time", "-n", "4", "--temp", "1", "--echo"]);
    run.stdout(screen.try_clone().unwrap()).stderr(screen.try_clone().unwrap());
    assert!(run.status().unwrap().success());
    screen.rewind().unwrap();
    let mut shown = String::new();
    screen.read_to_string(&mut shown).unwrap();
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines[0].starts_with("seed "), "{shown}");
    let answer = lines[1].strip_prefix("Once upon a time").unwrap();
    assert!(!answer.is_empty() && !answer.contains("seed"), "{shown}");
}
