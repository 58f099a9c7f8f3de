//! What a pull reports.

use std::fmt;
use std::time::Duration;

use crate::{Error, Fetched, Size};

/// Hears of events.
pub type Listener<'a> = dyn FnMut(Event<'_>) + 'a;

/// What happens while models or data sets are pulled. As text it is a line for people.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A server or mirror has something of the model.
    Model {
        /// The model.
        name: &'a str,
        /// Its repository.
        repository: &'a str,
        /// Its licence, where it is known.
        license: Option<&'a str>,
    },
    /// A file has been fetched before.
    Present {
        /// The file.
        file: &'a str,
    },
    /// A file that was fetched before has changed and is fetched again.
    Damaged {
        /// The file.
        file: &'a str,
    },
    /// Bytes of a file came.
    Progress {
        /// The file.
        file: &'a str,
        /// Bytes so far.
        done: u64,
        /// Bytes of the file, where they are known.
        total: Option<u64>,
    },
    /// An attempt failed, and another one follows.
    Waiting {
        /// The file.
        file: &'a str,
        /// Why it failed.
        reason: &'a Error,
        /// Time until then.
        delay: Duration,
    },
    /// A file is complete.
    Fetched {
        /// The file.
        file: &'a str,
        /// What came.
        fetched: &'a Fetched,
    },
    /// All files of a model are there.
    Complete {
        /// The commit, as far as it is known.
        revision: &'a str,
    },
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Model { name, repository, license } => {
                write!(f, "{name}")?;
                if name != repository {
                    write!(f, ": {repository}")?;
                }
                license.map_or(Ok(()), |license| write!(f, ", licence: {license}"))
            }
            Event::Present { file } => write!(f, "{file} is there"),
            Event::Damaged { file } => {
                write!(f, "{file} is not what was fetched; it is fetched again")
            }
            Event::Progress { file, done, total } => match total {
                Some(total) => write!(f, "{file}: {} of {}", Size(*done), Size(*total)),
                None => write!(f, "{file}: {}", Size(*done)),
            },
            Event::Waiting { file, reason, delay } => {
                let (reason, seconds) = (reason.with_causes(), delay.as_secs_f64());
                write!(f, "{file}: {reason}; again in {seconds:.1} s")
            }
            Event::Fetched { file, fetched } => {
                let Fetched { bytes, sha256, verified } = fetched;
                let against = match verified.as_deref() {
                    Some("pinned") => ", as pinned",
                    Some(_) => ", as the server says",
                    None => ", compared with nothing",
                };
                write!(f, "{file}: {}, sha256 {sha256}{against}", Size(*bytes))
            }
            Event::Complete { revision } => write!(f, "revision {revision}"),
        }
    }
}
