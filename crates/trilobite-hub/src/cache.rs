//! The cache folder for everything that is fetched or converted.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use crate::{Error, Result};

/// The cache folder: models in `models`, data sets in `data`, converted checkpoints in `converted`.
#[derive(Clone, Debug)]
pub struct Cache {
    /// The folder, or `None` if there is no home folder.
    root: Option<PathBuf>,
}

impl Cache {
    /// The folder in `TRILOBITE_HOME`, or `trilobite` in the user's cache folder.
    pub fn from_env() -> Self {
        let named = std::env::var_os("TRILOBITE_HOME").filter(|home| !home.is_empty());
        let root = named.map(PathBuf::from).or_else(|| {
            let base = etcetera::choose_base_strategy().ok()?;
            Some(base.cache_dir().join("trilobite"))
        });
        Cache { root }
    }

    /// A cache in a given folder, which need not exist.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Cache { root: Some(root.into()) }
    }

    /// The path of the cache folder.
    ///
    /// # Errors
    /// [`Error::NoHome`].
    pub fn root(&self) -> Result<&Path> {
        self.root.as_deref().ok_or(Error::NoHome)
    }

    /// The folder of the data sets, in the layout that tasks expect.
    ///
    /// # Errors
    /// [`Error::NoHome`].
    pub fn data(&self) -> Result<PathBuf> {
        Ok(self.root()?.join("data"))
    }

    /// The folder of the models, which contains a folder for each.
    pub(crate) fn models(&self) -> Result<PathBuf> {
        Ok(self.root()?.join("models"))
    }

    /// The folder of converted checkpoints.
    pub(crate) fn converted(&self) -> Result<PathBuf> {
        Ok(self.root()?.join("converted"))
    }
}
