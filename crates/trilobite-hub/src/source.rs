//! Sources of files: a server or a local mirror.

use std::path::PathBuf;

use serde::Deserialize;

use crate::download::{self, Client, Token, is_hex};
use crate::record::BRANCH;
use crate::{Error, Result};

/// The default server of models. `HF_ENDPOINT` overrides it.
const HUB: &str = "https://huggingface.co";
/// The default server of files in GitHub repositories. `TRILOBITE_DATA_ENDPOINT` overrides it.
const DATA: &str = "https://raw.githubusercontent.com";

/// A source of files.
pub enum Source {
    /// A server.
    Server(Server),
    /// A folder with a copy of the files.
    Mirror(PathBuf),
}

/// A server and its access token.
pub struct Server {
    pub(crate) client: Client,
    pub(crate) endpoint: String,
}

impl Source {
    /// The hub in `HF_ENDPOINT`, by default huggingface.co. The access token is `token`, or else
    /// the one in `HF_TOKEN`, or the one stored by the hub's own client. It is sent to this server
    /// only.
    pub fn hub(token: Option<String>) -> Source {
        let endpoint = endpoint("HF_ENDPOINT", HUB);
        let token = token.or_else(token_of_environment).filter(|token| !token.trim().is_empty());
        let token = token.map(|token| Token::new(&endpoint, token.trim()));
        Source::Server(Server { client: Client::new(token), endpoint })
    }

    /// The server of data sets in `TRILOBITE_DATA_ENDPOINT`, by default GitHub's.
    pub fn data() -> Source {
        let endpoint = endpoint("TRILOBITE_DATA_ENDPOINT", DATA);
        Source::Server(Server { client: Client::new(None), endpoint })
    }

    /// The address or folder.
    pub(crate) fn address(&self) -> String {
        match self {
            Source::Server(server) => server.endpoint.clone(),
            Source::Mirror(folder) => folder.display().to_string(),
        }
    }
}

fn endpoint(variable: &str, default: &str) -> String {
    let named = std::env::var(variable).ok().filter(|endpoint| !endpoint.is_empty());
    named.unwrap_or_else(|| default.into()).trim_end_matches('/').to_owned()
}

/// Finds the token as the hub's own client does: in `HF_TOKEN`, or else in the file
/// `HF_TOKEN_PATH`, by default `token` in `HF_HOME`, which is `huggingface` in the user's cache
/// folder.
fn token_of_environment() -> Option<String> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(token) = variable("HF_TOKEN") {
        return token.into_string().ok();
    }
    let path = variable("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| {
        let home = variable("HF_HOME").map(PathBuf::from).or_else(|| {
            let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
            let cache = cache.or_else(|| Some(etcetera::home_dir().ok()?.join(".cache")));
            Some(cache?.join("huggingface"))
        });
        Some(home?.join("token"))
    });
    // Without this file the user has not logged in.
    std::fs::read_to_string(path?).ok()
}

/// The response of the hub's API about a repository.
#[derive(Deserialize)]
struct Description {
    sha: Option<String>,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

/// A file in the response.
#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Default, Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

/// The files of a repository at a revision.
pub(crate) struct Listing {
    /// The commit, if the server names it.
    pub(crate) commit: Option<String>,
    pub(crate) files: Vec<Known>,
}

/// A file, and what is known about it before it is fetched.
#[derive(Clone, Default)]
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) sha256: Option<String>,
    pub(crate) bytes: Option<u64>,
}

impl Known {
    /// A file of which only the name is known.
    pub(crate) fn by_name(name: &str) -> Known {
        Known { name: name.to_owned(), ..Known::default() }
    }
}

impl Server {
    /// The address of a file.
    pub(crate) fn file_url(&self, repository: &str, revision: &str, file: &str) -> String {
        let (revision, file) = (encode(revision, ""), encode(file, "/"));
        format!("{}/{repository}/resolve/{revision}/{file}", self.endpoint)
    }

    /// Requests the list of a repository's files.
    pub(crate) fn list(
        &self,
        repository: &str,
        revision: &str,
        listen: &mut dyn FnMut(download::TransferEvent<'_>),
    ) -> Result<Listing> {
        let model = format!("{}/api/models/{repository}", self.endpoint);
        let at_revision = format!("{model}/revision/{}", encode(revision, ""));
        let mut ask = |url: &str| download::json::<Description>(&self.client, url, listen);
        let mut answer = ask(&format!("{at_revision}?blobs=true"));
        // Mirrors may lack parts of the hub's API.
        if answer.as_ref().is_err_and(is_unexplained) {
            answer = ask(&at_revision).or(answer);
        }
        if answer.as_ref().is_err_and(is_unexplained) {
            answer = match ask(&model) {
                Ok(description) if revision == BRANCH => Ok(description),
                Ok(_) => answer.map_err(|source| Error::NoRevision {
                    repository: repository.to_owned(),
                    revision: revision.to_owned(),
                    source: source.into(),
                }),
                Err(_) => answer.map_err(|source| Error::NoRepository {
                    repository: repository.to_owned(),
                    source: source.into(),
                }),
            };
        }
        let description = answer.map_err(|error| self.explain(error, repository, revision))?;
        let files = description.siblings.into_iter().map(|file| {
            let Sibling { rfilename: name, size, lfs } = file;
            let Lfs { sha256, size: lfs_size } = lfs.unwrap_or_default();
            let sha256 = sha256.filter(|hash| is_hex(hash, 64));
            let sha256 = sha256.map(|hash| hash.to_ascii_lowercase());
            Known { name, sha256, bytes: lfs_size.or(size) }
        });
        let commit = description.sha.filter(|sha| is_hex(sha, 40));
        Ok(Listing { commit, files: files.collect() })
    }

    /// Converts a refusal of the hub into a more specific error.
    pub(crate) fn explain(&self, error: Error, repository: &str, revision: &str) -> Error {
        let Some(Error::Refused { host, status, code, token }) = error.refusal() else {
            return error;
        };
        // The meaning of a refusal by a server that the hub redirects to is unknown.
        if *host != download::host(&self.endpoint) {
            return error;
        }
        let (status, code, token) = (*status, code.clone(), *token);
        let (repository, revision) = (repository.to_owned(), revision.to_owned());
        let page = format!("{}/{repository}", self.endpoint);
        let source = Box::new(error);
        match (code.as_deref(), status) {
            (Some("GatedRepo"), _) => Error::Gated { repository, page, token, source },
            (Some("RevisionNotFound"), _) => Error::NoRevision { repository, revision, source },
            (_, 401 | 403) => Error::NoAccess { repository, page, token, source },
            (Some("RepoNotFound"), _) => Error::NoRepository { repository, source },
            _ => *source,
        }
    }
}

/// Whether a server reports that an address does not exist, without details.
fn is_unexplained(error: &Error) -> bool {
    matches!(error.refusal(), Some(Error::Refused { status: 404, code: None, .. }))
}

/// Percent-encodes a path. Characters in `also` are kept.
pub(crate) fn encode(path: &str, also: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let mut text = String::new();
    for byte in path.bytes() {
        match plain(byte) || also.as_bytes().contains(&byte) {
            true => text.push(byte.into()),
            false => text += &format!("%{byte:02X}"),
        }
    }
    text
}
