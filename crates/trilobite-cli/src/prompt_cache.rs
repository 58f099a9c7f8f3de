//! The file in which a run keeps keys and values for the next run.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use trilobite_runtime::{Sequence, Session, TextKey};

#[derive(Args)]
pub(crate) struct PromptCacheArgs {
    /// Keep the keys and values of prompt and answer in this file, so that the next run with the
    /// same beginning does not compute them again; the answer is the same
    #[arg(long, value_name = "FILE")]
    prompt_cache: Option<PathBuf>,
    /// Use the file of --prompt-cache and leave it as it is
    #[arg(long, requires = "prompt_cache")]
    prompt_cache_ro: bool,
}

/// A file of keys and values, and what it holds.
pub(crate) struct PromptCache {
    path: PathBuf,
    key: TextKey,
    /// The tokens in the file.
    tokens: Vec<u32>,
    read_only: bool,
}

impl PromptCache {
    /// Loads the file into the session, if it exists.
    pub(crate) fn open(args: &PromptCacheArgs, session: &mut Session) -> Result<Option<Self>> {
        let Some(path) = &args.prompt_cache else { return Ok(None) };
        let (forward, sequence) = session.parts();
        let key = TextKey::new(forward);
        if args.prompt_cache_ro || exists(path) {
            sequence.load(path, key, forward.model().config())?;
        } else {
            // Fail now rather than after the answer.
            Sequence::can_save(path)?;
        }
        let (path, tokens) = (path.clone(), sequence.tokens().to_vec());
        Ok(Some(Self { path, key, tokens, read_only: args.prompt_cache_ro }))
    }

    /// Saves the session's tokens, unless the file has them.
    pub(crate) fn save(&mut self, session: &mut Session) -> Result<()> {
        let (_, sequence) = session.parts();
        if self.read_only || self.tokens.starts_with(sequence.tokens()) {
            return Ok(());
        }
        sequence.save(&self.path, self.key)?;
        self.tokens = sequence.tokens().to_vec();
        Ok(())
    }
}

/// Whether a path exists, including a broken link.
fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
