//! Access control: the API key, the Host header, and the origins of pages.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::extract::Request;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, AUTHORIZATION, HOST, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use crate::api::error::{ApiError, ApiResult};
use crate::options::Options;

/// Paths that need no key.
const OPEN: [&str; 3] = ["/", "/health", "/openapi.json"];
/// Names of this machine.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Allows pages of every origin.
pub(crate) const ANY: &str = "*";
/// Schemes and their ports, which browsers leave out.
const PORTS: [(&str, &str); 2] = [("http", ":80"), ("https", ":443")];

/// Decides whether a request is allowed.
pub(crate) struct Guard {
    key: Option<String>,
    /// Allowed values of the Host header, without port. `None` allows all.
    hosts: Option<Vec<String>>,
    /// Allowed origins as browsers write them, or [`ANY`].
    origins: Vec<String>,
}

impl Guard {
    /// Creates the guard of a server at `address`. On a loopback address it allows only the names of this
    /// machine, the address and the listed names, against DNS rebinding. On other addresses it allows
    /// every name unless some are listed.
    pub(crate) fn new(options: &Options, address: SocketAddr) -> Self {
        let loopback = address.ip().is_loopback();
        let given = options.hosts.iter().chain(&options.host).map(|host| host.to_ascii_lowercase());
        let own = match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let local = LOCAL.iter().map(|&host| host.to_owned()).chain([own]);
        let hosts = (loopback || !options.hosts.is_empty()).then(|| given.chain(local).collect());
        let origins = options.origins.iter().filter_map(|text| origin(text)).collect();
        Self { key: options.api_key.clone(), hosts, origins }
    }

    fn check_host(&self, request: &Request) -> ApiResult<()> {
        let mut headers = request.headers().get_all(HOST).iter();
        let header = headers.next();
        if headers.next().is_some() {
            return Err(ApiError::invalid("the request has several Host headers, expected one"));
        }
        // HTTP/1.0 has no Host header. Browsers, whose pages the check is about, speak HTTP/1.1.
        if header.is_none() && request.version() > Version::HTTP_10 {
            return Err(ApiError::invalid("the request has no Host header, expected one"));
        }
        let Some(hosts) = &self.hosts else { return Ok(()) };
        let header = header.map(|host| host.to_str().unwrap_or("\u{fffd}"));
        let authority = request.uri().authority().map(|authority| authority.as_str());
        let mut named = authority.into_iter().chain(header);
        match named.find(|host| !hosts.iter().any(|known| *known == without_port(host))) {
            Some(host) => {
                let message = format!("this server does not answer to the host {host:?}");
                Err(ApiError::status(StatusCode::FORBIDDEN, message).with_code("host_not_allowed"))
            }
            None => Ok(()),
        }
    }

    /// Checks the origin of the page that sends a request. Returns the origin if it is a listed one,
    /// which needs CORS headers. The server's own page needs none.
    fn check_origin(&self, headers: &HeaderMap) -> ApiResult<Option<HeaderValue>> {
        let Some(origin) = headers.get(ORIGIN) else { return Ok(None) };
        let text = origin.to_str().unwrap_or("\u{fffd}");
        if self.origins.iter().any(|known| known == ANY || known == text) {
            return Ok(Some(origin.clone()));
        }
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        // A proxy serves the same page by TLS.
        let own = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        if own.is_some() && own == host {
            return Ok(None);
        }
        let message = format!("pages of the origin {text:?} may not use this server");
        Err(ApiError::status(StatusCode::FORBIDDEN, message).with_code("origin_not_allowed"))
    }

    fn check_key(&self, path: &str, headers: &HeaderMap) -> ApiResult<()> {
        let Some(key) = self.key.as_deref().filter(|_| !OPEN.contains(&path)) else {
            return Ok(());
        };
        let given = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let given = given.and_then(|value| {
            let (scheme, key) = value.split_at_checked("Bearer ".len())?;
            scheme.eq_ignore_ascii_case(b"Bearer ").then_some(key)
        });
        // The comparison takes the same time for every key of this length.
        match given.is_some_and(|given| given.ct_eq(key.as_bytes()).into()) {
            true => Ok(()),
            false => Err(ApiError::key(given.is_some())),
        }
    }

    /// Passes an allowed request on and refuses another.
    pub(crate) async fn pass(&self, request: Request, next: Next) -> Response {
        let (path, headers) = (request.uri().path().to_owned(), request.headers());
        let allowed = self.check_host(&request).and_then(|()| self.check_origin(headers));
        let origin = match allowed {
            Ok(origin) => origin,
            Err(error) => return error.into_response(),
        };
        let mut response = if request.method() == Method::OPTIONS && origin.is_some() {
            StatusCode::NO_CONTENT.into_response()
        } else {
            match self.check_key(&path, headers) {
                Ok(()) => next.run(request).await,
                Err(error) => error.into_response(),
            }
        };
        if let Some(origin) = origin {
            let headers = response.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(VARY, HeaderValue::from_static("Origin"));
            let methods = HeaderValue::from_static("GET, POST");
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
            let allowed = HeaderValue::from_static("Authorization, Content-Type");
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        }
        response
    }
}

/// An origin as browsers write it: in lower case, without the scheme's own port. `None` if the text is
/// neither an origin nor [`ANY`].
pub(crate) fn origin(text: &str) -> Option<String> {
    if text == ANY {
        return Some(ANY.to_owned());
    }
    let text = text.to_ascii_lowercase();
    let (scheme, mut rest) = text.split_once("://")?;
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(is_scheme) {
        return None;
    }
    let host = match rest.split_once(']') {
        // An IPv6 address has colons.
        Some((ip, _)) => &rest[..=ip.len()],
        None => rest.split(':').next()?,
    };
    let ip = host.strip_prefix('[').map(|ip| ip.trim_end_matches(']').parse::<Ipv6Addr>());
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    let is_host = match ip {
        Some(ip) => ip.is_ok(),
        None => !host.is_empty() && host.chars().all(is_name),
    };
    let port = &rest[host.len()..];
    let is_port = match port.strip_prefix(':') {
        Some(number) => number.parse::<u16>().is_ok_and(|port| port.to_string() == number),
        None => port.is_empty(),
    };
    if !is_host || !is_port {
        return None;
    }
    if PORTS.contains(&(scheme, port)) {
        rest = host;
    }
    Some(format!("{scheme}://{rest}"))
}

/// A host without its port, in lower case.
fn without_port(host: &str) -> String {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_those_of_browsers() {
        for (text, expected) in [
            ("*", "*"),
            ("https://chat.example.org", "https://chat.example.org"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("HTTPS://Chat.Example.org:443", "https://chat.example.org"),
            ("http://chat.example.org:443", "http://chat.example.org:443"),
            ("http://[::1]:80", "http://[::1]"),
            ("chrome-extension://abc", "chrome-extension://abc"),
        ] {
            assert_eq!(origin(text).as_deref(), Some(expected));
        }
        for text in [
            "",
            "null",
            "chat.example.org",
            "https://",
            "https://chat.example.org/",
            "https://chat.example.org/page",
            "https://*.example.org",
            "https://me@chat.example.org",
            "https://chat.example.org:",
            "https://chat.example.org:08",
            "https://chat.example.org:99999",
            "https://chät.example.org",
            "https://[::1",
            "https://a]b",
            "://chat.example.org",
        ] {
            assert_eq!(origin(text), None, "{text}");
        }
    }

    #[test]
    fn a_port_is_no_part_of_a_name() {
        for (host, name) in [
            ("localhost", "localhost"),
            ("LocalHost:8080", "localhost"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("127.0.0.1:1", "127.0.0.1"),
            ("localhost:80.evil.org", "localhost:80.evil.org"),
            ("localhost.evil.org:80", "localhost.evil.org"),
        ] {
            assert_eq!(without_port(host), name);
        }
    }
}
