//! The header of a safetensors file.
//!
//! A file consists of the header's length (u64, little-endian), the header (a JSON object that maps
//! tensor names to type, shape and byte range) and the data. A parser of our own can name the first
//! incomplete tensor of a truncated shard.

use std::collections::HashSet;

use serde_json::Value;

use super::view::{Dtype, View};
use crate::Error;

/// Maximum header length in bytes, as in the reference implementation.
const MAX_HEADER: u64 = 100_000_000;

/// Parses all tensors of a file, in the order of their data. As the format requires, the tensors
/// must cover the data section without gaps and overlaps.
pub(crate) fn parse<'a>(file: &'a str, bytes: &'a [u8]) -> Result<Vec<View<'a>>, Error> {
    let invalid = |why: String| Error::Safetensors { file: file.to_owned(), why };
    let Some((len, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(invalid(format!("it has {} bytes, too few for a header", bytes.len())));
    };
    let len = u64::from_le_bytes(*len);
    if len > MAX_HEADER {
        return Err(invalid(format!("its header has {len} bytes, at most {MAX_HEADER} are read")));
    }
    let Some((header, data)) = rest.split_at_checked(len as usize) else {
        return Err(invalid(format!(
            "its header has {len} bytes, {} are left: the file is truncated",
            rest.len()
        )));
    };
    let entries: Entries =
        serde_json::from_slice(header).map_err(|source| invalid(source.to_string()))?;

    let mut seen = HashSet::new();
    let mut tensors = Vec::with_capacity(entries.0.len());
    for (name, entry) in &entries.0 {
        if name == "__metadata__" {
            continue;
        }
        if !seen.insert(name) {
            return Err(invalid(format!("tensor {name} occurs twice")));
        }
        let (dtype, shape, start, end) =
            read_entry(entry).map_err(|why| invalid(format!("tensor {name} {why}")))?;
        tensors.push((start, end, dtype, name, shape));
    }
    tensors.sort_by_key(|&(start, end, ..)| (start, end));

    let mut views = Vec::with_capacity(tensors.len());
    let mut next = 0;
    for (start, end, dtype, name, shape) in tensors {
        if start != next {
            return Err(invalid(format!(
                "tensor {name} starts at offset {start}, the one before it ends at {next}"
            )));
        }
        next = end;
        // `read_entry` has checked start <= end.
        let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        let Some(bytes) = range.and_then(|(start, end)| data.get(start..end)) else {
            return Err(Error::Truncated {
                file: file.to_owned(),
                tensor: name.clone(),
                needed: end.saturating_add(8 + len),
                found: bytes.len() as u64,
            });
        };
        views.push(View { file, name: name.clone(), dtype, shape, bytes });
    }
    if next != data.len() as u64 {
        return Err(invalid(format!(
            "it has {} bytes behind its last tensor",
            data.len() as u64 - next
        )));
    }
    Ok(views)
}

/// Parses type, shape and byte range of a header entry, and checks that they agree.
fn read_entry(entry: &Value) -> Result<(Dtype, Vec<u64>, u64, u64), String> {
    let dtype = match entry.get("dtype").and_then(Value::as_str) {
        Some("F32") => Dtype::F32,
        Some("F16") => Dtype::F16,
        Some("BF16") => Dtype::Bf16,
        Some("U8") => Dtype::U8,
        Some("I8") => Dtype::I8,
        // Buffers can have any type.
        Some("F64") => Dtype::Other("F64", 8),
        Some("I64") => Dtype::Other("I64", 8),
        Some("U64") => Dtype::Other("U64", 8),
        Some("I32") => Dtype::Other("I32", 4),
        Some("U32") => Dtype::Other("U32", 4),
        Some("I16") => Dtype::Other("I16", 2),
        Some("U16") => Dtype::Other("U16", 2),
        Some("BOOL") => Dtype::Other("BOOL", 1),
        Some(other) => return Err(format!("has the unsupported type {other}")),
        None => return Err("has no `dtype`".to_owned()),
    };
    let numbers = |key: &str| -> Option<Vec<u64>> {
        entry.get(key)?.as_array()?.iter().map(Value::as_u64).collect()
    };
    let shape = numbers("shape").ok_or("has no valid `shape`")?;
    let offsets = numbers("data_offsets").ok_or("has no valid `data_offsets`")?;
    let &[start, end] = offsets.as_slice() else {
        return Err("has no valid `data_offsets`".to_owned());
    };
    let size = shape
        .iter()
        .try_fold(dtype.size() as u64, |size, &n| size.checked_mul(n))
        .ok_or_else(|| format!("has the impossible shape {shape:?}"))?;
    if end.checked_sub(start) != Some(size) {
        return Err(format!(
            "has the byte range {start}..{end}, but {dtype} {shape:?} is {size} bytes"
        ));
    }
    Ok((dtype, shape, start, end))
}

/// The entries of a JSON object in file order, including duplicate keys.
struct Entries(Vec<(String, Value)>);

impl<'de> serde::Deserialize<'de> for Entries {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Entries;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Visitor)
    }
}
