//! Settings of a server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use trilobite_runtime::{PAGE, SessionOptions, Speculation};

use crate::engine::{EngineOptions, PromptFolder};
use crate::error::{Error, Result};
use crate::guard;
use crate::served::ServedModel;

/// Maximum sequences of one model at the same time.
const MAX_PARALLEL: usize = 128;

/// Default of [`Options::step`].
const STEP: usize = 256;
/// Default number of connections: half of the files that a process may usually have open.
const CONNECTIONS: usize = 512;
/// Default time of [`Options::head_time`]. Proxies keep idle connections for up to 60 s. If the server
/// ended them first, a request could meet the end of its connection.
const HEAD_TIME: Duration = Duration::from_secs(75);

/// Settings of a server.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address to listen on; port 0 takes a free one.
    pub address: SocketAddr,
    /// Answers of one model that are generated at the same time.
    pub parallel: usize,
    /// Memory for the keys and values of each model in bytes; one context always fits. The default has
    /// room for two contexts of every parallel answer, at most half of the machine's free memory.
    pub cache_bytes: Option<usize>,
    /// A folder for keys and values that outlive the server.
    pub prompt_folder: Option<PromptFolder>,
    /// Maximum waiting prompts of each model.
    pub queue: usize,
    /// Maximum prompt tokens of a step. The actual number depends on the measured prefill speed.
    pub step: usize,
    /// Whether next tokens are drafted while at most two answers are generated. Plain sessions never
    /// draft.
    pub speculate: bool,
    /// Maximum tokens of an answer.
    pub max_tokens: Option<usize>,
    /// Maximum open connections. More wait until one ends.
    pub connections: usize,
    /// Maximum time of a connection until the head of its next request is complete, which includes the
    /// time that it is idle.
    pub head_time: Duration,
    /// Maximum bytes of a request.
    pub body_bytes: usize,
    /// Maximum time for a client to send the body of a request.
    pub body_time: Duration,
    /// Maximum time of a request, including its wait in the queue.
    pub request_time: Duration,
    /// Maximum time that an answer waits for its client to read.
    pub write_timeout: Duration,
    /// Time for running answers to finish when the server stops.
    pub grace: Duration,
    /// The key that requests must send.
    pub api_key: Option<String>,
    /// The name that `address` was given by, which the Host header may have too.
    pub host: Option<String>,
    /// Additional allowed values of the Host header, without port.
    pub hosts: Vec<String>,
    /// Origins of pages that may read the answers, such as `https://chat.example.org`. With a key, `*`
    /// allows all.
    pub origins: Vec<String>,
}

impl Default for Options {
    /// Listens on port 8080 of the loopback address and generates eight answers at a time.
    fn default() -> Self {
        Self {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            parallel: 8,
            cache_bytes: None,
            prompt_folder: None,
            queue: 256,
            step: STEP,
            speculate: true,
            max_tokens: None,
            connections: CONNECTIONS,
            head_time: HEAD_TIME,
            body_bytes: 8 << 20,
            body_time: Duration::from_secs(30),
            request_time: Duration::from_secs(3600),
            write_timeout: Duration::from_secs(30),
            grace: Duration::from_secs(30),
            api_key: None,
            host: None,
            hosts: Vec::new(),
            origins: Vec::new(),
        }
    }
}

impl Options {
    /// Checks the values.
    ///
    /// # Errors
    /// An option has an unusable value.
    pub fn check(&self) -> Result<()> {
        if !(1..=MAX_PARALLEL).contains(&self.parallel) {
            let value = self.parallel.to_string();
            return Err(Error::Option { name: "parallel", value, expected: "1 to 128" });
        }
        if self.connections == 0 {
            let value = "0".to_owned();
            return Err(Error::Option { name: "connections", value, expected: "at least 1" });
        }
        if self.api_key.as_ref().is_some_and(|key| key.is_empty()) {
            let value = "empty".to_owned();
            return Err(Error::Option { name: "the API key", value, expected: "a text" });
        }
        if self.max_tokens == Some(0) {
            let value = "0".to_owned();
            return Err(Error::Option { name: "max_tokens", value, expected: "at least 1" });
        }
        for origin in &self.origins {
            let expected = match guard::origin(origin) {
                None => "scheme://host, scheme://host:port or *",
                Some(any) if any == guard::ANY && self.api_key.is_none() => {
                    "single origins, unless there is an API key"
                }
                Some(_) => continue,
            };
            return Err(Error::Option { name: "an origin", value: origin.clone(), expected });
        }
        Ok(())
    }

    /// The settings of a model's engine, if `models` models share the machine.
    pub(crate) fn engine(&self, served: &ServedModel, models: usize) -> EngineOptions {
        let config = served.model.config();
        let context = served.session.context.clamp(1, config.context);
        let session = SessionOptions { context, ..served.session };
        let page = session.cache.bytes_for(config, PAGE).max(1);
        // A context of each sequence, and as much again for cached prefixes.
        let wanted = 2 * self.parallel * context.div_ceil(PAGE);
        let free = || free_bytes().map(|bytes| bytes / 2 / models.max(1) / page);
        let pages = match self.cache_bytes {
            Some(bytes) => bytes / page,
            None => free().map_or(wanted, |free| free.min(wanted)),
        };
        EngineOptions {
            session,
            parallel: self.parallel,
            pages,
            queue: self.queue,
            step: self.step,
            speculation: (self.speculate && !session.plain).then_some(Speculation::default),
            time: self.request_time,
            write_timeout: self.write_timeout,
        }
    }
}

/// The machine's free memory in bytes; `None` if the system does not report it.
fn free_bytes() -> Option<usize> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("MemAvailable:"))?;
    let kib: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
