//! Where what was fetched lies.

use std::path::PathBuf;

use anyhow::{Context, Result};
use etcetera::BaseStrategy;

/// The folder of everything that was fetched: the environment's TRILOBITE_HOME, or `trilobite` in
/// the user's cache folder.
pub(crate) fn folder() -> Result<PathBuf> {
    folder_or(|base| base.cache_dir())
}

/// What was typed in chats: in TRILOBITE_HOME, or in the user's folder for what programs remember.
pub(crate) fn chat_history() -> Result<PathBuf> {
    let folder = folder_or(|base| base.state_dir().unwrap_or_else(|| base.data_dir()))?;
    Ok(folder.join("chat-history"))
}

/// The environment's TRILOBITE_HOME, or `trilobite` in one of the user's folders.
fn folder_or(user: impl Fn(&dyn BaseStrategy) -> PathBuf) -> Result<PathBuf> {
    match std::env::var_os("TRILOBITE_HOME").filter(|home| !home.is_empty()) {
        Some(home) => Ok(home.into()),
        None => {
            let base = etcetera::choose_base_strategy()
                .context("there is no home folder; TRILOBITE_HOME names another")?;
            Ok(user(&base).join("trilobite"))
        }
    }
}

/// The folder of a model.
pub(crate) fn model(name: &str) -> Result<PathBuf> {
    Ok(folder()?.join("models").join(name))
}

/// The folder of the data sets, laid out as the tasks expect.
pub(crate) fn data() -> Result<PathBuf> {
    Ok(folder()?.join("data"))
}

/// The folder of checkpoints that were converted to be run.
pub(crate) fn converted() -> Result<PathBuf> {
    Ok(folder()?.join("converted"))
}
