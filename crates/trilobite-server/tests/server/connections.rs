use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use trilobite_server::Options;

use crate::client::get;
use crate::fixture::{Running, options};
use crate::lifecycle::long_stream;

/// Timeout of events that must occur.
const NEVER: Duration = Duration::from_secs(60);
/// A wait during which no answer must arrive.
const A_WHILE: Duration = Duration::from_millis(300);

fn connect(server: &Running) -> TcpStream {
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(NEVER)).unwrap();
    stream
}

/// Sends a request that leaves the connection open.
fn ask(stream: &mut TcpStream) {
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
}

/// Reads the answer to [`ask`].
fn answer(stream: &mut TcpStream) {
    let mut text = String::new();
    while !text.ends_with("\"}") {
        let mut part = [0; 1024];
        let count = stream.read(&mut part).unwrap();
        assert!(count > 0, "{text}");
        text += std::str::from_utf8(&part[..count]).unwrap();
    }
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
}

#[test]
fn a_head_that_does_not_come_is_not_waited_for() {
    let server = Running::new(Options { head_time: Duration::from_millis(50), ..options() });
    for begun in ["", "GET /health HTTP/1.1\r\nHost: local"] {
        let mut stream = connect(&server);
        stream.write_all(begun.as_bytes()).unwrap();
        assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0, "{begun:?}");
    }
    // A connection that stays idle after an answer.
    let mut stream = connect(&server);
    ask(&mut stream);
    answer(&mut stream);
    assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0);
}

#[test]
fn connections_beyond_the_limit_wait_for_another_to_end() {
    let server = Running::new(Options { connections: 2, ..options() });
    let mut open = [connect(&server), connect(&server)];
    for stream in &mut open {
        ask(stream);
        answer(stream);
    }
    let mut third = connect(&server);
    ask(&mut third);
    third.set_read_timeout(Some(A_WHILE)).unwrap();
    let waits = third.read(&mut [0; 1]).unwrap_err().kind();
    assert!(matches!(waits, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{waits}");
    let [first, mut second] = open;
    drop(first);
    third.set_read_timeout(Some(NEVER)).unwrap();
    answer(&mut third);
    ask(&mut second);
    answer(&mut second);
}

#[test]
fn a_client_that_does_not_read_loses_its_connection() {
    let write_timeout = Duration::from_millis(50);
    let server = Running::new(Options { connections: 1, write_timeout, ..options() });
    let stream = long_stream(&server);
    // This connection waits until the other one ends.
    let mut other = connect(&server);
    ask(&mut other);
    answer(&mut other);
    drop((stream, other));
    assert_eq!(get(server.address, "/health").status, 200);
}
