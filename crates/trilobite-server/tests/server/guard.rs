use std::io::{Read, Write};
#[cfg(target_os = "linux")]
use std::net::SocketAddr;
use std::net::TcpStream;

use serde_json::json;
use trilobite_server::Options;

use crate::client::{JSON, Reply, get, receive, send};
use crate::fixture::{Running, options};

fn ask(server: &Running, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
    let body = json!({"prompt": "a", "max_tokens": 1}).to_string();
    let body = if method == "POST" { body.as_bytes() } else { b"" };
    receive(send(server.address, method, path, headers, body))
}

#[test]
fn a_key_is_asked_for() {
    let server = Running::new(Options { api_key: Some("secret".to_owned()), ..options() });
    let path = "/v1/completions";
    for wrong in
        ["Bearer wrong", "Bearer secret2", "Bearer secre", "Bearer ", "secret", "Basic secret"]
    {
        let reply = ask(&server, "POST", path, &[JSON, ("Authorization", wrong)]);
        assert_eq!(reply.error(401)["code"], "invalid_api_key");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    }
    ask(&server, "POST", path, &[JSON]).error(401);
    for path in ["/v1/models", "/metrics", "/tokenizer_info", "/nothing"] {
        ask(&server, "GET", path, &[]).error(401);
    }
    ask(&server, "POST", path, &[JSON, ("Authorization", "Bearer secret")]).ok();
    ask(&server, "POST", path, &[JSON, ("Authorization", "bearer secret")]).ok();
    for path in ["/", "/health", "/openapi.json"] {
        assert_eq!(ask(&server, "GET", path, &[]).status, 200);
    }
}

#[test]
fn only_names_of_this_machine_are_answered() {
    let server = Running::new(Options { hosts: vec!["chat.example.org".to_owned()], ..options() });
    for host in
        ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:80", "LOCALHOST", "chat.example.org"]
    {
        assert_eq!(ask(&server, "GET", "/health", &[("Host", host)]).status, 200, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example:8080", "127.0.0.1.evil.example", ""] {
        let reply = ask(&server, "GET", "/health", &[("Host", host)]);
        assert_eq!(reply.error(403)["code"], "host_not_allowed", "{host}");
    }
    // HTTP/1.0 has no such header.
    for (version, expected) in [("1.0", "200"), ("1.1", "400")] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        write!(stream, "GET /health HTTP/{version}\r\nConnection: close\r\n\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert_eq!(reply.split(' ').nth(1), Some(expected), "{reply}");
    }
    let twice = [("Host", "localhost"), ("Host", "evil.example")];
    ask(&server, "GET", "/health", &twice).error(400);
    ask(&server, "GET", "/health", &[twice[0]; 2]).error(400);
    // The host in the target of the request counts, too.
    let reply = ask(&server, "GET", "http://evil.example/health", &[("Host", "localhost")]);
    reply.error(403);
}

/// The printed address is answered to, and the name that it was given by. Only Linux has more than one
/// loopback address without set-up.
#[cfg(target_os = "linux")]
#[test]
fn the_address_that_is_listened_on_is_answered() {
    let name = Some("My-Machine".to_owned());
    let address = SocketAddr::from(([127, 0, 0, 2], 0));
    let server = Running::new(Options { address, host: name, ..options() });
    let own = server.address.to_string();
    for host in [&own, "127.0.0.2", "my-machine:8080", "localhost"] {
        assert_eq!(ask(&server, "GET", "/health", &[("Host", host)]).status, 200, "{host}");
    }
    ask(&server, "GET", "/health", &[("Host", "127.0.0.3")]).error(403);
}

#[test]
fn pages_of_all_origins_need_a_key() {
    let all = Options { origins: vec!["*".to_owned()], ..options() };
    let error = all.check().unwrap_err().to_string();
    assert_eq!(error, "an origin is *, expected single origins, unless there is an API key");
    let server = Running::new(Options { api_key: Some("secret".to_owned()), ..all });
    let (path, page) = ("/v1/completions", "https://page.example");
    let key = ("Authorization", "Bearer secret");
    let reply = ask(&server, "POST", path, &[JSON, key, ("Origin", page)]);
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, Some(page)));
    ask(&server, "POST", path, &[JSON, ("Origin", page)]).error(401);
    let reply = ask(&server, "OPTIONS", path, &[("Origin", page)]);
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (204, Some(page)));
    let slash = Options { origins: vec!["https://page.example/".to_owned()], ..options() };
    let error = slash.check().unwrap_err().to_string();
    assert!(error.starts_with("an origin is https://page.example/, expected scheme"), "{error}");
}

#[test]
fn pages_of_other_origins_are_refused_unless_they_are_allowed() {
    let page = "https://chat.example.org";
    let server = Running::new(Options { origins: vec![page.to_owned()], ..options() });
    let own = format!("http://{}", server.address);
    let path = "/v1/completions";
    let reply = ask(&server, "POST", path, &[JSON, ("Origin", &own)]);
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, None));
    for other in ["https://evil.example", "null", "https://chat.example.org.evil.example"] {
        let reply = ask(&server, "POST", path, &[JSON, ("Origin", other)]);
        assert_eq!(reply.error(403)["code"], "origin_not_allowed");
        ask(&server, "OPTIONS", path, &[("Origin", other)]).error(403);
    }
    let reply = ask(&server, "POST", path, &[JSON, ("Origin", page)]);
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, Some(page)));
    let reply = ask(&server, "OPTIONS", path, &[("Origin", page)]);
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (204, Some(page)));
    assert_eq!(get(server.address, "/health").header("access-control-allow-origin"), None);
}
