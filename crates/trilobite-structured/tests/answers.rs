//! Tests that answers are parsed the same way for any division into pieces.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use serde_json::json;
use trilobite_runtime::Message;
use trilobite_structured::{Answer, Call, CallFormat, Error, Piece, Tools, calls_as_text};

fn tools() -> Tools {
    let function = |name| json!({"type": "function", "function": {"name": name}});
    Tools::read(vec![function("add"), function("stop")]).unwrap()
}

/// The complete parts of an answer: reasoning, text and calls.
type Said = (String, String, Vec<Call>);

fn read(mut answer: Answer, pieces: &[&str]) -> Said {
    let mut said = Said::default();
    let told = pieces.iter().flat_map(|piece| answer.push(piece)).collect::<Vec<_>>();
    for piece in told.into_iter().chain(answer.finish()) {
        match piece {
            Piece::Reasoning(text) => said.0 += &text,
            Piece::Text(text) => said.1 += &text,
            Piece::Call(call) => said.2.push(call),
        }
    }
    said
}

/// Parses an answer in one piece, in any two pieces, and character by character, and asserts that
/// the results are equal.
fn said(answer: impl Fn() -> Answer, text: &str) -> Said {
    let whole = read(answer(), &[text]);
    for (at, _) in text.char_indices() {
        assert_eq!(read(answer(), &[&text[..at], &text[at..]]), whole, "{text:?} at {at}");
    }
    let characters: Vec<String> = text.chars().map(String::from).collect();
    let characters: Vec<&str> = characters.iter().map(String::as_str).collect();
    assert_eq!(read(answer(), &characters), whole, "{text:?}");
    whole
}

fn call(name: &str, arguments: &str) -> Call {
    Call { name: name.to_owned(), arguments: arguments.to_owned() }
}

#[test]
fn reasoning_is_told_apart() {
    let plain = || Answer::new(false);
    let open = || Answer::new(true);
    for (text, reasoning, rest) in [
        ("Hello", "", "Hello"),
        (" \n Hello ", "", " \n Hello "),
        ("<think>\nHm. <b>\n</think>\n\nYes. ", "Hm. <b>", "Yes. "),
        ("\n<think></think>a</think>", "", "a</think>"),
        ("<thin", "", "<thin"),
        ("<think>cut </thi", "cut </thi", ""),
        ("a <think>b</think>", "", "a <think>b</think>"),
        ("", "", ""),
    ] {
        assert_eq!(said(plain, text), (reasoning.into(), rest.into(), vec![]), "{text:?}");
    }
    assert_eq!(said(open, "\nSo: ü\n </think> Ö"), ("So: ü".into(), "Ö".into(), vec![]));
    assert_eq!(said(open, "no end"), ("no end".into(), String::new(), vec![]));
}

#[test]
fn tagged_calls_are_found() {
    let answer = || Answer::new(false).with_calls(CallFormat::Tagged, tools(), true);
    let one =
        "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"b\": 1, \"a\": \"ü\"}}\n</tool_call>";
    let added = || call("add", "{\"b\":1,\"a\":\"ü\"}");
    assert_eq!(said(answer, one), (String::new(), String::new(), vec![added()]));
    let text = format!("<think>x</think>Now.\n{one}\n{one}\n");
    assert_eq!(said(answer, &text), ("x".into(), "Now.".into(), vec![added(), added()]));
    // A string can contain the end tag of a call, and the last end tag can be missing.
    let tricky = "<tool_call>{\"name\": \"stop\", \"arguments\": {\"x\": \"</tool_call>\"}}";
    let stopped = call("stop", "{\"x\":\"</tool_call>\"}");
    assert_eq!(said(answer, tricky).2, [stopped]);
    assert_eq!(said(answer, &format!("{tricky}</tool_call> done")).1, "done");
    let first = || Answer::new(false).with_calls(CallFormat::Tagged, tools(), false);
    assert_eq!(said(first, &format!("{one}{tricky}")).2, [added()]);
    for text in [
        "a < b, <tool_cal> ",
        "<tool_call>{\"name\": \"rm\", \"arguments\": {}}</tool_call>",
        "<tool_call>{\"name\": \"add\", \"arguments\": [1]}</tool_call>",
        "<tool_call>{\"name\": \"add\", </tool_call>",
        "<tool_call>",
        "{\"name\": \"add\", \"arguments\": {}}",
    ] {
        assert_eq!(said(answer, text), (String::new(), text.into(), vec![]), "{text:?}");
    }
}

#[test]
fn plain_calls_are_found() {
    for format in [CallFormat::Parameters, CallFormat::Arguments] {
        let answer = || Answer::new(false).with_calls(format, tools(), true);
        let (add, stop) = (|| call("add", "{\"a\":1}"), || call("stop", "{}"));
        for (text, calls) in [
            ("{\"name\": \"add\", \"parameters\": {\"a\": 1}}", vec![add()]),
            ("\n<|python_tag|>{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n", vec![add()]),
            ("{\"type\": \"function\", \"function\": {\"name\": \"stop\"}}", vec![stop()]),
            (
                "{\"name\": \"add\", \"arguments\": \"{\\\"a\\\": 1}\"}; {\"name\": \"stop\"}",
                vec![add(), stop()],
            ),
            (
                "[{\"name\": \"stop\", \"parameters\": {}}, {\"name\": \"add\", \"parameters\": {\"a\": 1}}]",
                vec![stop(), add()],
            ),
        ] {
            assert_eq!(said(answer, text), (String::new(), String::new(), calls), "{text:?}");
        }
        for text in [
            "{\"name\": \"Ada\", \"age\": 36}",
            "{\"name\": \"add\", \"parameters\": {\"a\": 1}} is how.",
            "[]",
            "{",
            "Call {\"name\": \"add\", \"parameters\": {}}",
            "<|python_tag|>add(1)",
            "  ",
        ] {
            assert_eq!(said(answer, text), (String::new(), text.into(), vec![]), "{text:?}");
        }
    }
}

#[test]
fn templates_tell_the_format_of_calls() {
    let format = |source| CallFormat::of_template(Some(source));
    assert_eq!(format("within <tool_call></tool_call> XML tags"), CallFormat::Tagged);
    assert_eq!(format("{'{\"name\": f, \"parameters\": p}'}"), CallFormat::Parameters);
    assert_eq!(format("{{ tools | tojson }}"), CallFormat::Arguments);
    assert_eq!(CallFormat::of_template(None), CallFormat::Arguments);
}

#[test]
fn tools_are_functions_with_names() {
    let wrong = |tool| match Tools::read(vec![
        json!({"type": "function", "function": {"name": "a"}}),
        tool,
    ]) {
        Err(Error::Tool { index: 1, field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(wrong(json!("a")), ".type");
    assert_eq!(wrong(json!({"type": "web_search"})), ".type");
    assert_eq!(wrong(json!({"type": "function", "function": {}})), ".function.name");
    assert_eq!(wrong(json!({"type": "function", "function": {"name": "a"}})), ".function.name");
    let list = json!({"type": "function", "function": {"name": "b", "parameters": []}});
    assert_eq!(wrong(list), ".function.parameters");
    for kind in [json!("string"), json!(["null", "integer"]), json!(1), json!(null)] {
        let parameters = json!({"type": kind});
        let function = json!({"name": "b", "parameters": parameters});
        assert_eq!(
            wrong(json!({"type": "function", "function": function})),
            ".function.parameters"
        );
    }
}

#[test]
fn a_template_without_tools_is_told_of_them() {
    let call = json!([{"id": "1", "type": "function",
        "function": {"name": "add", "arguments": {"a": 1}}}]);
    let messages = [
        Message::new("user", "Add."),
        Message::new("assistant", "").with("tool_calls", call),
        Message::new("tool", "2"),
        Message::new("tool", "3"),
        Message::new("user", "Thanks"),
    ];
    let described = tools().described(&messages);
    let roles: Vec<&str> = described.iter().map(Message::role).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user", "user"]);
    assert!(described[0].text().contains("[{\"name\":\"add\"},{\"name\":\"stop\"}]"));
    assert_eq!(described[2].text(), "{\"name\":\"add\",\"arguments\":{\"a\":1}}");
    assert_eq!(described[3].text(), "The result of the call: 2\nThe result of the call: 3");
    // Without tools there is nothing to describe, and the rest is the same.
    assert_eq!(calls_as_text(&messages), described[1..]);
    let described =
        tools().described(&[Message::new("system", "Be brief."), Message::new("user", "Hi")]);
    assert!(described[0].text().starts_with("Be brief.\n\nYou can call functions."));
    assert_eq!(described.len(), 2);
}
