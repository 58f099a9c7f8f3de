use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;

use super::client::Client;
use super::judge::{Ratings, judged};
use super::*;
use crate::task::Kind;

/// A request as a server sees it: headers in lower case, and the body.
struct Request {
    head: String,
    body: Value,
}

fn receive(stream: &mut TcpStream) -> Request {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        reader.read_line(&mut head).unwrap();
    }
    let head = head.to_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    Request { head, body: serde_json::from_slice(&body).unwrap() }
}

/// A server that sends these replies in order. Each is a status line, headers and a body, or empty
/// to break the connection.
fn serve(replies: Vec<String>) -> (String, Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        for reply in replies {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = sender.send(receive(&mut stream));
            stream.write_all(reply.as_bytes()).unwrap();
        }
    });
    (url, requests)
}

fn reply(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    )
}

fn judgment(text: &str) -> String {
    let body =
        serde_json::json!({"choices": [{"message": {"role": "assistant", "content": text}}]});
    reply("200 OK", "content-type: application/json\r\n", &body.to_string())
}

fn server(url: &str, key: Option<&str>) -> JudgeServer {
    JudgeServer { url: url.into(), model: "judge-1".into(), key: key.map(str::to_owned) }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// The task, its definition, its conversations and the judge's prompts.
fn task() -> (Task, Conversation, Vec<Dialogue>, Ratings) {
    let task = Task::named("mt_bench").unwrap();
    let Kind::Conversation(definition) = task.kind.clone() else { panic!() };
    let items = dialogues(&task, &definition, &folder(), true).unwrap();
    let ratings = Ratings::new(&task, &folder(), true).unwrap();
    (task, definition, items, ratings)
}

fn answered(item: &Dialogue, turns: [&str; 2]) -> AnsweredDialogue {
    let choice = AnswerSet { index: 0, turns: turns.map(str::to_owned).into() };
    AnsweredDialogue {
        id: item.id.clone(),
        prompt_sha256: String::new(),
        question_id: item.question_id,
        answer_id: String::new(),
        model_id: "model-1".into(),
        choices: vec![choice],
        tstamp: 0.0,
    }
}

#[test]
fn temperatures_go_by_category() {
    let (_, definition, items, _) = task();
    let found: Vec<_> = items.iter().map(|item| (item.id.as_str(), item.temperature)).collect();
    assert_eq!(found, [("901", 0.7), ("902", 0.0)]);
    let all: Vec<_> = definition.temperatures.iter().map(|(c, t)| (c.as_str(), *t)).collect();
    assert_eq!(
        all,
        [
            ("coding", 0.0),
            ("extraction", 0.0),
            ("humanities", 0.1),
            ("math", 0.0),
            ("reasoning", 0.0),
            ("roleplay", 0.7),
            ("stem", 0.1),
            ("writing", 0.7),
        ]
    );
    assert_eq!(definition.max_tokens, 1024);
}

#[test]
fn the_second_question_follows_the_first_answer() {
    let messages = ["one", "two", "three"].map(|text| Message::new("user", text));
    assert_eq!(plain(&messages[..1]), "one\n\n");
    assert_eq!(plain(&messages), "one\n\ntwo\n\nthree\n\n");
}

#[test]
fn a_judge_sees_questions_answers_and_references() {
    let (_, definition, items, ratings) = task();
    let prompt = |item: usize, turn| {
        let answer = answered(&items[item], ["A{question}", "B"]);
        ratings.prompt(&definition, &items[item], &answer, turn).unwrap()
    };
    let own = |texts: (&str, &str, &str)| (texts.0.into(), texts.1.into(), texts.2.into());
    let first = "Rate it.\n[Q] Write a line about {answer} in a garden.\n[A] A{question}";
    assert_eq!(prompt(0, 0), own(("single-v1", "Help.", first)));
    let second = "Write a line about {answer} in a garden.|A{question}|Make it shorter.|B";
    assert_eq!(prompt(0, 1), own(("single-v1-multi-turn", "Rate the second.", second)));
    let first = "Rate it.\n[Q] What is 3 times 4?\n[R] It is 12.\n[A] A{question}";
    assert_eq!(prompt(1, 0), own(("single-math-v1", "Help.", first)));
    let second = "What is 3 times 4?|It is 12.|And that times 2?|It is 24.||\
                  What is 3 times 4?|A{question}|And that times 2?|B";
    assert_eq!(prompt(1, 1), own(("single-math-v1-multi-turn", "Rate the second.", second)));
}

#[test]
fn ratings_are_found_in_judgments() {
    let (.., ratings) = task();
    for (judgment, rating) in [
        ("Good. Rating: [[7]]", Some(7.0)),
        ("[[6.5]] or rather [[8]]", Some(6.5)),
        ("I say [5] ... [[9]]", Some(9.0)),
        ("Rating: [4]", Some(4.0)),
        ("[[10]]", Some(10.0)),
        ("[[1.]]", Some(1.0)),
        // No ratings on a scale from 1 to 10.
        ("[[0]]", None),
        ("[[0.9]]", None),
        ("[[10.5]]", None),
        ("[[100]] or [[7]]", None),
        ("[[-3]]", None),
        ("[[inf]]", None),
        ("[[nan]]", None),
        (&format!("[[{}]]", "9".repeat(400)), None),
        ("Rating: [[rating]]", None),
        ("Rating: 7", None),
        ("", None),
    ] {
        assert_eq!(ratings.rating(judgment), rating, "{judgment}");
    }
}

#[test]
fn a_busy_server_is_asked_again() {
    let wait = "retry-after: 0\r\n";
    let (url, requests) = serve(vec![
        String::new(),
        reply("429 Too Many Requests", wait, "slow down"),
        reply("503 Service Unavailable", wait, ""),
        judgment("Fine. [[8]]"),
    ]);
    let server = server(&format!("{url}/chat/completions"), Some("k-1"));
    let text = Client::new(&server).ask("Help.", "Rate \"it\".").unwrap();
    assert_eq!(text, "Fine. [[8]]");
    let all: Vec<Request> = requests.iter().collect();
    assert_eq!(all.len(), 4);
    for request in all {
        assert!(request.head.starts_with("post /v1/chat/completions http/1.1\r\n"));
        assert!(request.head.contains("authorization: bearer k-1\r\n"));
        let expected = serde_json::json!({
            "model": "judge-1", "n": 1, "temperature": 0, "max_tokens": 2048,
            "messages": [
                {"role": "system", "content": "Help."},
                {"role": "user", "content": "Rate \"it\"."},
            ],
        });
        assert_eq!(request.body, expected);
    }
}

#[test]
fn a_refusal_is_an_error() {
    for (reply, expected) in [
        (reply("401 Unauthorized", "", "no key"), "/v1/chat/completions: status 401: no key"),
        (reply("200 OK", "", "{\"choices\":[]}"), "no choices[0].message.content in {\"choices\""),
        (reply("200 OK", "", "<html>"), "no choices[0].message.content in <html>"),
    ] {
        let (url, requests) = serve(vec![reply]);
        let error = Client::new(&server(&url, None)).ask("", "").unwrap_err().to_string();
        assert!(error.contains(expected) && error.starts_with("http://127"), "{error}");
        assert!(!requests.recv().unwrap().head.contains("authorization"));
    }
    let error = Client::new(&server("not a url", None)).ask("", "").unwrap_err().to_string();
    assert!(error.starts_with("not a url/chat/completions: "), "{error}");
}

/// Judgments are reused, unrated ones are ignored, and a different answer is judged again.
#[test]
fn judgments_are_kept() {
    let (task, definition, items, ratings) = task();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("judgments.jsonl");
    let judge = |second: &str, replies: &[&str]| {
        let (url, requests) = serve(replies.iter().map(|text| judgment(text)).collect());
        let held: Vec<_> = items.iter().map(|item| (item, answered(item, ["A", second]))).collect();
        let server = server(&url, None);
        let mut proceed = |_, _| true;
        let metrics =
            judged(&ratings, (&task, &definition), &held, &server, &path, &mut proceed).unwrap();
        (metrics, requests.iter().count())
    };
    let (metrics, asked) = judge("B", &["[[4]]", "[[6]]", "none", "[[9]]"]);
    assert_eq!(asked, 4);
    let value = |name: &str| metrics.get(name).map(|metric| metric.value);
    assert_eq!(value("rating"), Some(19.0 / 3.0));
    assert_eq!((value("rating_turn_1"), value("rating_turn_2")), (Some(4.0), Some(7.5)));
    assert_eq!((value("rating_writing"), value("rating_math")), (Some(5.0), Some(9.0)));
    assert_eq!(value("unrated"), Some(1.0));

    // The state that a killed run leaves.
    let text = std::fs::read_to_string(&path).unwrap();
    let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(line["judge"], serde_json::json!(["judge-1", "single-v1"]));
    let fields = (&line["question_id"], &line["model"], &line["turn"], &line["score"]);
    assert_eq!(serde_json::json!(fields), serde_json::json!([901, "model-1", 1, 4.0]));
    std::fs::write(&path, &text[..text.len() - 5]).unwrap();
    let (again, asked) = judge("B", &["[[9]]"]);
    assert_eq!((again["rating"].value, asked), (19.0 / 3.0, 1));
    let (_, asked) = judge("C", &["[[1]]", "[[1]]"]);
    assert_eq!(asked, 2);

    // An infinite score is written as null and found again in the text. A line that is `null`
    // contains no judgment.
    let text = std::fs::read_to_string(&path).unwrap();
    let without: String = text
        .lines()
        .map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            line["score"] = Value::Null;
            format!("{line}\nnull\n")
        })
        .collect();
    std::fs::write(&path, without).unwrap();
    let (scoreless, asked) = judge("C", &[]);
    assert_eq!((&scoreless, asked), (&judge("C", &[]).0, 0));
    std::fs::write(&path, &text).unwrap();
    assert_eq!(judge("C", &[]).0, scoreless);

    std::fs::write(&path, "{}\n").unwrap();
    let (held, server) = ([(&items[0], answered(&items[0], ["", ""]))], server("http://x", None));
    let error = judged(&ratings, (&task, &definition), &held, &server, &path, &mut |_, _| true)
        .unwrap_err();
    assert!(error.to_string().contains("judgments.jsonl line 1: not a judgment"), "{error}");
}

#[test]
fn faulty_conversations_are_named() {
    let (task, definition, ..) = task();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mt_bench/question.jsonl");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    for (line, expected) in [
        (r#"{"question_id": 1, "category": "art", "turns": ["a", "b"]}"#, "\"art\" is none of"),
        (r#"{"question_id": 1, "category": "math", "turns": ["a"]}"#, "\"turns\" is not a list"),
        (r#"{"category": "math", "turns": ["a", "b"]}"#, "\"question_id\" is not a whole"),
        (r#"{"question_id": 1, "turns": ["a", "b"]}"#, "category"),
    ] {
        std::fs::write(&path, format!("\n{line}\n")).unwrap();
        let error = dialogues(&task, &definition, folder.path(), true).unwrap_err().to_string();
        assert!(error.contains("question.jsonl line 2") && error.contains(expected), "{error}");
    }
}

/// With the original data in `TRILOBITE_EVALDATA`: every question has its prompts.
#[test]
#[ignore = "needs TRILOBITE_EVALDATA, a folder of the original data sets"]
fn the_original_data_are_complete() {
    let folder = std::env::var("TRILOBITE_EVALDATA").expect("TRILOBITE_EVALDATA");
    let (task, definition, ..) = task();
    let folder = Path::new(&folder);
    let items = dialogues(&task, &definition, folder, false).unwrap();
    assert_eq!(items.len(), task.items);
    let ratings = Ratings::new(&task, folder, false).unwrap();
    let mut names = std::collections::BTreeMap::<String, usize>::new();
    for item in &items {
        for turn in 0..TURNS {
            let answer = answered(item, ["first answer", "second answer"]);
            let (name, _, prompt) = ratings.prompt(&definition, item, &answer, turn).unwrap();
            assert!(prompt.contains(&item.turns[turn]) && prompt.contains("first answer"));
            *names.entry(name).or_default() += 1;
        }
    }
    let counts: Vec<_> = names.into_values().collect();
    // single-math-v1, its second turn, single-v1, its second turn
    assert_eq!(counts, [30, 30, 50, 50]);
}
