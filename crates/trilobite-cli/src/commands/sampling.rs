//! Sampling settings from flags, the model file and defaults.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use trilobite_runtime::{Model, Sampling, SamplingChoice};

use crate::args::Run;

/// The settings of the flags, completed by those of the model file and defaults.
pub(crate) fn sampling(model: &Model, args: &Run, chat: bool) -> Result<Sampling> {
    let choice = SamplingChoice {
        temperature: args.temp,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        repeat_penalty: args.repeat_penalty,
        loop_penalty: args.loop_penalty,
    };
    let sampling = choice.complete(model.metadata(), chat)?;
    Ok(Sampling { seed: args.seed.unwrap_or_else(random_seed), ..sampling })
}

/// A description of the settings.
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

/// A random seed that is short enough to type.
pub(crate) fn random_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) ^ now.as_secs() & 0xffff_ffff
}
