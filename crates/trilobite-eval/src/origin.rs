//! The sources of data files.

use crate::task::Task;

/// A data file and its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its path in the data folder, packed as in the source.
    pub file: String,
    /// The GitHub repository.
    pub repository: String,
    /// The commit.
    pub revision: String,
    /// The path in the repository.
    pub path: String,
    /// SHA-256 of the file as published or after unpacking.
    pub sha256: Option<String>,
    /// Whether the file was derived from the one at `path`, so that it cannot be fetched.
    pub rebuilt: bool,
}

impl Task {
    /// The sources of all files of the task, including those of each group.
    pub fn origins(&self) -> Vec<Origin> {
        let mut origins = Vec::new();
        for (number, data) in self.data.iter().enumerate() {
            let mut add = |group: &str, sha256: Option<&String>| {
                let fill = |text: &str| text.replace("{group}", group);
                let (mut file, path) = (fill(&data.file), fill(&data.path));
                for ending in [".gz", ".bz2"] {
                    if path.ends_with(ending) && !file.ends_with(ending) && !data.rebuilt {
                        file += ending;
                    }
                }
                origins.push(Origin {
                    file,
                    repository: data.repository.clone(),
                    revision: data.revision.clone(),
                    path,
                    sha256: sha256.or(data.sha256.as_ref()).cloned(),
                    rebuilt: data.rebuilt,
                });
            };
            match data.file.contains("{group}") {
                true => {
                    for (name, group) in &self.groups {
                        add(name, group.sha256.get(number));
                    }
                }
                false => add("", None),
            }
        }
        origins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_every_task_has_a_pinned_source() {
        let mut files = 0;
        for name in Task::names() {
            for origin in Task::named(&name).unwrap().origins() {
                assert_eq!(origin.revision.len(), 40, "{name}: {origin:?}");
                assert_eq!(origin.sha256.as_ref().map(String::len), Some(64), "{name}: {origin:?}");
                assert!(!origin.file.contains('{') && !origin.path.contains('{'), "{origin:?}");
                files += 1;
            }
        }
        assert!(files > 2 * 57);
        let hellaswag = Task::named("hellaswag").unwrap().origins();
        assert_eq!(hellaswag[0].file, "hellaswag/hellaswag_val_full.txt.bz2");
    }
}
