//! The fields that chat and completion requests share.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use trilobite_runtime::{Model, Sampler, Sampling, SamplingChoice};
use utoipa::ToSchema;

use super::error::{ApiError, ApiResult};
use super::fields::{Field, Fields, read};
use super::form::{self, Demanded};
use super::random;

/// Maximum answers to one prompt.
pub(crate) const MAX_CHOICES: usize = 16;
/// Maximum value of a number of tokens.
pub(crate) const MAX_TOKENS: usize = i32::MAX as usize;
/// Maximum stop strings. OpenAI allows four; evaluation harnesses send more.
const MAX_STOPS: usize = 64;
/// Maximum number of likeliest tokens to report.
pub(crate) const MAX_TOP: usize = 20;

/// Settings of sampling and of the response.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Common {
    /// The model's id. Not needed where only one model is served.
    pub(crate) model: Option<String>,
    /// Answers to each prompt.
    #[schema(minimum = 1, maximum = 16, default = 1)]
    pub(crate) n: Option<usize>,
    /// Streams the answer as server-sent events.
    #[schema(default = false)]
    pub(crate) stream: Option<bool>,
    /// Settings of the stream.
    pub(crate) stream_options: Option<StreamOptions>,
    /// Stop strings. The answer ends before the first one.
    pub(crate) stop: Option<Stop>,
    /// Seed of the random numbers. The same seed gives the same answer. Choice i uses the seed plus i. The
    /// default is random.
    #[schema(value_type = Option<i64>)]
    pub(crate) seed: Option<i128>,
    /// Logits are divided by this; 0 is greedy. Default: what `trilobite run` uses for this model.
    #[schema(minimum = 0, maximum = 2)]
    pub(crate) temperature: Option<f32>,
    /// Keeps the likeliest tokens that together reach this probability. Default: as `trilobite run`.
    #[schema(minimum = 0, maximum = 1)]
    pub(crate) top_p: Option<f32>,
    /// Keeps this many likeliest tokens; 0 and -1 keep all. Default: as `trilobite run`.
    #[schema(minimum = -1, maximum = 2147483647)]
    pub(crate) top_k: Option<i64>,
    /// Keeps tokens with at least this fraction of the likeliest one's probability. Default: as
    /// `trilobite run`.
    #[schema(minimum = 0, maximum = 1)]
    pub(crate) min_p: Option<f32>,
    /// Subtracted from the logit of a token for each of its occurrences in the answer.
    #[schema(minimum = -2, maximum = 2, default = 0)]
    pub(crate) frequency_penalty: Option<f32>,
    /// Subtracted once from the logit of every token in the answer.
    #[schema(minimum = -2, maximum = 2, default = 0)]
    pub(crate) presence_penalty: Option<f32>,
    /// Logits of tokens in the prompt or the answer are divided by this when positive and multiplied
    /// when negative. Default: as `trilobite run`.
    #[schema(minimum = 0.01, maximum = 100)]
    pub(crate) repetition_penalty: Option<f32>,
    /// Subtracted from the logit of a token that would extend a repetition of eight tokens. Default: as
    /// `trilobite run`.
    #[schema(minimum = 0, maximum = 100)]
    pub(crate) loop_penalty: Option<f32>,
    /// Added to the logits of tokens, by token id.
    pub(crate) logit_bias: Option<BTreeMap<String, f64>>,
    /// The form of the answers.
    #[serde(skip)]
    pub(crate) form: Option<Demanded>,
}

/// Settings of a stream.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub(crate) struct StreamOptions {
    /// Adds a last chunk with the token counts.
    #[serde(default)]
    pub(crate) include_usage: bool,
}

impl StreamOptions {
    fn take(fields: &mut Fields) -> ApiResult<Option<Self>> {
        // serde would accept a list too.
        let Some(mut options) = fields.take::<Map<String, Value>>("stream_options")? else {
            return Ok(None);
        };
        let name = "include_usage";
        let usage = options.remove(name);
        let usage =
            usage.map(|value| read(&format!("stream_options.{name}"), value)).transpose()?;
        Ok(Some(Self { include_usage: usage.unwrap_or_default() }))
    }
}

/// One text or several.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Stop {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Field for Stop {
    const EXPECTED: &'static str = "a string or a list of strings";
}

impl Common {
    /// Takes these fields.
    pub(crate) fn take(fields: &mut Fields) -> ApiResult<Self> {
        let common = Self {
            model: fields.take("model")?,
            n: fields.number("n", 1..=MAX_CHOICES)?,
            stream: fields.take("stream")?,
            stream_options: StreamOptions::take(fields)?,
            stop: fields.take("stop")?,
            seed: fields.take("seed")?,
            temperature: fields.float("temperature", 0.0..=2.0)?,
            top_p: fields.float("top_p", 0.0..=1.0)?,
            top_k: fields.number("top_k", -1..=i64::from(i32::MAX))?,
            min_p: fields.float("min_p", 0.0..=1.0)?,
            frequency_penalty: fields.float("frequency_penalty", -2.0..=2.0)?,
            presence_penalty: fields.float("presence_penalty", -2.0..=2.0)?,
            repetition_penalty: fields.float("repetition_penalty", 0.01..=100.0)?,
            loop_penalty: fields.float("loop_penalty", 0.0..=100.0)?,
            logit_bias: fields.take("logit_bias")?,
            form: form::take(fields)?,
        };
        if common.stops().len() > MAX_STOPS {
            let message =
                format!("stop has {} texts, expected at most {MAX_STOPS}", common.stops().len());
            return Err(ApiError::field("stop", message));
        }
        Ok(common)
    }

    /// Answers to each prompt.
    pub(crate) fn choices(&self) -> usize {
        self.n.unwrap_or(1)
    }

    /// Whether the answer is streamed.
    pub(crate) fn streams(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    /// Whether a stream ends with the token counts.
    pub(crate) fn includes_usage(&self) -> bool {
        self.stream_options.unwrap_or_default().include_usage
    }

    /// The stop strings.
    pub(crate) fn stops(&self) -> &[String] {
        match &self.stop {
            None => &[],
            Some(Stop::One(text)) => std::slice::from_ref(text),
            Some(Stop::Many(texts)) => texts,
        }
    }

    /// A sampler for each choice. Settings that the request lacks are those of `trilobite run`. Every
    /// prompt has the same samplers.
    pub(crate) fn samplers(&self, model: &Model, chat: bool, seed: u64) -> ApiResult<Vec<Sampler>> {
        let choice = SamplingChoice {
            temperature: self.temperature,
            top_k: self.top_k.map(|k| usize::try_from(k).unwrap_or(0)),
            top_p: self.top_p,
            min_p: self.min_p,
            repeat_penalty: self.repetition_penalty,
            loop_penalty: self.loop_penalty,
        };
        let sampling = Sampling {
            frequency_penalty: self.frequency_penalty.unwrap_or(0.0),
            presence_penalty: self.presence_penalty.unwrap_or(0.0),
            ..choice.complete(model.metadata(), chat)?
        };
        let bias = self.bias(model.config().vocab)?;
        (0..self.choices() as u64)
            .map(|index| {
                let seed = seed.wrapping_add(index);
                Ok(Sampler::new(Sampling { seed, ..sampling })?.with_bias(bias.clone())?)
            })
            .collect()
    }

    /// The seed of the first choice.
    pub(crate) fn first_seed(&self) -> u64 {
        self.seed.map_or_else(random, |seed| seed as u64)
    }

    fn bias(&self, vocab: usize) -> ApiResult<Vec<(u32, f32)>> {
        let wrong = |message| ApiError::field("logit_bias", message);
        let entry = |(key, &bias): (&String, &f64)| {
            let id = key.parse().ok().filter(|&id: &u32| (id as usize) < vocab);
            let id = id.ok_or_else(|| {
                wrong(format!("logit_bias has the key {key:?}, expected a token id below {vocab}"))
            })?;
            match (-100.0..=100.0).contains(&bias) {
                true => Ok((id, bias as f32)),
                false => {
                    Err(wrong(format!("logit_bias of token {id} is {bias}, expected -100 to 100")))
                }
            }
        };
        self.logit_bias.iter().flatten().map(entry).collect()
    }
}
