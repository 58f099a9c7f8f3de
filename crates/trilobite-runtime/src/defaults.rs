//! Default sampling settings.

use trilobite_format::model::SAMPLING;
use trilobite_format::{Metadata, keys};

use crate::error::{Error, Result};
use crate::sampler::Sampling;

/// The sampling of a chat with a model that has no settings of its own. It is varied, and avoids
/// unlikely tokens and loops.
const CHAT: Sampling = Sampling {
    temperature: 0.7,
    top_k: 40,
    top_p: 0.95,
    min_p: 0.05,
    repeat_penalty: 1.0,
    frequency_penalty: 0.0,
    presence_penalty: 0.0,
    loop_penalty: 0.8,
    seed: 0,
};

/// The sampling settings that a user gives. [`complete`](Self::complete) fills in the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SamplingChoice {
    /// See [`Sampling::temperature`].
    pub temperature: Option<f32>,
    /// See [`Sampling::top_k`].
    pub top_k: Option<usize>,
    /// See [`Sampling::top_p`].
    pub top_p: Option<f32>,
    /// See [`Sampling::min_p`].
    pub min_p: Option<f32>,
    /// See [`Sampling::repeat_penalty`].
    pub repeat_penalty: Option<f32>,
    /// See [`Sampling::loop_penalty`].
    pub loop_penalty: Option<f32>,
}

impl SamplingChoice {
    /// Combines the given settings with those of the model's file, and fills the rest with
    /// defaults.
    ///
    /// The model's settings count only if they ask for sampling, as in transformers. A chat also
    /// samples if the model does not say whether to sample. A chat with a model that has no
    /// settings uses the defaults for chats, unless the given temperature is 0.
    ///
    /// Unusable settings of the model's file are ignored; the [notes](crate::Model::notes) of the
    /// model name them.
    ///
    /// # Errors
    /// A metadata value has the wrong type.
    pub fn complete(&self, metadata: &Metadata, chat: bool) -> Result<Sampling> {
        let float = |key: &str| {
            let value = metadata.f32(&keys::generation(key))?;
            Ok::<_, Error>(value.filter(|&value| is_usable(key, value)))
        };
        let sample = metadata.bool(keys::DO_SAMPLE)?;
        let default = if chat && sample.is_none() { CHAT } else { Sampling::default() };
        let temperature = match sample {
            Some(true) => float("temperature")?.unwrap_or(1.0),
            Some(false) => 0.0,
            None if chat => float("temperature")?.unwrap_or(default.temperature),
            None => 0.0,
        };
        let top_k = metadata.u32(&keys::generation("top_k"))?.map(|k| k as usize);
        let temperature = self.temperature.unwrap_or(temperature);
        let default = if temperature == 0.0 { Sampling::default() } else { default };
        let penalty = self.repeat_penalty.or(float("repetition_penalty")?);
        let loops = self.loop_penalty.or(float("loop_penalty")?);
        Ok(Sampling {
            temperature,
            top_k: self.top_k.or(top_k).unwrap_or(default.top_k),
            top_p: self.top_p.or(float("top_p")?).unwrap_or(default.top_p),
            min_p: self.min_p.or(float("min_p")?).unwrap_or(default.min_p),
            repeat_penalty: penalty.unwrap_or(default.repeat_penalty),
            loop_penalty: loops.unwrap_or(default.loop_penalty),
            ..default
        })
    }
}

fn is_usable(key: &str, value: f32) -> bool {
    SAMPLING.iter().all(|(name, usable)| *name != key || usable.contains(&value))
}

/// Notes about the sampling settings of a model that are ignored.
pub(crate) fn unusable(metadata: &Metadata) -> Vec<String> {
    // Values of other types are errors where they are used.
    let mut notes = metadata.strings(keys::UNUSABLE).ok().flatten().unwrap_or_default().to_vec();
    for (key, _) in SAMPLING {
        let name = keys::generation(key);
        let value = metadata.f32(&name).ok().flatten();
        if let Some(value) = value.filter(|&value| !is_usable(key, value)) {
            notes.push(format!("{name} is {value}, which is ignored"));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use trilobite_format::Value;

    use super::*;

    fn metadata(settings: &[(&str, Value)]) -> Metadata {
        let mut metadata = Metadata::new();
        for (name, value) in settings {
            metadata.insert(keys::generation(name), value.clone());
        }
        metadata
    }

    #[test]
    fn settings_come_from_the_user_then_the_model_then_the_defaults() {
        let none = metadata(&[]);
        let given = SamplingChoice { top_k: Some(3), ..SamplingChoice::default() };
        assert_eq!(SamplingChoice::default().complete(&none, true).unwrap(), CHAT);
        assert_eq!(SamplingChoice::default().complete(&none, false).unwrap(), Sampling::default());
        assert_eq!(given.complete(&none, true).unwrap(), Sampling { top_k: 3, ..CHAT });
        let greedy = SamplingChoice { temperature: Some(0.0), ..SamplingChoice::default() };
        assert_eq!(greedy.complete(&none, true).unwrap(), Sampling::default());

        let own = metadata(&[
            ("do_sample", Value::Bool(true)),
            ("temperature", Value::F32(0.5)),
            ("top_p", Value::F32(0.9)),
            ("loop_penalty", Value::F32(2.0)),
        ]);
        let sampling =
            Sampling { temperature: 0.5, top_p: 0.9, loop_penalty: 2.0, ..Sampling::default() };
        for chat in [true, false] {
            assert_eq!(SamplingChoice::default().complete(&own, chat).unwrap(), sampling);
            let complete = given.complete(&own, chat).unwrap();
            assert_eq!(complete, Sampling { top_k: 3, ..sampling });
        }
        let (bad, worse) = (Value::F32(1.5), Value::F32(-1.0));
        let bad =
            metadata(&[("do_sample", Value::Bool(true)), ("top_p", bad), ("temperature", worse)]);
        let sampling = Sampling { temperature: 1.0, ..Sampling::default() };
        assert_eq!(SamplingChoice::default().complete(&bad, true).unwrap(), sampling);
        let temperature = "trilobite.generation.temperature is -1, which is ignored";
        let top_p = "trilobite.generation.top_p is 1.5, which is ignored";
        assert_eq!(unusable(&bad), [temperature, top_p]);
        assert!(unusable(&own).is_empty());
        let forbidden = metadata(&[("do_sample", Value::Bool(false))]);
        let sampling = SamplingChoice::default().complete(&forbidden, true).unwrap();
        assert_eq!(sampling.temperature, 0.0);
    }
}
