//! Merges the results of a task's parts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::kind::protocol;
use crate::outcome::Outcome;
use crate::results::{self, Line, RunSettings};
use crate::shard::Shard;
use crate::task::Task;

/// Merges the results of a task's parts, in the order of its items. With `partial`, items may be
/// missing.
///
/// # Errors
/// A part cannot be read, the parts were run with different settings, an item has different results
/// in two parts, or items are missing. Nothing is written then.
pub fn merge(task: &Task, parts: &[PathBuf], output: &Path, partial: bool) -> Result<Outcome> {
    let fail = |message| Error::Merge { task: task.name.clone(), message };
    let mut all: BTreeMap<usize, (Line, &PathBuf)> = BTreeMap::new();
    let mut whole: Option<RunSettings> = None;
    let mut folders = BTreeSet::new();
    for part in parts {
        if !folders.insert(std::fs::canonicalize(part).unwrap_or_else(|_| part.clone())) {
            return Err(fail(format!("{} is among the parts twice", part.display())));
        }
        let found = RunSettings::read(part, task)?;
        let found = found
            .ok_or_else(|| fail(format!("{}: there are no settings of a run", part.display())))?;
        let settings = whole.get_or_insert_with(|| found.clone());
        if let Some((field, here, there)) = difference(&found.identity, &settings.identity) {
            let message = format!(
                "{}: {field} is {here}, in {} it is {there}",
                part.display(),
                parts[0].display()
            );
            return Err(fail(message));
        }
        settings.items = settings.items.max(found.items);
        settings.parts.extend(found.parts);
        let path = results::items_path(part, task);
        for line in results::read(&path)? {
            let index = line.value.get("index").and_then(Value::as_u64);
            let index = index.and_then(|index| usize::try_from(index).ok());
            let index = index.ok_or_else(|| Error::Record {
                path: path.clone(),
                line: line.number,
                message: "the item has no \"index\"".to_owned(),
            })?;
            match all.get(&index) {
                Some((other, place)) if other.value != line.value => {
                    let (here, there) = (part.display(), place.display());
                    let (a, b) = (&line.id, &other.id);
                    let message =
                        format!("item {a} of {here} has another result than item {b} of {there}");
                    return Err(fail(message));
                }
                Some(_) => {}
                None => {
                    all.insert(index, (line, part));
                }
            }
        }
    }
    let Some(settings) = whole else { return Err(fail("there are no parts".to_owned())) };
    let missing = missing(settings.items, &all.keys().copied().collect(), &settings.parts);
    if let (Some(missing), false) = (&missing, partial) {
        let (task, missing) = (task.name.clone(), missing.clone());
        return Err(Error::Incomplete { task, missing });
    }
    std::fs::create_dir_all(output).map_err(Error::io(output))?;
    let data_sha256 = settings.identity["data_sha256"].as_str().map(str::to_owned);
    settings.save(output, task)?;
    let lines: Vec<Line> = all.into_values().map(|(line, _)| line).collect();
    let path = results::items_path(output, task);
    results::replace(&path, &mut lines.iter().map(|line| Ok(line.value.clone())))?;
    Ok(Outcome { missing, data_sha256, ..Outcome::of(protocol(task).as_ref(), path, &lines)? })
}

/// The first field in which two objects differ, and both values.
fn difference(a: &Value, b: &Value) -> Option<(String, String, String)> {
    let fields = [a, b].into_iter().filter_map(Value::as_object).flat_map(|object| object.keys());
    let text = |value: Option<&Value>| value.map_or("missing".to_owned(), Value::to_string);
    let differs = |field: &&String| a[field.as_str()] != b[field.as_str()];
    let field = fields.into_iter().find(differs)?;
    Some((field.clone(), text(a.get(field)), text(b.get(field))))
}

/// Describes the items that are missing, by part. `there` holds the indices of the others.
fn missing(items: usize, there: &BTreeSet<usize>, parts: &[Shard]) -> Option<String> {
    let absent: Vec<usize> = (0..items).filter(|index| !there.contains(index)).collect();
    let first = absent.first()?;
    let counts: BTreeSet<usize> = parts.iter().map(|part| part.count).collect();
    let places = match counts.first() {
        Some(&count) if counts.len() == 1 && count > 1 => {
            let share = |index: usize| {
                let part = Shard { index, count };
                let of = (0..items).filter(|&item| part.holds(item)).count();
                match absent.iter().filter(|&&item| part.holds(item)).count() {
                    0 => None,
                    lacking if lacking == of => Some(format!("part {part}")),
                    lacking => Some(format!("{lacking} of the {of} of part {part}")),
                }
            };
            // Further parts have no items.
            (0..count.min(items)).filter_map(share).collect::<Vec<_>>().join(", ")
        }
        _ => format!("from number {} on", first + 1),
    };
    Some(format!("{} of {items} items are missing: {places}", absent.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_items_are_told_by_their_parts() {
        let parts = |texts: &[&str]| -> Vec<Shard> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let told =
            |there: &[usize], of: &[&str]| missing(6, &there.iter().copied().collect(), &parts(of));
        assert_eq!(told(&[0, 1, 2, 3, 4, 5], &["1/2"]), None);
        let two = told(&[0, 3], &["1/3"]).unwrap();
        assert_eq!(two, "4 of 6 items are missing: part 2/3, part 3/3");
        let torn = told(&[0, 3, 1, 2, 5], &["1/3", "2/3", "3/3"]).unwrap();
        assert_eq!(torn, "1 of 6 items are missing: 1 of the 2 of part 2/3");
        let whole = told(&[0, 1], &["1/1"]).unwrap();
        assert_eq!(whole, "4 of 6 items are missing: from number 3 on");
        let single = told(&[0, 1, 2, 3, 4], &["1/18446744073709551615"]).unwrap();
        assert_eq!(single, "1 of 6 items are missing: part 6/18446744073709551615");
        let mixed = told(&[1, 2, 3, 4, 5], &["2/3", "2/2"]).unwrap();
        assert_eq!(mixed, "1 of 6 items are missing: from number 1 on");
    }
}
