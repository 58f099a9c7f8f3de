//! The command `/set`: changes the sampling settings.

use std::fmt::Display;
use std::str::FromStr;

use anyhow::{Result, anyhow, ensure};
use trilobite_hub::hint;
use trilobite_runtime::Sampling;

/// The settings that a chat can change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Settings {
    pub(super) sampling: Sampling,
    /// Maximum number of tokens of an answer.
    pub(super) max_tokens: Option<usize>,
}

/// The names, which are those of the flags of `run`, and their descriptions.
const NAMES: [(&str, &str); 8] = [
    ("temp", "temperature; 0 takes the likeliest token"),
    ("top-k", "only the K likeliest tokens; 0 is all"),
    ("top-p", "only the likeliest that reach this together"),
    ("min-p", "only those this likely next to the likeliest"),
    ("repeat-penalty", "for tokens in the context already; 1 is none"),
    ("loop-penalty", "for going on with a repetition; 0 is none"),
    ("seed", "of the random numbers"),
    ("n", "most tokens of an answer; none: until it ends"),
];

impl Settings {
    /// All names with their values and descriptions, one per line.
    pub(super) fn list(&self) -> String {
        let lines = NAMES.map(|(name, meaning)| {
            let value = self.value(name);
            format!("  {name:15} {value:10} {meaning}\n")
        });
        lines.concat()
    }

    /// The canonical spelling of a name.
    pub(super) fn name(name: &str) -> Result<&'static str> {
        let known = NAMES.map(|(known, _)| known);
        let letters = |name: &str| name.to_lowercase().replace(['-', '_'], "");
        let same = known.into_iter().find(|known| letters(known) == letters(name));
        same.ok_or_else(|| anyhow!("there is no setting {name:?}; {}", hint(name, known)))
    }

    /// The value of a known name.
    pub(super) fn value(&self, name: &str) -> String {
        let sampling = &self.sampling;
        match name {
            "temp" => sampling.temperature.to_string(),
            "top-k" => sampling.top_k.to_string(),
            "top-p" => sampling.top_p.to_string(),
            "min-p" => sampling.min_p.to_string(),
            "repeat-penalty" => sampling.repeat_penalty.to_string(),
            "loop-penalty" => sampling.loop_penalty.to_string(),
            "seed" => sampling.seed.to_string(),
            _ => self.max_tokens.map_or("none".to_owned(), |max| max.to_string()),
        }
    }

    /// The settings with a new value of a known name. The sampler checks whether the value is
    /// valid.
    pub(super) fn with(mut self, name: &str, value: &str) -> Result<Self> {
        const NUMBER: &str = "a number";
        const WHOLE: &str = "a whole number";
        let sampling = &mut self.sampling;
        match name {
            "temp" => sampling.temperature = parse(name, value, NUMBER)?,
            "top-k" => sampling.top_k = parse(name, value, WHOLE)?,
            "top-p" => {
                sampling.top_p = parse(name, value, NUMBER)?;
                let usable = (0.0..=1.0).contains(&sampling.top_p);
                ensure!(usable, "{name} is {value:?}, expected a number from 0 to 1");
            }
            "min-p" => sampling.min_p = parse(name, value, NUMBER)?,
            "repeat-penalty" => sampling.repeat_penalty = parse(name, value, NUMBER)?,
            "loop-penalty" => sampling.loop_penalty = parse(name, value, NUMBER)?,
            "seed" => sampling.seed = parse(name, value, WHOLE)?,
            _ if value == "none" => self.max_tokens = None,
            _ => self.max_tokens = Some(parse(name, value, "a whole number or none")?),
        }
        Ok(self)
    }
}

fn parse<T: FromStr<Err: Display>>(name: &str, value: &str, expected: &str) -> Result<T> {
    value.parse().map_err(|_| anyhow!("{name} is {value:?}, expected {expected}"))
}

#[cfg(test)]
mod tests {
    use trilobite_runtime::Sampler;

    use super::*;

    const SETTINGS: Settings = Settings {
        sampling: Sampling {
            temperature: 0.7,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            loop_penalty: 0.8,
            seed: 7,
        },
        max_tokens: None,
    };

    #[test]
    fn every_name_changes_its_own_value() {
        for (name, _) in NAMES {
            let changed = SETTINGS.with(name, "1").unwrap();
            let changed =
                if name == "repeat-penalty" { changed.with(name, "2").unwrap() } else { changed };
            for (other, _) in NAMES {
                let same = changed.value(other) == SETTINGS.value(other);
                assert_eq!(same, other != name, "{name} and {other}");
            }
            assert!(SETTINGS.list().contains(&format!("  {name:15} {:10} ", SETTINGS.value(name))));
        }
        assert_eq!(SETTINGS.with("n", "5").unwrap().with("n", "none").unwrap(), SETTINGS);
    }

    #[test]
    fn names_are_recognised_and_wrong_values_refused() {
        for (typed, name) in [("temp", "temp"), ("top_k", "top-k"), ("Min-P", "min-p")] {
            assert_eq!(Settings::name(typed).unwrap(), name);
        }
        let said = |name| Settings::name(name).unwrap_err().to_string();
        assert_eq!(said("tmp"), "there is no setting \"tmp\"; did you mean temp?");
        assert!(said("colour").contains("there are temp, top-k,"));
        for (name, value, expected) in [
            ("temp", "warm", "temp is \"warm\", expected a number"),
            ("top-p", "2", "top-p is \"2\", expected a number from 0 to 1"),
            ("top-k", "-1", "top-k is \"-1\", expected a whole number"),
            ("seed", "0.5", "seed is \"0.5\", expected a whole number"),
            ("n", "all", "n is \"all\", expected a whole number or none"),
        ] {
            assert_eq!(SETTINGS.with(name, value).unwrap_err().to_string(), expected);
        }
        let sampler = |name, value| Sampler::new(SETTINGS.with(name, value).unwrap().sampling);
        assert!(sampler("temp", "-1").is_err() && sampler("min-p", "nan").is_err());
    }
}
