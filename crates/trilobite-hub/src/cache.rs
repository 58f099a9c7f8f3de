//! The folder of everything that is fetched or converted.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use crate::{Error, Result};

/// The cache folder: models in `models`, data sets in `data`, converted checkpoints in `converted`.
#[derive(Clone, Debug)]
pub struct Cache {
    /// `None` where there is no home folder.
    root: Option<PathBuf>,
}

impl Cache {
    /// The folder that TRILOBITE_HOME names, or `trilobite` in the user's cache folder.
    pub fn from_env() -> Self {
        let named = std::env::var_os("TRILOBITE_HOME").filter(|home| !home.is_empty());
        let root = named.map(PathBuf::from).or_else(|| {
            let base = etcetera::choose_base_strategy().ok()?;
            Some(base.cache_dir().join("trilobite"))
        });
        Cache { root }
    }

    /// A folder, which need not exist.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Cache { root: Some(root.into()) }
    }

    /// The folder itself.
    ///
    /// # Errors
    /// [`Error::NoHome`].
    pub fn root(&self) -> Result<&Path> {
        self.root.as_deref().ok_or(Error::NoHome)
    }

    /// The folder of the data sets, laid out as the tasks expect.
    ///
    /// # Errors
    /// [`Error::NoHome`].
    pub fn data(&self) -> Result<PathBuf> {
        Ok(self.root()?.join("data"))
    }

    /// The folder of the models, each in a folder of its own.
    pub(crate) fn models(&self) -> Result<PathBuf> {
        Ok(self.root()?.join("models"))
    }

    /// The folder of checkpoints that were converted to be run.
    pub(crate) fn converted(&self) -> Result<PathBuf> {
        Ok(self.root()?.join("converted"))
    }
}
