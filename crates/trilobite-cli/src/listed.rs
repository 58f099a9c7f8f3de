//! The models of `models/models.toml`, and which of them have been pulled.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use trilobite_convert::Checkpoint;

use crate::home;

/// Name of the record that `pull` keeps in a model's folder.
pub(crate) const RECORD: &str = "pulled.json";

#[derive(Deserialize)]
struct Models {
    model: Vec<Listed>,
}

/// A published model, as far as it concerns fetching.
#[derive(Deserialize)]
pub(crate) struct Listed {
    pub(crate) name: String,
    /// Repository on the hub.
    pub(crate) repository: String,
    pub(crate) license: String,
    weights: String,
    /// The files that are needed; none where they are not known.
    #[serde(default)]
    pub(crate) files: Vec<String>,
    /// The commit, where it is known.
    pub(crate) revision: Option<String>,
    /// By file, where they are known.
    #[serde(default)]
    pub(crate) sha256: BTreeMap<String, String>,
}

/// What was fetched of a model.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) repository: String,
    /// The commit that all files are from, or the name that was asked for.
    pub(crate) revision: String,
    /// Whether nothing is missing.
    pub(crate) complete: bool,
    pub(crate) files: BTreeMap<String, Fetched>,
}

/// A file that was fetched.
#[derive(Serialize, Deserialize)]
pub(crate) struct Fetched {
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    /// What the hash was compared with: "pinned" in models.toml, what the "server" said, or nothing.
    pub(crate) verified: Option<String>,
}

impl Listed {
    /// All models.
    pub(crate) fn all() -> Result<Vec<Listed>> {
        let models: Models = toml::from_str(include_str!("../../../models/models.toml"))
            .context("models/models.toml")?;
        Ok(models.model)
    }

    /// The model of a name.
    pub(crate) fn named(name: &str) -> Result<Listed> {
        let mut all = Listed::all()?;
        let Some(at) = all.iter().position(|model| model.name == name) else {
            let names: Vec<_> = all.iter().map(|model| model.name.as_str()).collect();
            bail!("there is no model {name:?}; there are {}", names.join(", "));
        };
        Ok(all.swap_remove(at))
    }

    /// Whether a file of the repository, where its list is not known, belongs to the model.
    pub(crate) fn needs(&self, file: &str) -> bool {
        match self.weights.as_str() {
            "gguf" => file.ends_with(".gguf"),
            _ => Checkpoint::may_hold(file),
        }
    }

    /// The checkpoint folder or model file, if it has been pulled.
    pub(crate) fn pulled(&self) -> Result<Option<PathBuf>> {
        let folder = home::model(&self.name)?;
        let record = record(&folder)?.filter(|record| record.complete);
        let Some(record) = record else { return Ok(None) };
        let gguf = record.files.keys().find(|name| name.ends_with(".gguf"));
        Ok(Some(gguf.map_or(folder.clone(), |name| folder.join(name))))
    }
}

/// The record in a model's folder.
pub(crate) fn record(folder: &Path) -> Result<Option<Record>> {
    let path = folder.join(RECORD);
    if !path.exists() {
        return Ok(None);
    }
    let read = || Ok::<_, anyhow::Error>(serde_json::from_slice(&std::fs::read(&path)?)?);
    Ok(Some(read().with_context(|| path.display().to_string())?))
}

/// What a MODEL argument means: the path itself, or the folder of a pulled model of that name.
pub(crate) fn resolve(argument: &Path) -> Result<Cow<'_, Path>> {
    if argument.exists() {
        return Ok(Cow::Borrowed(argument));
    }
    let listed = argument.to_str().and_then(|name| Listed::named(name).ok());
    let Some(listed) = listed else { return Ok(Cow::Borrowed(argument)) };
    match listed.pulled()? {
        Some(path) => Ok(Cow::Owned(path)),
        None => bail!("it has not been pulled; `trilobite pull {}` fetches it", listed.name),
    }
}
