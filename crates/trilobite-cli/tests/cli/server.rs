//! A file server that misbehaves as told.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request, header names in lower case.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    /// How many came before it.
    pub(crate) number: usize,
}

impl Request {
    /// The N of `Range: bytes=N-`.
    pub(crate) fn start(&self) -> Option<usize> {
        let range = self.headers.get("range")?;
        Some(range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap())
    }
}

/// What is sent before the connection is closed.
pub(crate) struct Answer {
    head: String,
    body: Vec<u8>,
}

impl Answer {
    /// A status without a body.
    pub(crate) fn status(status: &str) -> Self {
        let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
        Answer { head, body: Vec::new() }.header("Content-Length", "0")
    }

    /// A whole file.
    pub(crate) fn file(bytes: &[u8]) -> Self {
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n".to_owned();
        Answer { head, body: bytes.to_vec() }.header("Content-Length", &bytes.len().to_string())
    }

    /// A file or the part of it that is asked for.
    pub(crate) fn range(request: &Request, bytes: &[u8]) -> Self {
        let Some(start) = request.start() else { return Answer::file(bytes) };
        let total = bytes.len();
        if start >= total {
            let none = Answer::status("416 Range Not Satisfiable");
            return none.header("Content-Range", &format!("bytes */{total}"));
        }
        let head = "HTTP/1.1 206 Partial Content\r\nConnection: close\r\n".to_owned();
        Answer { head, body: bytes[start..].to_vec() }
            .header("Content-Length", &(total - start).to_string())
            .header("Content-Range", &format!("bytes {start}-{}/{total}", total - 1))
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.head += &format!("{name}: {value}\r\n");
        self
    }

    /// Closes the connection after this many bytes of the body.
    pub(crate) fn cut(mut self, bytes: usize) -> Self {
        self.body.truncate(bytes);
        self
    }
}

/// A server on a port of its own, until the test's process ends.
pub(crate) struct Server {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(crate) fn new(answer: impl Fn(&Request) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that goes away is no concern of the server.
                let _ = serve(stream.unwrap(), &answer, &log);
            }
        });
        Server { url, requests }
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(
    mut stream: TcpStream,
    answer: &impl Fn(&Request) -> Answer,
    log: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let Some(path) = first.strip_prefix("GET ").and_then(|line| line.split(' ').next()) else {
        return Ok(());
    };
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let number = log.lock().unwrap().len();
    let request = Request { path: path.to_owned(), headers, number };
    log.lock().unwrap().push(request.clone());
    let Answer { head, body } = answer(&request);
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    stream.write_all(&body)?;
    stream.flush()?;
    stream.shutdown(Shutdown::Write)
}
