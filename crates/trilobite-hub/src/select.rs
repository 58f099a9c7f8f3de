//! Selects the files of a repository that a model needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use trilobite_convert::Checkpoint;

use crate::download::read_json;
use crate::names::hint;
use crate::record::{INDEX, SINGLE};
use crate::source::Known;
use crate::{Error, Result};

/// Selects the requested file with all its parts, or a checkpoint, or the only GGUF file. The
/// shards of a checkpoint's index are not included.
pub(crate) fn select(repository: &str, all: &[Known], file: Option<&str>) -> Result<Vec<Known>> {
    if let Some(file) = file {
        return one_file(repository, all, file);
    }
    let needed: Vec<_> = all.iter().filter(|file| Checkpoint::may_hold(&file.name)).collect();
    let has = |name: &str| needed.iter().any(|file| file.name == name);
    let (single, index) = (has(SINGLE), has(INDEX));
    let chosen = |file: &&&Known| match file.name.as_str() {
        SINGLE => true,
        INDEX => !single,
        name => !name.ends_with(".safetensors") || !single && !index,
    };
    let chosen: Vec<_> = needed.iter().filter(chosen).map(|file| Known::clone(file)).collect();
    let weighs = |file: &Known| file.name == INDEX || file.name.ends_with(".safetensors");
    if chosen.iter().any(weighs) {
        return Ok(chosen);
    }
    let models = ggufs(all);
    match models.as_slice() {
        [] => {
            let endings = [".bin", ".pt", ".pth", ".onnx", ".h5", ".msgpack"];
            let other = all.iter().find(|file| endings.iter().any(|e| file.name.ends_with(e)));
            let other = other.map(|file| file.name.clone());
            Err(Error::NoWeights { repository: repository.to_owned(), other })
        }
        [only] => one_file(repository, all, &only.0),
        _ => Err(Error::ChooseFile { repository: repository.to_owned(), files: models }),
    }
}

/// Selects a GGUF file and all its parts.
fn one_file(repository: &str, all: &[Known], file: &str) -> Result<Vec<Known>> {
    let find = |name: &str| all.iter().find(|known| known.name == name).cloned();
    let Some(known) = find(file) else {
        let models = ggufs(all);
        let hint = match models.is_empty() {
            true => "it holds no GGUF files".to_owned(),
            false => hint(file, models.iter().map(|(name, _)| name.as_str())),
        };
        let (repository, file) = (repository.to_owned(), file.to_owned());
        return Err(Error::NoFile { repository, file, hint });
    };
    if !file.ends_with(".gguf") {
        return Err(Error::NotGguf(file.to_owned()));
    }
    let Some((_, names)) = parts(file) else { return Ok(vec![known]) };
    let missing = |name: String| Error::MissingPart {
        repository: repository.to_owned(),
        file: name,
        by: file.to_owned(),
    };
    names.map(|name| find(&name).ok_or_else(|| missing(name))).collect()
}

/// The GGUF models of a repository with their sizes. A model in parts is listed by its first part.
fn ggufs(all: &[Known]) -> Vec<(String, Option<u64>)> {
    let bytes = |name: &str| all.iter().find(|file| file.name == name)?.bytes;
    let files = all.iter().filter(|file| file.name.ends_with(".gguf"));
    files
        .filter_map(|file| match parts(&file.name) {
            Some((0, names)) => Some((file.name.clone(), names.map(|n| bytes(&n)).sum())),
            Some(_) => None,
            None => Some((file.name.clone(), file.bytes)),
        })
        .collect()
}

/// The index of a part and the names of all, for a name such as `...-00001-of-00003.gguf`.
fn parts(name: &str) -> Option<(u64, impl Iterator<Item = String> + use<>)> {
    const DIGITS: usize = 5;
    let (left, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (stem, number) = left.rsplit_once('-')?;
    let value = |text: &str| {
        let digits = text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u64>().ok()).flatten()
    };
    let (number, count) = (value(number)?, value(count)?);
    let stem = stem.to_owned();
    let names = (1..=count).map(move |part| format!("{stem}-{part:05}-of-{count:05}.gguf"));
    (1..=count).contains(&number).then(|| (number - 1, names))
}

/// The files that an index names.
pub(crate) fn shards(repository: &str, index: &Path, all: &[Known]) -> Result<Vec<Known>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index: Index = read_json(index)?;
    let names: BTreeSet<_> = index.weight_map.into_values().collect();
    let find = |name: String| {
        let known = all.iter().find(|known| known.name == name && !name.contains(['/', '\\']));
        known.cloned().ok_or_else(|| Error::MissingPart {
            repository: repository.to_owned(),
            file: name,
            by: INDEX.to_owned(),
        })
    };
    names.into_iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(all: &[&str], file: Option<&str>) -> Result<Vec<String>, String> {
        let all: Vec<_> = all.iter().map(|name| Known::by_name(name)).collect();
        let files = select("o/r", &all, file).map_err(|error| error.to_string())?;
        Ok(files.into_iter().map(|file| file.name).collect())
    }

    fn assert_takes(all: &[&str], file: Option<&str>, expected: &[&str]) {
        assert_eq!(selected(all, file).unwrap(), expected, "{all:?}");
    }

    #[test]
    fn a_checkpoint_is_what_the_converter_reads() {
        let beside = [
            ".gitattributes",
            "README.md",
            "config.json",
            "pytorch_model.bin",
            "onnx/model.onnx",
            "original/model.safetensors",
            "tokenizer.json",
            "tokenizer.model",
            "1_Pooling/config.json",
            "2_Dense/config.json",
            "../escape.safetensors",
            "q8.gguf",
        ];
        let with = |more: &[&'static str]| [&beside, more].concat();
        let side = ["config.json", "tokenizer.json", "tokenizer.model", "1_Pooling/config.json"];
        for weights in [&["model.safetensors"][..], &["other.safetensors"]] {
            assert_takes(&with(weights), None, &[&side, weights].concat());
        }
        // A single file is preferred to an index, and an index to files that it may not name.
        let shards = ["consolidated.safetensors", "model-00001-of-00001.safetensors", INDEX];
        assert_takes(&with(&shards), None, &[&side[..], &[INDEX]].concat());
        let all = with(&[&shards[..], &[SINGLE]].concat());
        assert_takes(&all, None, &[&side[..], &[SINGLE]].concat());
    }

    #[test]
    fn gguf_files_are_models_of_their_own() {
        let split = ["b/m-00001-of-00002.gguf", "b/m-00002-of-00002.gguf"];
        let all = [&["README.md", "a.gguf"][..], &split].concat();
        assert_takes(&all, Some("a.gguf"), &["a.gguf"]);
        for part in split {
            assert_takes(&all, Some(part), &split);
        }
        assert_takes(&["config.json", "a.gguf"], None, &["a.gguf"]);
        assert_takes(&split, None, &split);
        let said = selected(&all, None).unwrap_err();
        let names = "a.gguf, b/m-00001-of-00002.gguf";
        assert_eq!(said, format!("o/r holds GGUF files only, and more than one: {names}"));
        let said = selected(&all, Some("A-gguf")).unwrap_err();
        assert_eq!(said, "o/r has no file \"A-gguf\"; did you mean a.gguf?");
        let said = selected(&split[..1], None).unwrap_err();
        assert_eq!(said, "o/r has no b/m-00002-of-00002.gguf, which b/m-00001-of-00002.gguf names");
        let said = selected(&all, Some("README.md")).unwrap_err();
        assert!(said.contains("is not a GGUF file"), "{said}");
        // Invalid numbers of parts.
        let odd = ["m-00003-of-00002.gguf"];
        assert_takes(&odd, None, &odd);
        let said = selected(&["README.md", "pytorch_model.bin"], None).unwrap_err();
        assert_eq!(
            said,
            "o/r holds no weights as safetensors or GGUF; pytorch_model.bin is not read"
        );
    }
}
