//! Checkpoints with reference outputs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::npy::Array;

/// One checkpoint folder.
pub(crate) struct Fixture {
    pub(crate) folder: PathBuf,
}

/// The prompts of every checkpoint.
pub(crate) const PROMPTS: [&str; 4] = ["one", "short", "mid", "long"];

impl Fixture {
    /// A checkpoint of this repository.
    pub(crate) fn named(name: &str) -> Fixture {
        Fixture { folder: own_folder().join(name) }
    }

    /// A JSON file of the folder.
    pub(crate) fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let path = self.folder.join(path);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    /// The token ids of a prompt.
    pub(crate) fn prompt(&self, name: &str) -> Result<Vec<u32>> {
        let mut prompts: BTreeMap<String, Value> = self.json("golden/prompts.json")?;
        let prompt = prompts.get_mut(name).context("no such prompt")?;
        Ok(serde_json::from_value(prompt["ids"].take())?)
    }

    /// The reference logits of a prompt.
    pub(crate) fn logits(&self, prompt: &str) -> Result<Array> {
        Array::parse(&std::fs::read(self.folder.join(format!("golden/logits_{prompt}.npy")))?)
    }

    /// The folder itself if it is a checkpoint, and the GGUF files of the same model in it.
    pub(crate) fn sources(&self) -> Result<Vec<PathBuf>> {
        let (mut sources, mut folder) = (Vec::new(), false);
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("gguf") => sources.push(path),
                Some("safetensors") => folder = true,
                _ => {}
            }
        }
        if folder {
            sources.insert(0, self.folder.clone());
        }
        Ok(sources)
    }

    /// The first of its sources.
    pub(crate) fn source(&self) -> Result<PathBuf> {
        self.sources()?.into_iter().next().context("no model")
    }

    /// Whether its projections are ternary, as opposed to dense.
    pub(crate) fn is_ternary(&self) -> Result<bool> {
        let config: Value = self.json("config.json")?;
        Ok(config["quantization_config"]["quant_method"] == "bitnet"
            || config["architectures"][0] == "BitnetForCausalLM")
    }
}

/// `models/golden`.
pub(crate) fn own_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/golden")
}

/// `models/golden` and the folder that `TRILOBITE_GOLDEN` names.
pub(crate) fn roots() -> Vec<PathBuf> {
    [own_folder()]
        .into_iter()
        .chain(std::env::var_os("TRILOBITE_GOLDEN").map(PathBuf::from))
        .collect()
}

/// Checks every checkpoint, and fails with the errors of all.
pub(crate) fn for_each(check: impl Fn(&Fixture) -> Result<()>) {
    let mut failures = Vec::new();
    for root in roots() {
        let entries =
            std::fs::read_dir(&root).unwrap_or_else(|e| panic!("{}: {e}", root.display()));
        let mut fixtures: Vec<_> = entries
            .map(|entry| Fixture { folder: entry.unwrap().path() })
            .filter(|fixture| fixture.folder.join("config.json").exists())
            .collect();
        assert!(!fixtures.is_empty(), "{} has no checkpoints", root.display());
        fixtures.sort_by(|a, b| a.folder.cmp(&b.folder));
        for fixture in fixtures {
            if let Err(error) = check(&fixture) {
                failures.push(format!("{}: {error:#}", fixture.folder.display()));
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
