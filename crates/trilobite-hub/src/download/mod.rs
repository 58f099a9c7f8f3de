//! Files fetched over HTTP or copied from a mirror: whole and verified, or not there.
//!
//! What has come so far is in TARGET.partial, and in TARGET.partial.json what the server called that
//! version of the file and its size, so that a later attempt, in this process or another, goes on
//! where the last one stopped and never joins the pieces of two versions. Nothing gets its name that
//! cannot be the file: its hash, its size and its structure are compared, as far as they are known.

mod content;
mod http;
mod partial;

use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::{Error, Result};

pub(crate) use self::content::fault;
pub(crate) use self::http::{Client, Token, host, is_hex};
use self::partial::Partial;
pub(crate) use self::partial::sha256;

/// Attempts without progress before giving up.
const MAX_STALLED: u32 = 5;
/// Attempts before giving up on a file, with progress or without.
const MAX_ATTEMPTS: u32 = 1000;
/// The longest time that is waited because a server asks for it.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// A file to fetch.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// Where it will lie.
    pub(crate) target: &'a Path,
    /// Its SHA-256, or that of what it unpacks to, where it is known.
    pub(crate) sha256: Option<&'a str>,
    /// The SHA-256 that the server has stated before.
    pub(crate) stated: Option<&'a str>,
    /// Its size, where it is known.
    pub(crate) bytes: Option<u64>,
}

/// A file that is there now.
pub(crate) struct Got {
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    /// Who said what the hash had to be, if someone did.
    pub(crate) verified: Option<&'static str>,
    /// The commit that the server says it is from.
    pub(crate) revision: Option<String>,
}

/// What happens meanwhile.
pub(crate) enum Event<'a> {
    Progress { done: u64, total: Option<u64> },
    Waiting { reason: &'a Error, delay: Duration },
}

/// Why an attempt ended without the whole file.
enum Failure {
    /// Another attempt may do.
    Passing { reason: Error, after: Option<Duration> },
    /// Another attempt would end the same way.
    Final(Error),
}

impl Failure {
    fn passing(reason: Error) -> Self {
        Failure::Passing { reason, after: None }
    }

    fn into_reason(self) -> Error {
        match self {
            Failure::Passing { reason, .. } | Failure::Final(reason) => reason,
        }
    }
}

/// What a server said of a file beside its bytes.
#[derive(Default)]
struct Said {
    revision: Option<String>,
    sha256: Option<String>,
    bytes: Option<u64>,
}

/// Fetches a file; another process's partial file is gone on with.
pub(crate) fn download(
    client: &Client,
    url: &str,
    wanted: Wanted<'_>,
    listen: &mut dyn FnMut(Event<'_>),
) -> Result<Got> {
    fetch(client, url, wanted, listen).map_err(|source| Error::Transfer {
        from: url.to_owned(),
        to: wanted.target.to_owned(),
        source: source.into(),
    })
}

fn fetch(
    client: &Client,
    url: &str,
    wanted: Wanted<'_>,
    listen: &mut dyn FnMut(Event<'_>),
) -> Result<Got> {
    let mut partial = Partial::open(wanted.target)?;
    let mut said = Said { bytes: wanted.bytes, ..Said::default() };
    if let Err(error) = attempts(client, url, &mut partial, &mut said, listen) {
        partial.abandon()?;
        return Err(error);
    }
    let (expected, by) = match wanted.sha256 {
        Some(pinned) => (Some(pinned), "pinned"),
        None => (wanted.stated.or(said.sha256.as_deref()), "server"),
    };
    let (bytes, sha256) = partial.finish(wanted.target, expected)?;
    let verified = expected.map(|_| by);
    Ok(Got { bytes, sha256, verified, revision: said.revision.take() })
}

/// Requests what is missing of a file until it is there, as often as that makes sense.
fn attempts(
    client: &Client,
    url: &str,
    partial: &mut Partial,
    said: &mut Said,
    listen: &mut dyn FnMut(Event<'_>),
) -> Result<()> {
    let (mut failures, mut stalled) = (0, 0);
    let mut furthest = partial.len()?;
    loop {
        let (reason, after) = match partial.go_on(client, url, said, listen) {
            Ok(()) => return Ok(()),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Passing { reason, after }) => (reason, after),
        };
        let len = partial.len()?;
        stalled = if len > furthest { 0 } else { stalled + 1 };
        failures += 1;
        furthest = furthest.max(len);
        if stalled == MAX_STALLED || failures == MAX_ATTEMPTS {
            return Err(Error::GaveUp { attempts: failures, kept: len, source: reason.into() });
        }
        let backoff = match stalled {
            0 => Duration::from_millis(100),
            n => Duration::from_secs(1 << (n - 1)),
        };
        let delay = after.unwrap_or(backoff);
        if delay > LONGEST_WAIT {
            return Err(Error::Later { seconds: delay.as_secs(), source: reason.into() });
        }
        listen(Event::Waiting { reason: &reason, delay });
        std::thread::sleep(delay);
    }
}

/// Copies a file from a mirror, with the same verification.
pub(crate) fn copy(
    source: &Path,
    wanted: Wanted<'_>,
    listen: &mut dyn FnMut(Event<'_>),
) -> Result<Got> {
    let mut work = || -> Result<Got> {
        let mut file = trilobite_format::open_regular(source).map_err(Error::io(source))?;
        let total = file.metadata().map_err(Error::io(source))?.len();
        let mut partial = Partial::open(wanted.target)?;
        partial.start_over(Some(total))?;
        if let Err(failure) = partial.append(&mut file, listen) {
            partial.abandon()?;
            return Err(failure.into_reason());
        }
        let (bytes, sha256) = partial.finish(wanted.target, wanted.sha256)?;
        let verified = wanted.sha256.map(|_| "pinned");
        Ok(Got { bytes, sha256, verified, revision: None })
    };
    work().map_err(|error| Error::Transfer {
        from: source.display().to_string(),
        to: wanted.target.to_owned(),
        source: error.into(),
    })
}

/// The answer of an interface, JSON.
pub(crate) fn json<T: DeserializeOwned>(
    client: &Client,
    url: &str,
    listen: &mut dyn FnMut(Event<'_>),
) -> Result<T> {
    let mut work = || -> Result<T> {
        let folder = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
        let target = folder.path().join("answer.json");
        let wanted = Wanted { target: &target, sha256: None, stated: None, bytes: None };
        fetch(client, url, wanted, listen)?;
        let bytes = std::fs::read(&target).map_err(Error::io(&target))?;
        let name = "its answer".to_owned();
        serde_json::from_slice(&bytes).map_err(|source| Error::Json { name, source })
    };
    work().map_err(|source| Error::Request { url: url.to_owned(), source: source.into() })
}

/// A value in a JSON file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    serde_json::from_slice(&bytes)
        .map_err(|source| Error::Json { name: path.display().to_string(), source })
}
