//! Models split into several files by llama.cpp's `gguf-split`. Each file is a GGUF file with some
//! of the tensors; the first has all of the metadata.

use std::collections::HashMap;

use crate::{Error, Gguf, Metadata};

use crate::keys::{SPLIT_COUNT as COUNT, SPLIT_INDEX as INDEX, SPLIT_TENSORS as TENSORS};

/// The place of a file among the parts of a split model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// The part, from 0.
    pub index: u64,
    /// Number of parts, at least 2.
    pub count: u64,
}

impl Split {
    /// Reads `split.no` and `split.count`. `None` for a model in one file.
    ///
    /// # Errors
    /// Values that are not integers, or an index that is not below the count.
    pub fn of(metadata: &Metadata) -> Result<Option<Split>, Error> {
        let count = metadata.u64(COUNT)?.unwrap_or(1);
        let index = metadata.u64(INDEX)?.unwrap_or(0);
        if count <= 1 {
            return Ok(None);
        }
        if index < count {
            return Ok(Some(Split { index, count }));
        }
        Err(Error::Part { part: index + 1, count, found: format!("part {}", index + 1) })
    }

    /// The file names of all parts, in order. `name` is the file name of this part.
    ///
    /// # Errors
    /// `name` does not end in `-00001-of-00003.gguf` with the numbers of this part.
    pub fn names(self, name: &str) -> Result<impl Iterator<Item = String> + use<>, Error> {
        let Split { index, count } = self;
        let ending = move |index: u64| format!("-{:05}-of-{count:05}.gguf", index + 1);
        let stem = name
            .strip_suffix(&ending(index))
            .map(str::to_owned)
            .ok_or_else(|| Error::PartName { name: name.to_owned(), part: index + 1, count })?;
        Ok((0..count).map(move |index| stem.clone() + &ending(index)))
    }
}

impl Gguf {
    /// Joins the indexes of all parts, given in order, into the index of the model. The `part` of
    /// each tensor says which file holds it.
    ///
    /// # Errors
    /// The parts do not belong together, or two of them have a tensor of the same name.
    pub fn join(parts: Vec<Gguf>) -> Result<Gguf, Error> {
        let count = parts.len() as u64;
        let mut parts = parts.into_iter().enumerate().map(|(part, gguf)| {
            let found = match Split::of(&gguf.metadata)? {
                Some(split) if split == (Split { index: part as u64, count }) => {
                    return Ok((part, gguf));
                }
                Some(split) => format!("part {} of {}", split.index + 1, split.count),
                None => "no part".to_owned(),
            };
            Err(Error::Part { part: part as u64 + 1, count, found })
        });
        let (_, mut joined) = parts.next().unwrap_or(Err(Error::Part {
            part: 1,
            count,
            found: "absent".to_owned(),
        }))?;
        for part in parts {
            let (part, gguf) = part?;
            joined.tensors.extend(gguf.tensors.into_iter().map(|mut info| {
                info.part = part;
                info
            }));
        }
        joined.index = HashMap::with_capacity(joined.tensors.len());
        for (i, info) in joined.tensors.iter().enumerate() {
            if joined.index.insert(info.name.clone(), i).is_some() {
                return Err(Error::DuplicateTensor(info.name.clone()));
            }
        }
        let found = joined.tensors.len() as u64;
        match joined.metadata.u64(TENSORS)? {
            Some(expected) if expected != found => {
                return Err(Error::PartTensors { expected, found });
            }
            _ => {}
        }
        for key in [INDEX, COUNT, TENSORS] {
            joined.metadata.remove(key);
        }
        Ok(joined)
    }
}

#[cfg(test)]
mod tests;
