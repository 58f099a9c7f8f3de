use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::fixture::own_folder;
use crate::trilobite::{command, stdout};

/// A server that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server on a free port. Returns the server, its address and a reader of its further
/// output.
fn serve(args: &[&str]) -> Result<(Server, String, BufReader<ChildStdout>)> {
    let mut command = command(["serve", "--port", "0"]);
    command.env_remove("TRILOBITE_API_KEY").args(args).stdout(Stdio::piped());
    let mut server = Server(command.stderr(Stdio::piped()).spawn()?);
    let mut out = BufReader::new(server.0.stdout.take().context("no stdout")?);
    let mut line = String::new();
    out.read_line(&mut line)?;
    let address = line.strip_prefix("http://").context(line.clone())?.trim_end().to_owned();
    Ok((server, address, out))
}

/// Sends a request, and returns the status line and the JSON of the response.
fn ask(address: &str, method: &str, path: &str, body: &str) -> Result<(String, Value)> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no body")?;
    Ok((head.lines().next().unwrap_or_default().to_owned(), serde_json::from_str(body)?))
}

#[test]
fn it_prints_its_address_answers_and_ends_in_order() -> Result<()> {
    let (mut server, address, mut out) = serve(&[])?;
    let request = r#"{"prompt": "Once upon a time", "max_tokens": 12, "temperature": 0}"#;
    let (status, answer) = ask(&address, "POST", "/v1/completions", request)?;
    ensure!(status == "HTTP/1.1 200 OK", "{status}");
    // The built-in model generates the same text as with `run`.
    let text = stdout(&mut command(["run", "--temp", "0", "-n", "12", "-p", "Once upon a time"]))?;
    assert_eq!(answer["choices"][0]["text"], text.trim_end_matches('\n'));
    assert_eq!(answer["model"], "tinystories");
    #[cfg(unix)]
    {
        Command::new("kill").arg(server.0.id().to_string()).status()?;
        assert_eq!(server.0.wait()?.code(), Some(0));
        let mut rest = String::new();
        out.read_to_string(&mut rest)?;
        assert_eq!(rest, "");
    }
    Ok(())
}

#[test]
fn models_have_the_names_of_their_files_and_folders() -> Result<()> {
    let golden = own_folder().join("llama");
    let file = own_folder().join("../tinystories-dense.gguf");
    let (golden, file) = (golden.display().to_string(), file.display().to_string());
    let args = [&*golden, &file, "--ctx", "64", "--api-key", "k", "--chat-template", "chatml"];
    let (_server, address, _) = serve(&args)?;
    let (status, _) = ask(&address, "GET", "/v1/models", "")?;
    ensure!(status == "HTTP/1.1 401 Unauthorized", "{status}");
    let (_, health) = ask(&address, "GET", "/health", "")?;
    assert_eq!(health["status"], "ok");
    let error = stdout(&mut command(["serve", &golden, &golden, "--port", "0"])).unwrap_err();
    assert!(error.to_string().contains("two models are named \"llama\""), "{error}");
    Ok(())
}

#[test]
fn what_makes_no_sense_is_said() {
    for (args, said) in [
        (
            &["--ctx", "100000"][..],
            "--ctx is 100000, but the model was made for at most 512 tokens",
        ),
        (&["--parallel", "0"], "parallel is 0, expected 1 to 128"),
        (&["--chat-template", "nothing"], "--chat-template: there is no file"),
        (&["/nowhere.gguf"], "/nowhere.gguf"),
    ] {
        let error = stdout(command(["serve", "--port", "0"]).args(args)).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

/// They are refused before a model is loaded.
#[test]
fn unusable_options_are_wrong_usage() {
    for args in [
        ["--parallel", "0"],
        ["--connections", "0"],
        ["--max-tokens", "0"],
        ["--allow-origin", "https://chat.example.org/"],
        ["--allow-origin", "*"],
    ] {
        let mut command = command(["serve", "/nowhere.gguf", "--port", "0"]);
        let output = command.env_remove("TRILOBITE_API_KEY").args(args).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(&format!(" is {}, expected ", args[1])), "{args:?}: {said}");
        assert!(said.starts_with(&format!("error: {} is ", args[0])), "{args:?}: {said}");
    }
    let output = command(["serve", "/nowhere.gguf", "--api-key", ""]).output().unwrap();
    assert_eq!(output.stderr, b"error: --api-key is empty, expected a text\n");
    // An empty variable counts as unset.
    let output = command(["serve", "/nowhere.gguf"]).env("TRILOBITE_API_KEY", "").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("error: /nowhere.gguf"), "{said}");
}

#[cfg(target_os = "linux")]
#[test]
fn the_printed_address_is_answered() -> Result<()> {
    let (_server, address, _) = serve(&["--host", "127.0.0.2"])?;
    let (status, _) = ask(&address, "GET", "/health", "")?;
    ensure!(status == "HTTP/1.1 200 OK", "{status}");
    Ok(())
}

#[test]
fn a_server_reads_what_another_has_computed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path().join("cache").display().to_string();
    let text = "Once upon a time there was a little dog. ".repeat(8);
    let request = json!({"prompt": text, "max_tokens": 8, "temperature": 0}).to_string();
    let mut answers = Vec::new();
    for _ in 0..2 {
        let (mut server, address, _) = serve(&["--prompt-cache", &folder])?;
        let (status, answer) = ask(&address, "POST", "/v1/completions", &request)?;
        ensure!(status == "HTTP/1.1 200 OK", "{status}");
        let cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64();
        answers.push((answer["choices"].clone(), cached));
        #[cfg(unix)]
        Command::new("kill").arg(server.0.id().to_string()).status()?;
        #[cfg(unix)]
        server.0.wait()?;
    }
    assert_eq!(answers[0].0, answers[1].0);
    #[cfg(unix)]
    assert!(answers[0].1 == Some(0) && answers[1].1 >= Some(32), "{answers:?}");
    let args = ["serve", "--port", "0", "--prompt-cache", env!("CARGO_BIN_EXE_trilobite")];
    let error = stdout(&mut command(args)).unwrap_err().to_string();
    assert!(error.contains("cannot write to the folder"), "{error}");
    Ok(())
}
