//! Suggestions for misspelled task names.

use anyhow::{Result, anyhow};
use trilobite_eval::{Error, Task};
use trilobite_hub::hint;

/// The benchmark task with a name.
pub(crate) fn task(name: &str) -> Result<Task> {
    Task::named(name).map_err(|error| match error {
        Error::UnknownTask { .. } => {
            let names = Task::names();
            let hint = hint(name, names.iter().map(String::as_str));
            anyhow!("there is no task {name:?}; {hint}")
        }
        other => other.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_tasks_are_answered_with_the_nearest() {
        let said = |name: &str| task(name).unwrap_err().to_string();
        assert_eq!(said("helaswag"), "there is no task \"helaswag\"; did you mean hellaswag?");
        assert!(said("chess").starts_with("there is no task \"chess\"; there are arc_challenge,"));
        assert_eq!(task("mmlu_5shot").unwrap().name, "mmlu_5shot");
    }
}
