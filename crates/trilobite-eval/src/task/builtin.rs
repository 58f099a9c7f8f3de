//! The built-in tasks.

use super::Task;
use crate::error::{Error, Result};

/// The definitions in `tasks/`, by name.
const TASKS: [(&str, &str); 18] = {
    macro_rules! task {
        ($name:literal) => {
            ($name, include_str!(concat!("../../tasks/", $name, ".toml")))
        };
    }
    [
        task!("arc_challenge"),
        task!("arc_easy"),
        task!("openbookqa"),
        task!("boolq"),
        task!("hellaswag"),
        task!("piqa"),
        task!("winogrande"),
        task!("commonsense_qa"),
        task!("truthfulqa_mc1"),
        task!("truthfulqa_mc2"),
        task!("mmlu"),
        task!("wikitext"),
        task!("triviaqa"),
        task!("gsm8k"),
        task!("ifeval"),
        task!("math500"),
        task!("humaneval_plus"),
        task!("mt_bench"),
    ]
};

impl Task {
    /// The names of all tasks, variants included.
    pub fn names() -> Vec<String> {
        let mut names = Vec::new();
        for (name, _) in TASKS {
            names.push(name.to_owned());
            if let Ok(task) = Task::named(name) {
                names.extend(task.variants.into_keys());
            }
        }
        names
    }

    /// The task with a name. `NAME_Nshot` is the task `NAME` with `N` examples.
    ///
    /// # Errors
    /// There is no such task, or it has no examples.
    pub fn named(name: &str) -> Result<Task> {
        let (base, shots) = match shots_of(name) {
            Some((base, shots)) => (base, Some(shots)),
            None => (name, None),
        };
        let (base, text) =
            TASKS.into_iter().find(|(known, _)| *known == base).ok_or_else(|| {
                Error::UnknownTask { name: name.to_owned(), known: Task::names().join(", ") }
            })?;
        let task = Task::parse(base, text)
            .map_err(|fault| Error::Definition { task: base.into(), message: fault.message })?;
        match shots {
            Some(shots) => Ok(Task { name: name.to_owned(), ..task.with_shots(shots)? }),
            None => Ok(task),
        }
    }
}

/// Splits `NAME_Nshot` into the name and the number.
fn shots_of(name: &str) -> Option<(&str, usize)> {
    let (base, number) = name.strip_suffix("shot")?.rsplit_once('_')?;
    let canonical = |shots: &usize| shots.to_string() == number;
    Some((base, number.parse().ok().filter(canonical)?))
}
