//! HTTP requests: redirects, the access token, and the classification of failures.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use ureq::http::{HeaderMap, StatusCode, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, Timeout};

use super::attempt::Failure;
use crate::Error;

/// Maximum number of redirects per file.
const MAX_REDIRECTS: usize = 10;
/// Maximum size of a response's header in bytes.
const MAX_HEADER: usize = 64 << 10;
/// Timeout of resolving a name and of connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Timeout of waiting for the header of a response, and for more bytes of its body.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A secret for one server.
#[derive(Clone)]
pub(crate) struct Token {
    /// Scheme, host and port of the server.
    origin: String,
    secret: String,
}

impl Token {
    /// Creates a secret for the server of an address.
    pub(crate) fn new(url: &str, secret: &str) -> Self {
        Token { origin: origin(url), secret: secret.to_owned() }
    }
}

/// An HTTP client for files.
pub(crate) struct Client {
    agent: Agent,
    token: Option<Token>,
    /// Whether any server has answered. If so there is a network, and its failures are temporary.
    answered: Cell<bool>,
}

/// A response with a body.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// The commit of the file, as stated by the first server that names one.
    pub(super) revision: Option<String>,
    /// The SHA-256 of the file, as stated by the hub.
    pub(super) sha256: Option<String>,
    /// The size of the file, as stated by the hub.
    pub(super) bytes: Option<u64>,
}

impl Client {
    /// Creates a client. Proxies come from HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY.
    pub(crate) fn new(token: Option<Token>) -> Self {
        let roots = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let agent = Agent::config_builder()
            .user_agent(concat!("trilobite/", env!("CARGO_PKG_VERSION")))
            .tls_config(roots)
            // Redirects are followed in `get`, so that the token is sent to its own server only.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            // Files must arrive as stored, since hashes and sizes are those of the file.
            .accept_encoding("identity")
            .max_response_header_size(MAX_HEADER)
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(READ_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            .build();
        Client { agent: agent.into(), token, answered: Cell::new(false) }
    }

    /// Sends a request. Any status other than 200, 206 and 416 is a failure.
    pub(super) fn get(&self, url: &str, headers: &[(&str, String)]) -> Result<Reply, Failure> {
        let mut url = url.to_owned();
        let mut revision = None;
        let (mut sha256, mut bytes) = (None, None);
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.agent.get(&url);
            for (name, value) in headers {
                request = request.header(*name, value);
            }
            if let Some(token) = self.token.as_ref().filter(|t| origin(&url) == t.origin) {
                request = request.header("Authorization", format!("Bearer {}", token.secret));
            }
            let response = request.call().map_err(|error| self.no_answer(&url, error))?;
            self.answered.set(true);
            let (parts, body) = response.into_parts();
            let text = |name: &str| Some(parts.headers.get(name)?.to_str().ok()?.trim().to_owned());
            revision = revision.or(text("x-repo-commit").filter(|commit| is_hex(commit, 40)));
            bytes = bytes.or(text("x-linked-size").and_then(|size| size.parse().ok()));
            sha256 = sha256.or(text("x-linked-etag").map(|tag| tag.trim_matches('"').to_owned()));
            let status = parts.status;
            match status.as_u16() {
                200 | 206 | 416 => {
                    let sha256 = sha256.filter(|tag| is_hex(tag, 64));
                    let sha256 = sha256.map(|hash| hash.to_ascii_lowercase());
                    let headers = parts.headers;
                    return Ok(Reply { status, headers, body, revision, sha256, bytes });
                }
                301 | 302 | 303 | 307 | 308 => {
                    let to = text(header::LOCATION.as_str()).unwrap_or_default();
                    let next = join(&url, &to);
                    url = next.ok_or_else(|| Failure::lasting(Error::Redirect { url, to }))?;
                }
                _ => return Err(self.refusal(&url, status, &parts.headers)),
            }
        }
        Err(Failure::lasting(Error::Redirects { most: MAX_REDIRECTS, url }))
    }

    /// Classifies a failure without a response. An interrupted exchange is temporary. An unknown
    /// host, a missing route or a refused connection is temporary only if there was a network
    /// before.
    fn no_answer(&self, url: &str, error: ureq::Error) -> Failure {
        use std::io::ErrorKind::*;
        let passing = match &error {
            ureq::Error::Io(io) => match io.kind() {
                ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof | TimedOut
                | WouldBlock | Interrupted => true,
                // Invalid certificates, among others.
                InvalidData | InvalidInput | PermissionDenied => false,
                _ => self.answered.get(),
            },
            ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect)
            | ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed => self.answered.get(),
            ureq::Error::Timeout(_) => true,
            _ => false,
        };
        let source = match error {
            ureq::Error::Io(io) => io.into(),
            other => other.into(),
        };
        let reason = Error::NoAnswer { host: host(url), source };
        match passing {
            true => Failure::passing(reason),
            false => Failure::lasting(reason),
        }
    }

    fn refusal(&self, url: &str, status: StatusCode, headers: &HeaderMap) -> Failure {
        let code = headers.get("x-error-code").and_then(|code| code.to_str().ok());
        let reason = Error::Refused {
            host: host(url),
            status: status.as_u16(),
            code: code.map(str::to_owned),
            token: self.token.as_ref().is_some_and(|token| origin(url) == token.origin),
        };
        match status.as_u16() {
            408 | 429 | 500 | 502 | 503 | 504 => {
                Failure::Passing { reason: Box::new(reason), after: retry_after(headers) }
            }
            _ => Failure::lasting(reason),
        }
    }
}

/// Whether a text is a hexadecimal number of this many digits.
pub(crate) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The pause that the server asks for, in seconds or as a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> String {
    let scheme = url.find("://").map_or(0, |at| at + 3);
    let end = url[scheme..].find(['/', '?', '#']).map_or(url.len(), |at| scheme + at);
    url[..end].to_ascii_lowercase()
}

/// Host and port of an address.
pub(crate) fn host(url: &str) -> String {
    let origin = origin(url);
    origin.split_once("://").map_or(origin.clone(), |(_, host)| host.to_owned())
}

/// Resolves the target of a redirect from `url`.
fn join(url: &str, location: &str) -> Option<String> {
    let origin = origin(url);
    let scheme = origin.split_once("://")?.0;
    let path = url[origin.len()..].split(['?', '#']).next().unwrap_or_default();
    let location = location.split('#').next().unwrap_or_default();
    Some(match location {
        "" => return None,
        _ if location.starts_with("https://") => location.to_owned(),
        // A redirect from https to http is not followed.
        _ if location.starts_with("http://") && scheme == "http" => location.to_owned(),
        _ if location.contains("://") => return None,
        _ if location.starts_with("//") => format!("{scheme}:{location}"),
        _ if location.starts_with('/') => format!("{origin}{location}"),
        _ => {
            format!("{origin}{}/{location}", path.rsplit_once('/').map_or("", |(folder, _)| folder))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_joined_as_addresses() {
        let from = "https://Hub.example:8443/a/b?x=/c";
        for (location, expected) in [
            ("https://cdn.example/f?sig=1", Some("https://cdn.example/f?sig=1")),
            ("/api/f", Some("https://hub.example:8443/api/f")),
            ("g", Some("https://hub.example:8443/a/g")),
            ("//cdn.example/f#part", Some("https://cdn.example/f")),
            ("http://cdn.example/f", None),
            ("ftp://cdn.example/f", None),
            ("", None),
        ] {
            assert_eq!(join(from, location).as_deref(), expected, "{location}");
        }
        assert_eq!(origin("http://127.0.0.1:1?x"), "http://127.0.0.1:1");
        assert_eq!(host(from), "hub.example:8443");
    }

    #[test]
    fn waits_are_seconds_or_a_date() {
        let wait = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(90));
        let seconds = wait(&date).unwrap().as_secs();
        assert!((80..=90).contains(&seconds), "{seconds}");
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("soon"), None);
    }
}
