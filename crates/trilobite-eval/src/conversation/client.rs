//! A client for chat completions in OpenAI's protocol.

use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// Maximum number of requests for one answer.
const MAX_ATTEMPTS: u32 = 8;
/// The pause after the first failure. Each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Maximum pause that a server can ask for.
const MAX_PAUSE: Duration = Duration::from_secs(120);
/// Time limit of a request.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Maximum number of tokens of a judgment.
const MAX_TOKENS: usize = 2048;
/// Maximum number of characters quoted from a server's error.
const MAX_QUOTED: usize = 300;

/// A model on an OpenAI-compatible server that rates answers.
#[derive(Clone)]
pub struct JudgeServer {
    /// The endpoint. `/chat/completions` is added if it does not end that way.
    pub url: String,
    /// The name of the model on the server.
    pub model: String,
    /// The API key, if the server requires one.
    pub key: Option<String>,
}

impl std::fmt::Debug for JudgeServer {
    /// Omits the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (url, model) = (&self.url, &self.model);
        f.debug_struct("JudgeServer")
            .field("url", url)
            .field("model", model)
            .finish_non_exhaustive()
    }
}

/// The result of a request.
enum HttpReply {
    Text(String),
    /// A failure that may be temporary, and the pause that the server asks for.
    Later(String, Option<Duration>),
    Refused(String),
}

/// A connection to a judge's server.
pub(super) struct Client<'a> {
    server: &'a JudgeServer,
    url: String,
    agent: ureq::Agent,
}

impl<'a> Client<'a> {
    pub(super) fn new(server: &'a JudgeServer) -> Self {
        let base = server.url.trim_end_matches('/');
        let ending = "/chat/completions";
        let url = if base.ends_with(ending) { base.into() } else { format!("{base}{ending}") };
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            .build();
        Self { server, url, agent: config.into() }
    }

    /// The model's answer to a prompt, at temperature 0. Overload, server errors and broken
    /// connections are retried.
    pub(super) fn ask(&self, system: &str, prompt: &str) -> Result<String> {
        let body = json!({
            "model": self.server.model,
            "messages": [
                {"role": "system", "content": system},
                {"role": "user", "content": prompt},
            ],
            "n": 1,
            "temperature": 0,
            "max_tokens": MAX_TOKENS,
        })
        .to_string();
        let fail = |message| Error::JudgeServer { url: self.url.clone(), message };
        let mut pause = FIRST_PAUSE;
        for _ in 1..MAX_ATTEMPTS {
            match self.once(&body) {
                HttpReply::Text(text) => return Ok(text),
                HttpReply::Refused(message) => return Err(fail(message)),
                HttpReply::Later(_, retry_after) => {
                    std::thread::sleep(retry_after.unwrap_or(pause).min(MAX_PAUSE));
                }
            }
            pause *= 2;
        }
        match self.once(&body) {
            HttpReply::Text(text) => Ok(text),
            HttpReply::Refused(message) => Err(fail(message)),
            HttpReply::Later(message, _) => Err(fail(format!("{message}, {MAX_ATTEMPTS} times"))),
        }
    }

    fn once(&self, body: &str) -> HttpReply {
        let mut request = self.agent.post(&self.url).header("content-type", "application/json");
        if let Some(key) = &self.server.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let mut response = match request.send(body) {
            Ok(response) => response,
            Err(error @ (ureq::Error::BadUri(_) | ureq::Error::Http(_))) => {
                return HttpReply::Refused(error.to_string());
            }
            Err(error) => return HttpReply::Later(error.to_string(), None),
        };
        let status = response.status().as_u16();
        let retry_after = response.headers().get("retry-after").and_then(|at| at.to_str().ok());
        let retry_after = retry_after.and_then(|seconds| seconds.trim().parse().ok());
        let text = match response.body_mut().read_to_string() {
            Ok(text) => text,
            Err(error) => return HttpReply::Later(error.to_string(), None),
        };
        let quoted: String = text.chars().take(MAX_QUOTED).collect();
        match status {
            200 => {}
            408 | 429 | 500.. => {
                let message = format!("status {status}: {quoted}");
                return HttpReply::Later(message, retry_after.map(Duration::from_secs));
            }
            _ => return HttpReply::Refused(format!("status {status}: {quoted}")),
        }
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        match answer.pointer("/choices/0/message/content").and_then(Value::as_str) {
            Some(content) => HttpReply::Text(content.to_owned()),
            None => HttpReply::Refused(format!("no choices[0].message.content in {quoted}")),
        }
    }
}
