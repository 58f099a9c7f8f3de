//! The tensors of a Hugging Face checkpoint, across all its files.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Checkpoint, INDEX, safetensors};
use crate::Error;
use crate::source::View;

/// All tensors of a checkpoint by name. They are taken out as they are used; those that remain at
/// the end are unexpected.
#[derive(Debug)]
pub(crate) struct Shards<'a> {
    tensors: BTreeMap<String, View<'a>>,
    /// The file to name in errors about missing tensors.
    list: &'a str,
}

impl Checkpoint {
    /// The names of the shards in the index, checked to be plain file names.
    pub(crate) fn shard_names(&self) -> Result<BTreeSet<String>, Error> {
        self.weight_map()?.into_iter().map(|(tensor, shard)| plain(tensor, shard)).collect()
    }

    /// Reads the headers of all shards and checks them against the index.
    pub(crate) fn shards(&self) -> Result<Shards<'_>, Error> {
        if let Some(file) = self.file(&self.weights) {
            let views = safetensors::parse(&file.name, file)?;
            let tensors = views.into_iter().map(|view| (view.name.clone(), view)).collect();
            return Ok(Shards { tensors, list: &file.name });
        }
        let (map, names) = (self.weight_map()?, self.shard_names()?);
        let disagree = |tensor: &str, why| Error::Index {
            index: INDEX.to_owned(),
            tensor: tensor.to_owned(),
            why,
        };
        for (tensor, shard) in &map {
            if self.file(shard).is_none() {
                return Err(disagree(tensor, format!("is in {shard}, which does not exist")));
            }
        }
        let mut tensors: BTreeMap<String, View<'_>> = BTreeMap::new();
        for name in names {
            let Some(file) = self.file(&name) else { continue };
            for view in safetensors::parse(&file.name, file)? {
                if let Some(other) = tensors.get(&view.name) {
                    let why = format!("is in both {} and {name}", other.file);
                    return Err(disagree(&view.name, why));
                }
                match map.get(&view.name) {
                    Some(shard) if *shard == name => {}
                    Some(shard) => {
                        let why = format!("is listed in {shard}, but found in {name}");
                        return Err(disagree(&view.name, why));
                    }
                    None => {
                        let why = format!("is not listed, but found in {name}");
                        return Err(disagree(&view.name, why));
                    }
                }
                tensors.insert(view.name.clone(), view);
            }
        }
        if let Some((tensor, shard)) = map.iter().find(|(name, _)| !tensors.contains_key(*name)) {
            return Err(disagree(tensor, format!("is not in {shard}")));
        }
        Ok(Shards { tensors, list: INDEX })
    }

    /// The map from tensor name to shard in the index.
    fn weight_map(&self) -> Result<BTreeMap<String, String>, Error> {
        let index = self.json(INDEX)?.unwrap_or_default();
        let map = index.get("weight_map").and_then(Value::as_object);
        let bad = |key: &str, expected: &str| Error::Value {
            file: INDEX.to_owned(),
            key: key.to_owned(),
            expected: expected.to_owned(),
            found: index.get(key).map_or("missing".to_owned(), |_| "something else".to_owned()),
        };
        let map = map.ok_or_else(|| bad("weight_map", "an object of tensor and file names"))?;
        map.iter()
            .map(|(tensor, shard)| match shard.as_str() {
                Some(shard) => Ok((tensor.clone(), shard.to_owned())),
                None => Err(bad("weight_map", "an object of tensor and file names")),
            })
            .collect()
    }
}

/// Checks that a shard name is a plain file name, so that the index cannot refer outside the
/// checkpoint's folder.
fn plain(tensor: String, shard: String) -> Result<String, Error> {
    if shard.ends_with(".safetensors") && !shard.contains(['/', '\\', ':']) {
        return Ok(shard);
    }
    let why = format!("is in {shard:?}, which is no plain name of a .safetensors file");
    Err(Error::Index { index: INDEX.to_owned(), tensor, why })
}

impl<'a> Shards<'a> {
    pub(crate) fn get(&self, name: &str) -> Option<&View<'a>> {
        self.tensors.get(name)
    }

    /// Takes a tensor out, if there is one of this name.
    pub(crate) fn take(&mut self, name: &str) -> Option<View<'a>> {
        self.tensors.remove(name)
    }

    /// Takes a tensor out. It is an error if there is none of this name.
    pub(crate) fn require(&mut self, name: &str) -> Result<View<'a>, Error> {
        self.take(name).ok_or_else(|| self.missing(name))
    }

    /// Takes a tensor out. It is an error if there is none of this name and shape.
    pub(crate) fn require_shape(&mut self, name: &str, shape: &[u64]) -> Result<View<'a>, Error> {
        let view = self.require(name)?;
        if view.shape == shape {
            return Ok(view);
        }
        Err(Error::Shape {
            file: view.file.to_owned(),
            tensor: view.name,
            expected: shape.to_vec(),
            found: view.shape,
        })
    }

    /// Adds a tensor under a name. It is an error if there is one of this name.
    pub(crate) fn insert(&mut self, name: String, view: View<'a>) -> Result<(), Error> {
        match self.tensors.insert(name, view) {
            None => Ok(()),
            Some(View { file, name: tensor, .. }) => {
                Err(Error::Unexpected { file: file.to_owned(), tensor })
            }
        }
    }

    pub(crate) fn missing(&self, name: &str) -> Error {
        Error::Missing { file: self.list.to_owned(), tensor: name.to_owned() }
    }

    /// The error for a tensor that has a prefix before its name, if there is one.
    pub(crate) fn prefixed(&self, name: &str) -> Result<(), Error> {
        let ending = format!(".{name}");
        let found = self.tensors.keys().find_map(|tensor| {
            let prefix = &tensor[..tensor.strip_suffix(&ending)?.len() + 1];
            Some((prefix.to_owned(), tensor.clone()))
        });
        match found {
            Some((prefix, tensor)) => {
                Err(Error::Prefix { file: self.list.to_owned(), prefix, tensor })
            }
            None => Ok(()),
        }
    }

    /// The error for a missing head that is not tied to the embedding.
    pub(crate) fn no_head(&self, tensor: String) -> Error {
        Error::NoHead { file: self.list.to_owned(), tensor }
    }

    /// Renames every tensor to the result of `rename`, if that is another name and not in use.
    /// Errors keep the name in the file.
    pub(crate) fn rename(&mut self, rename: impl Fn(&str) -> Option<String>) {
        for name in self.tensors.keys().cloned().collect::<Vec<_>>() {
            if let Some(new) = rename(&name).filter(|new| !self.tensors.contains_key(new))
                && let Some(view) = self.tensors.remove(&name)
            {
                self.tensors.insert(new, view);
            }
        }
    }

    /// Drops all tensors for which `unwanted` is true. Returns their number.
    pub(crate) fn leave_out(&mut self, unwanted: impl Fn(&str, &View<'a>) -> bool) -> usize {
        let before = self.tensors.len();
        self.tensors.retain(|name, view| !unwanted(name, view));
        before - self.tensors.len()
    }

    /// Checks that all tensors have been taken out.
    pub(crate) fn require_empty(&self) -> Result<(), Error> {
        match self.tensors.values().next() {
            None => Ok(()),
            Some(view) => {
                Err(Error::Unexpected { file: view.file.to_owned(), tensor: view.name.clone() })
            }
        }
    }
}
