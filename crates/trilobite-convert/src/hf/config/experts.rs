//! The mixture of experts of Maple.

use trilobite_format::model::{Experts, limits};

use crate::Error;
use crate::hf::json::Object;

/// Keys that would change the computation, with the values that do not. deepgrove's model code
/// ignores some of them and other programs do not, so another value has no certain meaning.
const TRUE: [&str; 3] = ["use_qk_norm", "norm_topk_prob", "nope_on_global_attention"];
const FALSE: [&str; 1] = ["moe_router_enable_expert_bias"];
const ZERO: [&str; 2] = ["num_shared_experts", "first_k_dense_replace"];
const ONE: [&str; 3] = ["routed_scaling_factor", "n_group", "topk_group"];

/// Reads the experts. Keys that are absent have the values of `MapleConfig`.
pub(super) fn read(object: &Object<'_>, layers: u64) -> Result<Experts, Error> {
    for (keys, expected) in [(&TRUE[..], true), (&FALSE, false)] {
        for key in keys {
            if object.bool(key)?.is_some_and(|found| found != expected) {
                return Err(object.unsupported(key));
            }
        }
    }
    let clamp = ("swiglu_limit", Experts::CLAMP);
    let numbers = ZERO.map(|key| (key, 0.0)).into_iter().chain(ONE.map(|key| (key, 1.0)));
    for (key, expected) in numbers.chain([clamp]) {
        if object.number(key)?.is_some_and(|found| found != expected) {
            return Err(object.unsupported(key));
        }
    }
    for (key, expected) in
        [("router_dtype", &["fp32", "float32"][..]), ("scoring_func", &["softmax"])]
    {
        if object.str(key)?.is_some_and(|found| !expected.contains(&found)) {
            return Err(object.unsupported(key));
        }
    }
    let size = |key: &str, most: u64, default: u64| {
        Ok::<_, Error>(object.integer(key, 1..=most)?.unwrap_or(default))
    };
    let count = size("num_experts", limits::EXPERTS, 256)?;
    Ok(Experts {
        count,
        used: size("num_experts_per_tok", count, 8.min(count))?,
        ffn: size("moe_intermediate_size", limits::WIDTH, 512)?,
        clamp: vec![Experts::CLAMP; layers as usize],
    })
}
