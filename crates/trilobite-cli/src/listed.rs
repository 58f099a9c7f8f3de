//! The models of `models/models.toml`, and which of them have been pulled.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use trilobite_convert::Checkpoint;

use crate::{home, suggest};

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

    /// The model of a name, or of its repository's name on the hub.
    pub(crate) fn named(name: &str) -> Result<Listed> {
        let mut all = Listed::all()?;
        find(&mut all, name).with_context(|| {
            format!("there is no model {name:?}; {}", suggest::hint(name, names(&all)))
        })
    }

    /// Whether a name means this model: its own or its repository's, with the owner or without, in
    /// any case and punctuation.
    fn is_called(&self, name: &str) -> bool {
        let last = self.repository.rsplit('/').next().unwrap_or_default();
        let name = suggest::fold(name.trim_start_matches("https://huggingface.co/"));
        [&self.name, &self.repository, last].iter().any(|own| suggest::fold(own) == name)
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
    if argument.try_exists()? {
        return Ok(Cow::Borrowed(argument));
    }
    let name = argument.to_string_lossy();
    let mut all = Listed::all()?;
    if !is_path(&name)
        && let Some(listed) = find(&mut all, &name)
    {
        return match listed.pulled()? {
            Some(path) => Ok(Cow::Owned(path)),
            None => bail!("it has not been pulled; `trilobite pull {}` fetches it", listed.name),
        };
    }
    let stem = argument.file_name().unwrap_or_default().to_string_lossy();
    match suggest::nearest(&stem, names(&all)) {
        Some(near) => bail!(
            "there is no such file or folder, and no model of that name; did you mean {near}? \
             `trilobite pull {near}` fetches it"
        ),
        None => bail!(
            "there is no such file or folder, and no model of that name; `trilobite pull` lists \
             the models"
        ),
    }
}

fn names(models: &[Listed]) -> impl Iterator<Item = &str> + Clone {
    models.iter().map(|model| model.name.as_str())
}

/// Takes the model of a name out of the list.
fn find(models: &mut Vec<Listed>, name: &str) -> Option<Listed> {
    let at = models.iter().position(|model| model.is_called(name))?;
    Some(models.swap_remove(at))
}

/// Whether a text can mean nothing but a file or a folder.
fn is_path(text: &str) -> bool {
    let text = text.trim_start_matches("https://huggingface.co/");
    text.starts_with(['.', '/', '~'])
        || text.contains('\\')
        || text.trim_end_matches('/').matches('/').count() > 1
        || [".gguf", ".safetensors", ".json"].iter().any(|ending| text.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_found_under_every_spelling_of_their_names() {
        let named = |name: &str| Some(find(&mut Listed::all().unwrap(), name)?.name);
        for spelling in [
            "bitnet-b1.58-2b-4t",
            "bitnet-b1.58-2B-4T",
            "BitNet_b1_58_2B_4T/",
            "microsoft/bitnet-b1.58-2B-4T",
            "Microsoft/BitNet-b1.58-2B-4T",
            "https://huggingface.co/microsoft/bitnet-b1.58-2B-4T",
        ] {
            assert_eq!(named(spelling).as_deref(), Some("bitnet-b1.58-2b-4t"), "{spelling}");
        }
        assert_eq!(named("1bitLLM/bitnet_b1_58-large").as_deref(), Some("1bitllm-large"));
        for other in ["someone/bitnet-b1.58-2B-4T", "bitnet-b1.58-2b", "", "/"] {
            assert_eq!(named(other), None, "{other}");
        }
        // No two models share a spelling.
        for model in Listed::all().unwrap() {
            assert_eq!(named(&model.name).as_deref(), Some(&*model.name));
            assert_eq!(named(&model.repository).as_deref(), Some(&*model.name));
        }
    }

    #[test]
    fn a_path_that_is_absent_is_no_name() {
        for path in ["./llama-3.2-1b", "/m/llama-3.2-1b", "llama-3.2-1b.gguf", "a/b/llama-3.2-1b"] {
            let said = resolve(Path::new(path)).unwrap_err().to_string();
            let near =
                "no such file or folder, and no model of that name; did you mean llama-3.2-1b";
            assert!(said.contains(near), "{path}: {said}");
        }
        let said = resolve(Path::new("mistral-7b")).unwrap_err().to_string();
        assert!(said.ends_with("`trilobite pull` lists the models"), "{said}");
    }
}
