//! How tokens are chosen: the flags, the model's settings, and defaults.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use trilobite_format::keys;
use trilobite_runtime::{Model, Sampling};

use crate::args::Run;

/// What a chat has with a model that brings no settings: varied, without unlikely tokens, and
/// without loops.
const CHAT: Sampling = Sampling {
    temperature: 0.7,
    top_k: 40,
    top_p: 0.95,
    min_p: 0.05,
    repeat_penalty: 1.0,
    loop_penalty: 0.8,
    seed: 0,
};

/// The flags, and where they say nothing the settings that the model file carries. As in
/// transformers those count only when they ask for sampling; a chat samples unless they forbid it.
pub(crate) fn sampling(model: &Model, args: &Run, chat: bool) -> Result<Sampling> {
    let metadata = model.metadata();
    let float = |key: &str| metadata.f32(&keys::generation(key));
    let sample = metadata.bool(keys::DO_SAMPLE)?;
    let default = if chat && sample.is_none() { CHAT } else { Sampling::default() };
    let temperature = match sample {
        Some(true) => float("temperature")?.unwrap_or(1.0),
        Some(false) => 0.0,
        None if chat => float("temperature")?.unwrap_or(default.temperature),
        None => 0.0,
    };
    let top_k = metadata.u32(&keys::generation("top_k"))?.map(|k| k as usize);
    let temperature = args.temp.unwrap_or(temperature);
    let default = if temperature == 0.0 { Sampling::default() } else { default };
    Ok(Sampling {
        temperature,
        top_k: args.top_k.or(top_k).unwrap_or(default.top_k),
        top_p: args.top_p.or(float("top_p")?).unwrap_or(default.top_p),
        min_p: args.min_p.or(float("min_p")?).unwrap_or(default.min_p),
        repeat_penalty: args
            .repeat_penalty
            .or(float("repetition_penalty")?)
            .unwrap_or(default.repeat_penalty),
        loop_penalty: args.loop_penalty.unwrap_or(default.loop_penalty),
        seed: args.seed.unwrap_or_else(random_seed),
    })
}

/// The settings in words.
pub(crate) fn describe(sampling: &Sampling) -> String {
    let Sampling { temperature, top_k, top_p, min_p, repeat_penalty, loop_penalty, .. } = sampling;
    let penalties = format!("repeat penalty {repeat_penalty}, loop penalty {loop_penalty}");
    match *temperature == 0.0 {
        true => format!("sampling: the likeliest token, {penalties}"),
        false => format!(
            "sampling: temperature {temperature}, top-k {top_k}, top-p {top_p}, min-p {min_p}, \
             {penalties}"
        ),
    }
}

/// A seed that differs from run to run, short enough to type again.
pub(crate) fn random_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) ^ now.as_secs() & 0xffff_ffff
}
