//! Events of a download.

use std::fmt;
use std::time::Duration;

use crate::{Error, Fetched, Size};

/// Receives events.
pub type Listener<'a> = dyn FnMut(Event<'_>) + 'a;

/// An event while models or data sets are fetched. Its text form is a line for people.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A server or mirror has the model.
    Model {
        /// The model.
        name: &'a str,
        /// Its repository.
        repository: &'a str,
        /// Its licence, if it is known.
        license: Option<&'a str>,
    },
    /// A file is already stored.
    Present {
        /// The file.
        file: &'a str,
    },
    /// A stored file has changed and is fetched again.
    Damaged {
        /// The file.
        file: &'a str,
    },
    /// Bytes of a file have arrived.
    Progress {
        /// The file.
        file: &'a str,
        /// Number of bytes so far.
        done: u64,
        /// Size of the file in bytes, if it is known.
        total: Option<u64>,
    },
    /// An attempt failed and will be repeated.
    Waiting {
        /// The file.
        file: &'a str,
        /// The error of the attempt.
        reason: &'a Error,
        /// Time until the next attempt.
        delay: Duration,
    },
    /// A file is complete.
    Fetched {
        /// The file.
        file: &'a str,
        /// The description of the file.
        fetched: &'a Fetched,
    },
    /// All files of a model are stored.
    Complete {
        /// The commit, or what is known of the revision.
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
                let (size, compared) = (Size(fetched.bytes), fetched.compared());
                write!(f, "{file}: {size}, sha256 {}, {compared}", fetched.sha256)
            }
            Event::Complete { revision } => write!(f, "revision {revision}"),
        }
    }
}
