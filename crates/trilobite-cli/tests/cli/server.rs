//! A file server for tests, with configurable misbehaviour.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request, with header names in lower case.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    /// Number of requests before it.
    pub(crate) number: usize,
}

impl Request {
    /// The N of `Range: bytes=N-`.
    pub(crate) fn start(&self) -> Option<usize> {
        let range = self.headers.get("range")?;
        Some(range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap())
    }
}

/// The response that is sent before the connection is closed.
pub(crate) struct Answer {
    status: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Bytes to repeat after the body until the client stops reading.
    endless: Vec<u8>,
}

impl Answer {
    /// A status without a body.
    pub(crate) fn status(status: &str) -> Self {
        Self::with(status, b"")
    }

    /// A whole file.
    pub(crate) fn file(bytes: &[u8]) -> Self {
        Self::with("200 OK", bytes)
    }

    /// A status and a body.
    pub(crate) fn with(status: &str, body: &[u8]) -> Self {
        let answer = Answer {
            status: status.to_owned(),
            headers: Vec::new(),
            body: body.to_vec(),
            endless: Vec::new(),
        };
        answer.header("Connection", "close").header("Content-Length", &body.len().to_string())
    }

    /// A file, or the requested range of it.
    pub(crate) fn range(request: &Request, bytes: &[u8]) -> Self {
        let Some(start) = request.start() else { return Answer::file(bytes) };
        let total = bytes.len();
        if start >= total {
            let none = Answer::status("416 Range Not Satisfiable");
            return none.header("Content-Range", &format!("bytes */{total}"));
        }
        Answer::with("206 Partial Content", &bytes[start..])
            .header("Content-Range", &format!("bytes {start}-{}/{total}", total - 1))
    }

    /// Adds a header or replaces it.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Omits a header.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| other != name);
        self
    }

    /// Closes the connection after this many bytes of the body.
    pub(crate) fn cut(mut self, bytes: usize) -> Self {
        self.body.truncate(bytes);
        self
    }

    /// Sends the body in chunks, without stating its length.
    pub(crate) fn chunked(mut self) -> Self {
        let mut body = Vec::new();
        for chunk in self.body.chunks(100_000) {
            body.extend(format!("{:x}\r\n", chunk.len()).bytes());
            body.extend(chunk);
            body.extend(b"\r\n");
        }
        body.extend(b"0\r\n\r\n");
        self.body = body;
        self.without("Content-Length").header("Transfer-Encoding", "chunked")
    }

    /// Sends zeros after the body until the client stops reading.
    pub(crate) fn endless(mut self) -> Self {
        self.endless = vec![0; 100_000];
        self
    }
}

/// A server on a free port, which runs until the test's process ends.
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
                // Errors of a client that disconnects are ignored.
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
    let Answer { status, headers, body, endless } = answer(&request);
    let mut head = format!("HTTP/1.1 {status}\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    stream.write_all(&body)?;
    while !endless.is_empty() {
        stream.write_all(&endless)?;
    }
    stream.flush()?;
    stream.shutdown(Shutdown::Write)
}
