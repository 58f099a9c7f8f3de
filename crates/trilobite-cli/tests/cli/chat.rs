//! Tests of chats: the template that a run uses, its output, and the sampling of tokens.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::Fixture;
use crate::trilobite::{command, convert, stdout};

/// Copies a checkpoint and changes it.
pub(crate) fn checkpoint() -> (TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("model");
    fs::create_dir(&folder).unwrap();
    for entry in fs::read_dir(Fixture::named("llama").folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
        }
    }
    (parent, folder)
}

fn change(folder: &Path, file: &str, change: impl Fn(&mut Value)) {
    let path = folder.join(file);
    let mut value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

pub(crate) fn set_template(folder: &Path, template: &str) {
    change(folder, "tokenizer_config.json", |config| config["chat_template"] = json!(template));
}

fn run(model: &Path, args: &[&str]) -> Output {
    command(["run", "-t", "2"]).arg(model).args(args).output().unwrap()
}

/// The prompt as a run prints it.
fn echo(model: &Path, args: &[&str]) -> String {
    let mut command = command(["run", "-t", "2", "--echo", "-n", "0", "-q"]);
    stdout(command.arg(model).args(args)).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_model_with_a_template_is_chatted_with_unless_told_otherwise() {
    let (_parent, folder) = checkpoint();
    let template = "{% for m in messages %}{{ m.role }}={{ m.content }};{% endfor %}";
    set_template(&folder, template);
    let bos = "<|begin_of_text|>";
    let chat = format!("{bos}user=hi;\n");
    assert_eq!(echo(&folder, &["-p", "hi"]), chat);
    assert_eq!(echo(&folder, &["-p", "hi", "--chat"]), chat);
    assert_eq!(echo(&folder, &["-p", "hi", "--no-chat", "--chat"]), chat);
    assert_eq!(
        echo(&folder, &["-p", "hi", "--system", "be"]),
        format!("{bos}system=be;user=hi;\n")
    );
    for raw in ["--no-chat", "--raw"] {
        assert_eq!(echo(&folder, &["-p", "hi", raw]), "hi\n");
        assert_eq!(run(&folder, &["-p", "hi", raw, "--system", "be"]).status.code(), Some(2));
        assert_eq!(
            run(&folder, &["-p", "hi", raw, "--chat-template=chatml"]).status.code(),
            Some(2)
        );
    }
    assert_eq!(echo(&folder, &["--tokens", "65,66", "--ids"]), "65 66 \n");
    let refused = run(&folder, &["--tokens", "65", "--system", "be"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(said(&refused).contains("--tokens are used literally"));
}

#[test]
fn a_model_without_a_template_takes_one() {
    let (parent, folder) = checkpoint();
    change(&folder, "tokenizer_config.json", |config| {
        config.as_object_mut().unwrap().remove("chat_template");
    });
    assert_eq!(echo(&folder, &["-p", "hi"]), "hi\n");
    for args in [["--chat", "-phi"], ["--system=be", "-phi"]] {
        let refused = run(&folder, &args);
        assert_eq!(refused.status.code(), Some(1));
        let said = said(&refused);
        assert!(said.contains("no chat template") && said.contains("chatml, gemma,"), "{said}");
    }
    let file = parent.path().join("own.jinja");
    fs::write(&file, "{{ bos_token }}{% for m in messages %}({{ m.content }}){% endfor %}\r\n")
        .unwrap();
    let text = echo(&folder, &["-p", "hi", "--chat-template", file.to_str().unwrap()]);
    assert_eq!(text, "<|begin_of_text|>(hi)\n");
    let text = echo(&folder, &["-p", "hi", "--system", "be", "--chat-template", "chatml"]);
    assert!(
        text.ends_with(
            "<|im_start|>system\nbe<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n\n"
        ),
        "{text}"
    );
    for (name, hint) in [
        ("chat-ml", "did you mean chatml?"),
        ("llama-3", "did you mean llama3?"),
        ("nothing", "there are alpaca, bitnet, chatml"),
    ] {
        let refused = run(&folder, &["-p", "hi", "--chat-template", name]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(said(&refused).contains(hint), "{}", said(&refused));
    }
    let missing = run(&folder, &["-p", "hi", "--chat-template", "no/such.jinja"]);
    assert!(said(&missing).contains("--chat-template: no/such.jinja"), "{}", said(&missing));
}

#[test]
fn a_prompt_loses_one_line_end_of_its_file_or_stream() {
    let (parent, folder) = checkpoint();
    let file = parent.path().join("prompt.txt");
    for (written, meant) in [
        ("hi", "hi"),
        ("hi\n", "hi"),
        ("hi\r\n", "hi"),
        ("hi\n\n", "hi\n"),
        ("hi\r\n\r\n", "hi\r\n"),
        ("hi\r", "hi\r"),
        ("hi \n", "hi "),
    ] {
        fs::write(&file, written).unwrap();
        let ids = |command: &mut std::process::Command| {
            let flags = ["--echo", "--ids", "-n", "0", "-q", "--no-chat"];
            stdout(command.args(flags)).unwrap()
        };
        let expected = ids(command(["run", "-p", meant]).arg(&folder));
        let from_file = ids(command(["run", "--prompt-file"]).arg(&file).arg(&folder));
        assert_eq!(from_file, expected, "{written:?}");
        let stream = fs::File::open(&file).unwrap();
        assert_eq!(ids(command(["run"]).arg(&folder).stdin(stream)), expected, "{written:?}");
    }
}

#[test]
fn special_tokens_are_variables_in_a_folder_and_in_its_conversion() {
    let (parent, folder) = checkpoint();
    change(&folder, "tokenizer_config.json", |config| {
        config["pad_token"] = json!({"content": "<pad>"});
        config["image_token"] = json!("<image>");
        config["additional_special_tokens"] = json!(["<one>", {"content": "<two>"}]);
        config["chat_template"] = json!([
            {"name": "default", "template": "{{ [pad_token, unk_token, image_token, mask_token] }}\
             {{ additional_special_tokens | join }}{{ cls_token is defined }}"},
            {"name": "tool_use", "template": "tools"},
        ]);
    });
    fs::write(
        folder.join("special_tokens_map.json"),
        json!({"unk_token": "<unk>", "pad_token": "<other>", "mask_token": {"content": "<mask>"}})
            .to_string(),
    )
    .unwrap();
    // Without `added_tokens_decoder`, special_tokens_map.json takes precedence.
    let expected = "<|begin_of_text|>['<other>', '<unk>', '<image>', '<mask>']<one><two>False\n";
    let file = parent.path().join("model.gguf");
    convert(&folder, &file).unwrap();
    let again = parent.path().join("again.gguf");
    convert(&file, &again).unwrap();
    for model in [folder, file, again] {
        assert_eq!(echo(&model, &["-p", "hi"]), expected, "{}", model.display());
    }
}

#[test]
fn a_chat_samples_with_what_the_model_the_flags_or_the_defaults_say() {
    let (_parent, folder) = checkpoint();
    let settings = |args: &[&str]| {
        let output = run(&folder, &[&["-p", "hi", "-n", "0", "-v"], args].concat());
        let said = said(&output);
        assert!(output.status.success(), "{said}");
        said.lines().find_map(|line| line.strip_prefix("sampling: ")).unwrap().to_owned()
    };
    let set = |config: Value| {
        fs::write(folder.join("generation_config.json"), config.to_string()).unwrap();
    };
    let none = "repeat penalty 1, loop penalty 0";
    set(json!({"do_sample": true, "temperature": 0.6, "top_p": 0.9}));
    assert_eq!(settings(&[]), format!("temperature 0.6, top-k 0, top-p 0.9, min-p 0, {none}"));
    set(json!({"do_sample": false}));
    assert_eq!(settings(&[]), format!("the likeliest token, {none}"));
    set(json!({}));
    let chat = "top-k 40, top-p 0.95, min-p 0.05, repeat penalty 1, loop penalty 0.8";
    assert_eq!(settings(&[]), format!("temperature 0.7, {chat}"));
    assert_eq!(settings(&["--temp", "1"]), format!("temperature 1, {chat}"));
    assert_eq!(settings(&["--temp", "0"]), format!("the likeliest token, {none}"));
    assert_eq!(settings(&["--no-chat"]), format!("the likeliest token, {none}"));
    assert_eq!(
        settings(&["--top-k=0", "--top-p=1", "--min-p=0", "--loop-penalty=0"]),
        format!("temperature 0.7, top-k 0, top-p 1, min-p 0, {none}")
    );
    set(json!({"top_k": 20}));
    assert_eq!(settings(&[]), format!("temperature 0.7, {chat}").replace("40", "20"));
}

#[test]
fn a_seed_gives_the_same_answer_with_the_defaults_of_a_chat() {
    let (_parent, folder) = checkpoint();
    fs::write(folder.join("generation_config.json"), "{}").unwrap();
    let answer = |args: &[&str]| {
        let mut command = command(["run", "-p", "hi", "-n", "60", "--ignore-eos", "--ids", "-q"]);
        stdout(command.arg(&folder).args(args)).unwrap()
    };
    let first = answer(&["--seed", "5", "-t", "1"]);
    assert_eq!(answer(&["--seed", "5", "-t", "2"]), first);
    assert_ne!(answer(&["--seed", "6"]), first);
    assert_eq!(answer(&["--temp", "0"]), answer(&["--temp", "0", "--loop-penalty", "0"]));
}

#[test]
fn a_template_that_means_harm_is_one_line() {
    let (_parent, folder) = checkpoint();
    for (template, reason) in [
        ("\n{{ raise_exception('no\u{1b}[2J\nway') }}".to_owned(), "line 2: no"),
        ("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}".into(), "steps"),
        ("{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = ns.l + ns.l %}{% endfor %}".into(), "MB"),
        (format!("{{{{ {}1 }}}}", "-".repeat(20_000)), "nested more than 100 deep"),
        ("{{ messages[0].content | frobnicate }}".into(), "there is no filter frobnicate"),
        ("{% block x %}{% endblock %}".into(), "{% block %} is not supported"),
    ] {
        set_template(&folder, &template);
        let output = run(&folder, &["-p", "hi", "-n", "1", "-q"]);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with("error: ") && said.contains(reason), "{said}");
        assert!(said.contains("--no-chat leaves the template out"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(run(&folder, &["-p", "hi", "-n", "1", "-q", "--no-chat"]).status.success());
    }
}
