use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use trilobite_server::Options;

use crate::client::{JSON, get, post, receive, send};
use crate::fixture::{Running, model, options};

const PATH: &str = "/v1/completions";
const RUNNING: &str = "trilobite_running_sequences";
const QUEUED: &str = "trilobite_queued_prompts";

/// A stream of more bytes than the sockets hold, which cannot end unless it is read.
pub(crate) fn long_stream(server: &Running) -> TcpStream {
    // No choice ends early, because the end-of-text token is never chosen.
    let end = model("llama_bitnet_online").tokenizer().unwrap().id("</s>").unwrap().to_string();
    let request = json!({"prompt": "a", "max_tokens": 500, "n": 16, "stream": true, "seed": 1,
        "logprobs": 20, "temperature": 1, "logit_bias": {end: -100}});
    send(server.address, "POST", PATH, &[JSON], request.to_string().as_bytes())
}

#[test]
fn a_full_queue_refuses_until_a_client_leaves() {
    let server = Running::new(Options { parallel: 1, queue: 1, ..options() });
    let stream = long_stream(&server);
    server.wait_for(RUNNING, |running| running == 16.0);
    let request = json!({"prompt": "b", "max_tokens": 3, "temperature": 0});
    let waiting = send(server.address, "POST", PATH, &[JSON], request.to_string().as_bytes());
    server.wait_for(QUEUED, |queued| queued == 1.0);
    let refused = post(server.address, PATH, &request);
    assert_eq!(refused.error(429)["code"], "queue_full");
    assert_eq!(refused.header("retry-after"), Some("1"));
    drop(stream);
    receive(waiting).ok();
    server.wait_for(RUNNING, |running| running == 0.0);
}

#[test]
fn a_client_that_waits_for_a_whole_answer_and_leaves_makes_room() {
    let server = Running::new(Options { parallel: 1, ..options() });
    let stream = long_stream(&server);
    server.wait_for(RUNNING, |running| running == 16.0);
    let request = json!({"prompt": "b", "max_tokens": 3}).to_string();
    let waiting = send(server.address, "POST", PATH, &[JSON], request.as_bytes());
    server.wait_for(QUEUED, |queued| queued == 1.0);
    drop(waiting);
    server.wait_for(QUEUED, |queued| queued == 0.0);
    drop(stream);
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let server = Running::new(Options {
        parallel: 1,
        write_timeout: Duration::from_millis(20),
        ..options()
    });
    let stream = long_stream(&server);
    server.wait_for("trilobite_cancelled_total", |cancelled| cancelled > 0.0);
    server.wait_for(RUNNING, |running| running == 0.0);
    post(server.address, PATH, &json!({"prompt": "b", "max_tokens": 3})).ok();
    // The received stream has no end marker.
    let reply = receive(stream);
    assert!(!reply.text().contains("[DONE]"));
}

#[test]
fn an_ending_server_finishes_what_it_has_begun() {
    let server = Running::new(options());
    let address = server.address;
    let mut reader = BufReader::new(long_stream(&server));
    let mut line = String::new();
    while !line.starts_with("data: ") {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
    server.stopper.stop();
    let client = std::thread::spawn(move || {
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        rest
    });
    server.join().unwrap();
    assert!(client.join().unwrap().contains("data: [DONE]"));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn an_ending_server_breaks_off_what_takes_too_long() {
    let server = Running::new(Options { grace: Duration::from_millis(20), ..options() });
    let stream = long_stream(&server);
    server.wait_for(RUNNING, |running| running == 16.0);
    server.stopper.stop();
    server.join().unwrap();
    assert!(!receive(stream).text().contains("[DONE]"));
}

#[test]
fn a_request_that_takes_too_long_is_ended() {
    let server = Running::new(Options { request_time: Duration::ZERO, ..options() });
    let request = json!({"prompt": "b", "max_tokens": 3});
    assert_eq!(post(server.address, PATH, &request).error(504)["code"], "timeout");
    let request = json!({"prompt": "b", "max_tokens": 3, "stream": true});
    let reply = post(server.address, PATH, &request);
    let event = reply.text().strip_prefix("data: ").unwrap();
    let event: Value = serde_json::from_str(event.trim_end()).unwrap();
    assert_eq!(event["error"]["code"], "timeout");
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let server = Running::new(Options { body_time: Duration::from_millis(20), ..options() });
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
    );
    std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    receive(stream).error(408);
}

#[test]
fn the_limit_of_tokens_is_kept() {
    let server = Running::new(Options { max_tokens: Some(5), ..options() });
    let request = json!({"prompt": "b", "max_tokens": 6});
    assert_eq!(post(server.address, PATH, &request).error(400)["param"], "max_tokens");
    let chat = json!({"messages": [{"role": "user", "content": "a"}], "temperature": 0});
    let text = json!({"prompt": "b", "temperature": 0});
    for (path, request) in [("/v1/chat/completions", chat), (PATH, text)] {
        let answer = post(server.address, path, &request).ok();
        assert!(answer["usage"]["completion_tokens"].as_u64().unwrap() <= 5);
    }
    assert_eq!(get(server.address, "/health").status, 200);
}

#[test]
fn servers_that_could_not_answer_do_not_start() {
    use trilobite_server::{ServedModel, Server};
    let served = || ServedModel::new("a", model("llama_bitnet_online")).unwrap();
    let error = |models, options| Server::bind(models, options).err().unwrap().to_string();
    assert_eq!(error(vec![], options()), "there is no model to serve");
    let twice = error(vec![served(), served()], options());
    assert!(twice.starts_with("two models are named \"a\""));
    let none = error(vec![served()], Options { parallel: 0, ..options() });
    assert_eq!(none, "parallel is 0, expected 1 to 128");
    let none = error(vec![served()], Options { connections: 0, ..options() });
    assert_eq!(none, "connections is 0, expected at least 1");
    let empty = Options { api_key: Some(String::new()), ..options() };
    assert_eq!(error(vec![served()], empty), "the API key is empty, expected a text");
    let server = Running::new(options());
    let taken = error(vec![served()], Options { address: server.address, ..options() });
    assert_eq!(taken, format!("cannot listen on {}", server.address));
}
