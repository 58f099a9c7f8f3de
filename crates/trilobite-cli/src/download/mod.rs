//! Files fetched over HTTP or copied from a mirror: whole and verified, or not there.
//!
//! What has come so far lies in TARGET.partial, and in TARGET.partial.json what the server called
//! that version of the file, so that a later attempt, in this process or another, goes on where the
//! last one stopped and never joins the pieces of two versions.

mod http;
mod partial;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

pub(crate) use self::http::{Client, Token};
use self::partial::Partial;
pub(crate) use self::partial::sha256;

/// Failures in a row, none of which brought the file further, that are borne.
const PATIENCE: u32 = 6;
/// Failures of one file that are borne in all.
const ENDURANCE: u32 = 1000;
/// The longest time that is waited because a server asks for it.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// A file that is to be.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// Where it will lie.
    pub(crate) target: &'a Path,
    /// What its SHA-256 has to be; of what it unpacks to will do.
    pub(crate) sha256: Option<&'a str>,
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
    Waiting { reason: &'a anyhow::Error, delay: Duration },
}

/// Why an attempt ended without the whole file.
enum Failure {
    /// Another attempt may do.
    Passing { reason: anyhow::Error, after: Option<Duration> },
    /// Another attempt would end the same way.
    Final(anyhow::Error),
}

impl Failure {
    fn passing(reason: impl Into<anyhow::Error>) -> Self {
        Failure::Passing { reason: reason.into(), after: None }
    }
}

/// What a server said of a file beside its bytes.
#[derive(Default)]
struct Said {
    revision: Option<String>,
    sha256: Option<String>,
}

/// Fetches a file; another process's partial file is gone on with.
pub(crate) fn download(
    client: &Client,
    url: &str,
    wanted: Wanted<'_>,
    listen: &mut dyn FnMut(Event<'_>),
) -> Result<Got> {
    let mut attempts = || -> Result<Got> {
        let mut partial = Partial::open(wanted.target)?;
        let mut said = Said::default();
        let mut failures = 0;
        let mut fruitless = 0;
        let mut furthest = partial.len()?;
        loop {
            let failure = match partial.go_on(client, url, &mut said, listen) {
                Ok(()) => break,
                Err(failure) => failure,
            };
            let (reason, after) = match failure {
                Failure::Final(error) => return Err(error),
                Failure::Passing { reason, after } => (reason, after),
            };
            let len = partial.len()?;
            fruitless = if len > furthest { 0 } else { fruitless + 1 };
            failures += 1;
            furthest = furthest.max(len);
            if fruitless == PATIENCE || failures == ENDURANCE {
                return Err(reason.context(match failures {
                    PATIENCE => format!("gave up after {PATIENCE} attempts"),
                    _ => {
                        format!("gave up after {failures} attempts at {len} bytes, which are kept")
                    }
                }));
            }
            let backoff = match fruitless {
                0 => Duration::from_millis(100),
                n => Duration::from_secs(1 << (n - 1)),
            };
            let delay = after.unwrap_or(backoff);
            if delay > LONGEST_WAIT {
                let message = format!("the server asks to come back in {} s", delay.as_secs());
                return Err(reason.context(message));
            }
            listen(Event::Waiting { reason: &reason, delay });
            std::thread::sleep(delay);
        }
        let (expected, by) = match (wanted.sha256, &said.sha256) {
            (Some(pinned), _) => (Some(pinned), "pinned"),
            (None, said) => (said.as_deref(), "server"),
        };
        let (bytes, sha256) = partial.finish(wanted.target, expected)?;
        let verified = expected.map(|_| by);
        Ok(Got { bytes, sha256, verified, revision: said.revision.take() })
    };
    attempts().with_context(|| format!("{url} to {}", wanted.target.display()))
}

/// Copies a file from a mirror, with the same verification.
pub(crate) fn copy(
    source: &Path,
    wanted: Wanted<'_>,
    listen: &mut dyn FnMut(Event<'_>),
) -> Result<Got> {
    let mut work = || -> Result<Got> {
        let mut file = trilobite_format::open_regular(source)?;
        let total = file.metadata()?.len();
        let mut partial = Partial::open(wanted.target)?;
        partial.start_over()?;
        partial.append(&mut file, Some(total), listen).map_err(|failure| match failure {
            Failure::Passing { reason, .. } | Failure::Final(reason) => reason,
        })?;
        let (bytes, sha256) = partial.finish(wanted.target, wanted.sha256)?;
        let verified = wanted.sha256.map(|_| "pinned");
        Ok(Got { bytes, sha256, verified, revision: None })
    };
    work().with_context(|| format!("{} to {}", source.display(), wanted.target.display()))
}

/// A small text, such as an answer of an interface.
pub(crate) fn text(client: &Client, url: &str) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let target = folder.path().join("answer");
    download(client, url, Wanted { target: &target, sha256: None }, &mut |_| ())?;
    std::fs::read_to_string(&target).map_err(|error| anyhow!(error).context(url.to_owned()))
}
