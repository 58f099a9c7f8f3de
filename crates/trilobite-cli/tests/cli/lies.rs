//! Tests of servers that send other data than the file, or a part of it as the whole.

use std::path::Path;

use crate::fixture::Fixture;
use crate::pull::{FILE, MODEL, content, fails, fetched, hash, left, pull};
use crate::server::{Answer, Request, Server};
#[cfg(unix)]
use crate::trilobite::after;
use crate::trilobite::{command, stdout};

/// The text of Git LFS in place of a large file.
const POINTER: &str = "version https://git-lfs.github.com/spec/v1\n\
                       oid sha256:0000000000000000000000000000000000000000000000000000000000000000\n\
                       size 1180000000\n";
const PAGE: &str =
    "\n<!DOCTYPE html>\n<html><body>Please log in to the hotel's network</body></html>";
const GZIP: &[u8] =
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00";

/// A listed model whose files are those of the checkpoint `qwen2`.
const CHECKPOINT: &str = "qwen2.5-1.5b-instruct";

fn checkpoint_file(request: &Request) -> Vec<u8> {
    let name = request.path.rsplit('/').next().unwrap();
    std::fs::read(Fixture::named("qwen2").folder.join(name)).unwrap()
}

/// The names in a model's folder, except those of complete files.
fn left_of(home: &Path, model: &str) -> Vec<String> {
    let folder = std::fs::read_dir(home.join("models").join(model)).unwrap();
    folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A server that breaks the first connection, then answers every request for a range with `lie`,
/// and all others correctly.
fn liar(lie: impl Fn(usize, &[u8]) -> Answer + Send + 'static) -> Server {
    Server::new(move |request| match (request.number, request.start()) {
        (0, _) => Answer::file(&content()).header("ETag", "\"v1\"").cut(300_000),
        (_, Some(start)) => lie(start, &content()),
        (_, None) => Answer::file(&content()).header("ETag", "\"v1\""),
    })
}

#[test]
fn a_wrong_part_is_not_added() {
    let range = |start: usize, end: usize, total: usize| format!("bytes {start}-{end}/{total}");
    let part = |status: &str, bytes: &[u8]| Answer::with(status, bytes).header("ETag", "\"v1\"");
    type Lie = Box<dyn Fn(usize, &[u8]) -> Answer + Send>;
    let lies: Vec<(&str, Lie)> = vec![
        (
            "the rest as 200, with its range",
            Box::new(move |start, all| {
                let range = range(start, all.len() - 1, all.len());
                part("200 OK", &all[start..]).header("Content-Range", &range)
            }),
        ),
        ("the rest as 200", Box::new(move |start, all| part("200 OK", &all[start..]))),
        (
            "another beginning",
            Box::new(move |start, all| {
                let range = range(start - 10, all.len() - 1, all.len());
                part("206 Partial Content", &all[start - 10..]).header("Content-Range", &range)
            }),
        ),
        (
            "another size",
            Box::new(move |start, all| {
                let range = range(start, all.len() - 1, all.len() + 10);
                part("206 Partial Content", &all[start..]).header("Content-Range", &range)
            }),
        ),
        (
            "a longer part than its range",
            Box::new(move |start, all| {
                let range = range(start, start + 9, all.len());
                part("206 Partial Content", &all[start..]).header("Content-Range", &range)
            }),
        ),
        (
            "a range beyond the end",
            Box::new(move |start, all| {
                let range = range(start, all.len(), all.len());
                part("206 Partial Content", &all[start..]).header("Content-Range", &range)
            }),
        ),
        ("no range", Box::new(move |start, all| part("206 Partial Content", &all[start..]))),
        (
            "nothing left",
            Box::new(move |_, all| {
                let range = format!("bytes */{}", all.len());
                part("416 Range Not Satisfiable", b"").header("Content-Range", &range)
            }),
        ),
    ];
    for (name, lie) in lies {
        let server = liar(lie);
        let home = tempfile::tempdir().unwrap();
        stdout(&mut pull(&server, home.path(), &[MODEL])).unwrap();
        assert!(fetched(home.path()) == content(), "{name}");
        let starts: Vec<_> = server.requests().iter().map(Request::start).collect();
        assert_eq!(starts, [None, Some(300_000), None], "{name}");
    }
}

#[test]
fn a_server_that_always_sends_the_rest_is_refused() {
    // It sends the missing part in response to a request for the whole file, too.
    let server = Server::new(|request| match request.number {
        0 => Answer::file(&content()).cut(300_000),
        _ => Answer::file(&content()[300_000..]),
    });
    let home = tempfile::tempdir().unwrap();
    let said = fails(&mut pull(&server, home.path(), &[MODEL]));
    let (whole, rest) = (content().len(), content().len() - 300_000);
    assert!(said.contains(&format!("it announces {rest} bytes, {whole} at first")), "{said}");
    assert_eq!(left(home.path()), Vec::<String>::new());
    // Its first response is a part.
    let server = Server::new(|_| {
        let range = format!("bytes 10-{}/{}", content().len() - 1, content().len());
        Answer::file(&content()[10..]).header("Content-Range", &range)
    });
    let said = fails(&mut pull(&server, home.path(), &[MODEL]));
    assert!(said.contains("it sends a part as the whole"), "{said}");
    assert_eq!(left(home.path()), Vec::<String>::new());
}

#[test]
fn what_is_not_the_file_does_not_get_its_name() {
    let cut = content()[..500_000].to_vec();
    for (body, expected) in [
        (&b""[..], "it is empty"),
        (PAGE.as_bytes(), "it is a web page"),
        (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>", "an XML document"),
        (POINTER.as_bytes(), "it is a Git LFS pointer"),
        (GZIP, "it is compressed (gz)"),
        (b"Not found", "not a GGUF file"),
        (b"GGUF", "it ends at byte 4"),
        (&[0; 1000], "not a GGUF file"),
        (&cut, "it has 500000 bytes, its header asks for"),
        (&[content(), vec![0; 2 << 20]].concat(), "its header asks for"),
    ] {
        let answer = body.to_vec();
        let server = Server::new(move |_| Answer::file(&answer));
        let home = tempfile::tempdir().unwrap();
        let said = fails(&mut pull(&server, home.path(), &[MODEL]));
        assert!(said.contains(expected) && said.contains(FILE), "{expected}: {said}");
        assert!(said.ends_with("it was removed"), "{said}");
        assert_eq!(left(home.path()), Vec::<String>::new(), "{expected}");
        assert_eq!(server.requests().len(), 1, "{expected}");
    }
}

#[test]
fn every_file_of_a_checkpoint_is_looked_at() {
    let folder = Fixture::named("qwen2").folder;
    let weights = std::fs::read(folder.join("model.safetensors")).unwrap();
    let tokenizer = std::fs::read(folder.join("tokenizer.json")).unwrap();
    let cases = [
        ("model.safetensors", b"".to_vec(), "it is empty"),
        ("model.safetensors", PAGE.into(), "it is a web page"),
        ("model.safetensors", POINTER.into(), "it is a Git LFS pointer"),
        ("model.safetensors", GZIP.to_vec(), "it is compressed"),
        ("model.safetensors", vec![0xff; 100], "it is no safetensors file"),
        ("model.safetensors", weights[..weights.len() - 1].to_vec(), "its header asks for"),
        ("model.safetensors", weights[..100].to_vec(), "it ends at byte 100"),
        ("model.safetensors", [&weights[..], &[0]].concat(), "its header asks for"),
        ("config.json", b"".to_vec(), "it is empty"),
        ("config.json", PAGE.into(), "it is a web page"),
        ("config.json", b"{}}".to_vec(), "it is no JSON"),
        ("tokenizer.json", POINTER.into(), "it is a Git LFS pointer"),
        ("tokenizer.json", GZIP.to_vec(), "it is compressed"),
        ("tokenizer.json", tokenizer[..tokenizer.len() / 2].to_vec(), "it is no JSON: EOF"),
        ("tokenizer_config.json", b"Internal error".to_vec(), "it is no JSON object"),
    ];
    for (name, body, expected) in cases {
        let server = Server::new(move |request| match request.path.ends_with(name) {
            true => Answer::file(&body),
            false => Answer::file(&checkpoint_file(request)),
        });
        let home = tempfile::tempdir().unwrap();
        let said = fails(&mut pull(&server, home.path(), &[CHECKPOINT]));
        assert!(said.contains(expected) && said.contains(name), "{name}: {expected}: {said}");
        let left = left_of(home.path(), CHECKPOINT);
        assert!(!left.iter().any(|file| file.starts_with(name)), "{name}: {left:?}");
        // Another command does not accept it as a model.
        let run = fails(command(["inspect", CHECKPOINT]).env("TRILOBITE_HOME", home.path()));
        assert!(run.contains("it has not been pulled"), "{run}");
    }
    let server = Server::new(|request| Answer::file(&checkpoint_file(request)));
    let home = tempfile::tempdir().unwrap();
    stdout(&mut pull(&server, home.path(), &[CHECKPOINT])).unwrap();
}

#[test]
fn bodies_that_never_end_are_left() {
    for (name, answer) in [
        ("without a length", Answer::file as fn(&[u8]) -> Answer),
        ("with an absurd one", |bytes| {
            Answer::file(bytes).header("Content-Length", &(1_u64 << 50).to_string())
        }),
    ] {
        let server = Server::new(move |_| {
            let answer = answer(&content()).endless();
            if name == "without a length" { answer.without("Content-Length") } else { answer }
        });
        let home = tempfile::tempdir().unwrap();
        let said = fails(&mut pull(&server, home.path(), &[MODEL]));
        assert!(said.contains("bytes came") || said.contains("its header asks for"), "{said}");
        assert_eq!(left(home.path()), Vec::<String>::new(), "{name}");
    }
    let server = Server::new(|request| match request.path.ends_with("model.safetensors") {
        true => Answer::file(&checkpoint_file(request)).without("Content-Length").endless(),
        false => Answer::file(&checkpoint_file(request)),
    });
    let home = tempfile::tempdir().unwrap();
    let said = fails(&mut pull(&server, home.path(), &[CHECKPOINT]));
    assert!(said.contains("bytes came; it was removed"), "{said}");
    // JSON files have a maximum size.
    let server = Server::new(|_| Answer::file(b"{").header("Content-Length", "1000000000000"));
    let said = fails(&mut pull(&server, home.path(), &["smollm2-135m-instruct"]));
    assert!(said.contains("has 1000000000000 bytes, at most"), "{said}");
}

#[test]
fn bodies_without_a_length_are_whole_by_their_own_header() {
    for chunked in [true, false] {
        let server = Server::new(move |request| {
            let answer = Answer::file(&checkpoint_file(request)).header("ETag", "\"v1\"");
            let answer = if chunked { answer.chunked() } else { answer.without("Content-Length") };
            // The first response ends early without an error.
            let first = request.path.ends_with("model.safetensors") && request.start().is_none();
            match (first, request.start()) {
                (true, _) => answer.cut(100_500),
                (_, Some(_)) => Answer::range(request, &checkpoint_file(request)),
                _ => answer,
            }
        });
        let home = tempfile::tempdir().unwrap();
        stdout(&mut pull(&server, home.path(), &[CHECKPOINT])).unwrap();
        let name = "model.safetensors";
        let expected = std::fs::read(Fixture::named("qwen2").folder.join(name)).unwrap();
        let file = home.path().join("models").join(CHECKPOINT).join(name);
        assert!(std::fs::read(file).unwrap() == expected, "{chunked}");
    }
}

#[test]
fn a_body_in_another_coding_is_refused() {
    let server = Server::new(|_| Answer::file(GZIP).header("Content-Encoding", "gzip"));
    let home = tempfile::tempdir().unwrap();
    let said = fails(&mut pull(&server, home.path(), &[MODEL]));
    assert!(said.contains("the server sends it compressed (\"gzip\"), unasked"), "{said}");
    assert_eq!(server.requests()[0].headers["accept-encoding"], "identity");
    assert_eq!(left(home.path()), Vec::<String>::new());
    let server = Server::new(|_| Answer::file(&content()).header("Content-Encoding", "identity"));
    stdout(&mut pull(&server, home.path(), &[MODEL])).unwrap();
}

#[test]
fn a_redirect_to_a_login_page_is_no_file() {
    let portal = Server::new(|_| Answer::file(PAGE.as_bytes()).header("Content-Type", "text/html"));
    let to = format!("{}/login", portal.url);
    let hub = Server::new(move |_| Answer::status("302 Found").header("Location", &to));
    let home = tempfile::tempdir().unwrap();
    let said = fails(&mut pull(&hub, home.path(), &[MODEL]));
    assert!(said.contains("it is a web page"), "{said}");
    // The same for the list of a model's files.
    let said = fails(&mut pull(&hub, home.path(), &["smollm2-135m-instruct"]));
    assert!(said.contains("it is a web page"), "{said}");
    // The tasks pin hashes of their data. The error names the web page, not the hash.
    let said = fails(&mut pull(&hub, home.path(), &["--data", "boolq"]));
    assert!(said.contains("it is a web page"), "{said}");
}

#[test]
fn the_size_that_the_hub_states_is_that_of_the_file() {
    let stated = content().len() + 1;
    let server = Server::new(move |request| {
        Answer::range(request, &content()).header("X-Linked-Size", &stated.to_string())
    });
    let home = tempfile::tempdir().unwrap();
    let said = fails(&mut pull(&server, home.path(), &[MODEL]));
    let expected = format!("it announces {} bytes of a file of {stated}", content().len());
    assert!(said.contains(&expected), "{said}");
    assert_eq!(left(home.path()), Vec::<String>::new());
}

#[test]
fn a_header_without_end_is_no_answer() {
    let server = Server::new(|_| Answer::status("200 OK").header("X-Long", &"x".repeat(100_000)));
    let home = tempfile::tempdir().unwrap();
    let said = fails(&mut pull(&server, home.path(), &[MODEL]));
    assert!(said.contains("no answer from 127.0.0.1"), "{said}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn nobody_there_is_said_once_and_at_once() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let home = tempfile::tempdir().unwrap();
    let server = Server::new(|_| Answer::status("404 Not Found"));
    for args in [&[MODEL][..], &["smollm2-135m-instruct"], &["--data", "all"]] {
        let mut command = pull(&server, home.path(), args);
        let endpoint = format!("http://127.0.0.1:{port}");
        command.env("HF_ENDPOINT", &endpoint).env("TRILOBITE_DATA_ENDPOINT", &endpoint);
        let said = String::from_utf8(command.output().unwrap().stderr).unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(&format!("no answer from 127.0.0.1:{port}")), "{said}");
        assert!(said.contains(&endpoint) && said.contains("refused"), "{said}");
    }
    assert_eq!(left(home.path()), Vec::<String>::new());
}

#[test]
fn what_a_killed_process_left_is_gone_on_with_or_begun_again() {
    let folder = |home: &Path| {
        let folder = home.join("models").join(MODEL);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    };
    let note = |tag: &str| format!("{{\"tag\": {tag}, \"total\": {}}}", content().len());
    for (partial, note, expected) in [
        // An unchanged file is continued.
        (content()[..400_000].to_vec(), note("\"\\\"v1\\\"\""), Some(400_000)),
        // The version of the part is unknown.
        (content()[..400_000].to_vec(), note("null"), None),
        (b"anything".to_vec(), "{".to_owned(), None),
        (b"anything".to_vec(), String::new(), None),
    ] {
        let server =
            Server::new(|request| Answer::range(request, &content()).header("ETag", "\"v1\""));
        let home = tempfile::tempdir().unwrap();
        let folder = folder(home.path());
        std::fs::write(folder.join(format!("{FILE}.partial")), partial).unwrap();
        std::fs::write(folder.join(format!("{FILE}.partial.json")), note).unwrap();
        stdout(&mut pull(&server, home.path(), &[MODEL])).unwrap();
        assert!(fetched(home.path()) == content());
        assert_eq!(server.requests()[0].start(), expected);
        assert_eq!(left(home.path()), [FILE, "pulled.json"]);
    }
}

#[test]
fn a_mirror_of_pointers_is_not_copied() {
    let mirror = tempfile::tempdir().unwrap();
    std::fs::write(mirror.path().join(FILE), POINTER).unwrap();
    let home = tempfile::tempdir().unwrap();
    let server = Server::new(|_| Answer::status("404 Not Found"));
    let from = mirror.path().to_str().unwrap();
    let said = fails(&mut pull(&server, home.path(), &[MODEL, "--from", from]));
    assert!(said.contains("Git LFS pointer") && said.contains(from), "{said}");
    assert_eq!(left(home.path()), Vec::<String>::new());
}

#[test]
fn what_was_pulled_without_a_look_is_fetched_again() {
    let server = Server::new(|request| Answer::range(request, &content()));
    let home = tempfile::tempdir().unwrap();
    stdout(&mut pull(&server, home.path(), &[MODEL])).unwrap();
    let folder = home.path().join("models").join(MODEL);
    // An empty file that the record lists as the model.
    let record = folder.join("pulled.json");
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, text.replace(&hash(&content()), &hash(b""))).unwrap();
    std::fs::write(folder.join(FILE), b"").unwrap();
    // Until it is fetched, it is not a model.
    let other = Server::new(|_| Answer::status("404 Not Found"));
    fails(&mut pull(&other, home.path(), &[MODEL]));
    let said = fails(command(["inspect", MODEL]).env("TRILOBITE_HOME", home.path()));
    assert!(said.contains("it has not been pulled"), "{said}");
    stdout(&mut pull(&server, home.path(), &[MODEL])).unwrap();
    assert!(fetched(home.path()) == content());
}

#[test]
#[cfg(unix)]
fn files_have_the_permissions_of_new_ones() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::new(|request| Answer::range(request, &content()));
    for (umask, expected) in [("022", 0o644), ("027", 0o640)] {
        let home = tempfile::tempdir().unwrap();
        let out = home.path().join("out.npy");
        let mut logits = command(["logits", "--tokens", "1", "-o"]);
        logits.arg(&out);
        for ordinary in [pull(&server, home.path(), &[MODEL]), logits] {
            stdout(&mut after(&format!("umask {umask}"), &ordinary)).unwrap();
        }
        let folder = home.path().join("models").join(MODEL);
        for file in [out, folder.join(FILE), folder.join("pulled.json")] {
            let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, expected, "{}", file.display());
        }
    }
}

#[test]
fn the_hubs_spelling_of_a_name_will_do() {
    let server = Server::new(|request| Answer::range(request, &content()));
    let home = tempfile::tempdir().unwrap();
    for name in ["microsoft/bitnet-b1.58-2B-4T-gguf", "BitNet-b1.58-2B-4T-GGUF"] {
        let folder = stdout(&mut pull(&server, home.path(), &[name])).unwrap();
        assert_eq!(Path::new(folder.trim()), home.path().join("models").join(MODEL));
    }
    let with_home = |args: &[&str]| {
        let mut command = command(args);
        command.env("TRILOBITE_HOME", home.path()).current_dir(home.path());
        command
    };
    // The model is pulled but cannot be run; the error names its file.
    let said = fails(&mut with_home(&["inspect", "Microsoft/bitnet-b1.58-2B-4T-gguf"]));
    assert!(said.contains("metadata key"), "{said}");
    for (name, expected) in [
        ("bitnet-b1.58-2B-4T", "`trilobite pull bitnet-b1.58-2b-4t` fetches it"),
        ("bitnet-b158-2B-4Tt", "did you mean bitnet-b1.58-2b-4t? `trilobite pull"),
        ("nothing.gguf", "there is no such file or folder, and no model of that name"),
    ] {
        let said = fails(&mut with_home(&["run", name, "-p", "x"]));
        assert!(said.contains(expected) && said.contains(name), "{said}");
    }
    let refused = pull(&server, home.path(), &["--data", "helaswag"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("no task \"helaswag\"; did you mean hellaswag?"), "{said}");
    let said = fails(&mut pull(&server, home.path(), &["smolm2-135m-instruct"]));
    assert!(said.contains("did you mean smollm2-135m-instruct?"), "{said}");
}
