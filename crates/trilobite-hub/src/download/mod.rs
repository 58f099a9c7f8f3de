//! Downloads over HTTP and copies from a mirror. A file is complete and verified, or absent.
//!
//! TARGET.partial contains the data received so far. TARGET.partial.json contains the size and the
//! server's tag of that version of the file. A later attempt, in this or another process, resumes
//! there and never joins pieces of two versions. A file gets its final name only after its hash,
//! size and structure have been checked, as far as they are known.

mod attempt;
mod content;
mod http;
mod partial;

use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::{Error, Fetched, Result};

pub(crate) use self::attempt::TransferEvent;
use self::attempt::{Failure, Said};
pub(crate) use self::content::fault;
pub(crate) use self::http::{Client, Token, host, is_hex};
use self::partial::Partial;
pub(crate) use self::partial::sha256;

/// Attempts without progress before giving up.
const MAX_STALLED: u32 = 5;
/// Attempts before giving up on a file, with progress or without.
const MAX_ATTEMPTS: u32 = 1000;
/// Maximum pause that a server can ask for.
const MAX_PAUSE: Duration = Duration::from_secs(600);

/// A file to fetch.
#[derive(Clone, Copy)]
pub(crate) struct FileSpec<'a> {
    /// The path of the file to write.
    pub(crate) target: &'a Path,
    /// The SHA-256 of the file or of its unpacked contents, if it is known.
    pub(crate) sha256: Option<&'a str>,
    /// The SHA-256 that the server stated earlier.
    pub(crate) stated: Option<&'a str>,
    /// The size, if it is known.
    pub(crate) bytes: Option<u64>,
}

/// A file that has been fetched.
pub(crate) struct Downloaded {
    pub(crate) fetched: Fetched,
    /// The commit of the file, as stated by the server.
    pub(crate) revision: Option<String>,
}

/// Fetches a file. A partial file of another process is continued.
pub(crate) fn download(
    client: &Client,
    url: &str,
    spec: FileSpec<'_>,
    listen: &mut dyn FnMut(TransferEvent<'_>),
) -> Result<Downloaded> {
    fetch(client, url, spec, listen).map_err(|source| Error::Transfer {
        from: url.to_owned(),
        to: spec.target.to_owned(),
        source: source.into(),
    })
}

fn fetch(
    client: &Client,
    url: &str,
    spec: FileSpec<'_>,
    listen: &mut dyn FnMut(TransferEvent<'_>),
) -> Result<Downloaded> {
    let mut partial = Partial::open(spec.target)?;
    let mut said = Said { bytes: spec.bytes, ..Said::default() };
    if let Err(error) = attempts(client, url, &mut partial, &mut said, listen) {
        partial.remove_if_empty()?;
        return Err(error);
    }
    let (expected, by) = match spec.sha256 {
        Some(pinned) => (Some(pinned), "pinned"),
        None => (spec.stated.or(said.sha256.as_deref()), "server"),
    };
    let (bytes, sha256) = partial.finish(spec.target, expected)?;
    let verified = expected.map(|_| by.to_owned());
    let fetched = Fetched { bytes, sha256, verified };
    Ok(Downloaded { fetched, revision: said.revision.take() })
}

/// Requests the rest of a file until it is complete or an attempt limit is reached.
fn attempts(
    client: &Client,
    url: &str,
    partial: &mut Partial,
    said: &mut Said,
    listen: &mut dyn FnMut(TransferEvent<'_>),
) -> Result<()> {
    let (mut failures, mut stalled) = (0, 0);
    let mut furthest = partial.len()?;
    loop {
        let (reason, after) = match partial.resume(client, url, said, listen) {
            Ok(()) => return Ok(()),
            Err(Failure::Lasting(error)) => return Err(*error),
            Err(Failure::Passing { reason, after }) => (*reason, after),
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
        if delay > MAX_PAUSE {
            return Err(Error::Later { seconds: delay.as_secs(), source: reason.into() });
        }
        listen(TransferEvent::Waiting { reason: &reason, delay });
        std::thread::sleep(delay);
    }
}

/// Copies a file from a mirror and verifies it in the same way.
pub(crate) fn copy(
    source: &Path,
    spec: FileSpec<'_>,
    listen: &mut dyn FnMut(TransferEvent<'_>),
) -> Result<Downloaded> {
    let mut work = || -> Result<Downloaded> {
        let mut file = trilobite_format::open_regular(source).map_err(Error::io(source))?;
        let total = file.metadata().map_err(Error::io(source))?.len();
        let mut partial = Partial::open(spec.target)?;
        partial.start_over(Some(total))?;
        if let Err(failure) = partial.append(&mut file, listen) {
            partial.remove_if_empty()?;
            return Err(failure.into_reason());
        }
        let (bytes, sha256) = partial.finish(spec.target, spec.sha256)?;
        let verified = spec.sha256.map(|_| "pinned".to_owned());
        Ok(Downloaded { fetched: Fetched { bytes, sha256, verified }, revision: None })
    };
    work().map_err(|error| Error::Transfer {
        from: source.display().to_string(),
        to: spec.target.to_owned(),
        source: error.into(),
    })
}

/// Requests JSON from an API.
pub(crate) fn json<T: DeserializeOwned>(
    client: &Client,
    url: &str,
    listen: &mut dyn FnMut(TransferEvent<'_>),
) -> Result<T> {
    let mut work = || -> Result<T> {
        let folder = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
        let target = folder.path().join("answer.json");
        let spec = FileSpec { target: &target, sha256: None, stated: None, bytes: None };
        fetch(client, url, spec, listen)?;
        let bytes = std::fs::read(&target).map_err(Error::io(&target))?;
        let name = "its answer".to_owned();
        serde_json::from_slice(&bytes).map_err(|source| Error::Json { name, source })
    };
    work().map_err(|source| Error::Request { url: url.to_owned(), source: source.into() })
}

/// Reads a JSON file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    serde_json::from_slice(&bytes)
        .map_err(|source| Error::Json { name: path.display().to_string(), source })
}
