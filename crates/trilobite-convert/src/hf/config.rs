//! config.json: sizes, and how the weights are to be understood.

mod rope;

use crate::Error;
use crate::hf::json::Object;
use crate::model::{Arch, BIASED, Config, Window, limits};

/// What config.json says.
#[derive(Debug)]
pub(crate) struct HfConfig {
    pub(crate) config: Config,
    /// Whether the embedding is the head too; `None` where the file does not say.
    pub(crate) tied: Option<bool>,
    pub(crate) quantization: Quantization,
    /// `modules_to_not_convert`; without it everything but the head is ternary.
    pub(crate) excluded: Option<Vec<String>>,
    /// What each RoPE frequency is divided by, where it is scaled.
    pub(crate) rope_divisors: Option<Vec<f32>>,
}

/// How projections are stored, as far as the configuration knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantization {
    /// It does not say.
    Unstated,
    /// `is_bitnet_config`: a BitNet model whose dense weights are masters, or ternary weights
    /// written out.
    Stated,
    /// Master weights that are quantised at load by absmean.
    Online,
    /// Ternary weights beside a `weight_scale`: a weight is trit times scale, or trit divided by
    /// scale.
    Offline { divide: bool },
}

/// Reads config.json.
pub(crate) fn read(object: Object<'_>) -> Result<HfConfig, Error> {
    let (arch, old) = architecture(&object)?;
    let mut config = sizes(&object, arch)?;
    for key in ["mlp_bias", "use_bias", "use_bidirectional_attention"] {
        if object.bool(key)? == Some(true) {
            return Err(object.unsupported(key));
        }
    }
    let rope = rope::read(&object, &config)?;
    (config.rope_theta, config.rope_factor) = (rope.theta, rope.factor);
    config.window = window(&object, &config, rope.local_theta)?;
    let (quantization, excluded) = quantization(&object, old)?;
    Ok(HfConfig {
        tied: object.bool("tie_word_embeddings")?,
        rope_divisors: rope.divisors,
        quantization,
        excluded,
        config,
    })
}

/// The architecture, and whether it is that of 1bitLLM's checkpoints. Those call themselves
/// `BitnetForCausalLM` with a lower-case n, and `llama` as the model type.
fn architecture(object: &Object<'_>) -> Result<(Arch, bool), Error> {
    let names = object.get("architectures").and_then(|list| list.as_array());
    let name = names.and_then(|list| list.first()).and_then(|name| name.as_str());
    let model_type = object.str("model_type")?;
    let (arch, old, act) = match (name, model_type) {
        (Some("BitNetForCausalLM"), _) | (None, Some("bitnet")) => {
            (Arch::BitNetB158, false, "relu2")
        }
        (Some("BitnetForCausalLM"), _) => (Arch::BitNet, true, "silu"),
        (Some("LlamaForCausalLM"), _) | (None, Some("llama")) => (Arch::Llama, false, "silu"),
        (Some("Qwen2ForCausalLM"), _) | (None, Some("qwen2")) => (Arch::Qwen2, false, "silu"),
        (Some("Gemma3ForCausalLM"), _) | (None, Some("gemma3_text")) => {
            (Arch::Gemma3, false, "gelu_pytorch_tanh")
        }
        _ => {
            let known = "BitNetForCausalLM, BitnetForCausalLM, LlamaForCausalLM, \
                         Qwen2ForCausalLM or Gemma3ForCausalLM";
            return Err(object.bad("architectures", known));
        }
    };
    let key = if arch == Arch::Gemma3 { "hidden_activation" } else { "hidden_act" };
    match object.str(key)? {
        Some(found) if found != act => {
            Err(object.bad(key, &format!("\"{act}\" for this architecture")))
        }
        _ => Ok((arch, old)),
    }
}

/// The sizes. What Gemma's configuration leaves out has the value that transformers gives it; RoPE
/// and the window are still to be read.
fn sizes(object: &Object<'_>, arch: Arch) -> Result<Config, Error> {
    let size = |key: &str, max: u64| object.require(key, object.integer(key, 1..=max)?);
    let gemma = arch == Arch::Gemma3;
    let hidden = size("hidden_size", limits::WIDTH)?;
    let heads = size("num_attention_heads", limits::HEADS)?;
    let kv_heads = object.integer("num_key_value_heads", 1..=limits::HEADS)?.unwrap_or(heads);
    if !heads.is_multiple_of(kv_heads) {
        let expected = format!("a divisor of the {heads} heads");
        return Err(object.bad("num_key_value_heads", &expected));
    }
    let head_dim = match object.integer("head_dim", 2..=limits::WIDTH)? {
        Some(head_dim) => head_dim,
        None if gemma => 256,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            let expected = format!("a value, for {heads} heads do not divide {hidden}");
            return Err(object.bad("head_dim", &expected));
        }
    };
    if !head_dim.is_multiple_of(2) || heads * head_dim > limits::WIDTH {
        let expected = format!(
            "an even number of at most {} (it is {head_dim}), as RoPE turns pairs",
            limits::WIDTH / heads
        );
        return Err(object.bad("head_dim", &expected));
    }
    let eps = object.positive("rms_norm_eps")?.or(gemma.then_some(1e-6));
    let context = object.integer("max_position_embeddings", 1..=limits::CONTEXT)?;
    let biases = match arch {
        Arch::Qwen2 => &BIASED[..3],
        _ if object.bool("attention_bias")? == Some(true) => &BIASED,
        _ => &[],
    };
    Ok(Config {
        arch,
        vocab: size("vocab_size", limits::VOCAB)?,
        context: object.require("max_position_embeddings", context.or(gemma.then_some(131_072)))?,
        hidden,
        ffn: size("intermediate_size", limits::WIDTH)?,
        layers: size("num_hidden_layers", limits::LAYERS)?,
        heads,
        kv_heads,
        head_dim,
        norm_eps: object.require("rms_norm_eps", eps)?,
        rope_theta: 0.0,
        rope_factor: 1.0,
        biases: biases.to_vec(),
        window: None,
        attention_scale: if gemma { attention_scale(object, head_dim)? } else { None },
        softcap: if gemma { softcap(object)? } else { None },
    })
}

/// What scores are multiplied by, where it is not the usual `1 / sqrt(head_dim)`.
fn attention_scale(object: &Object<'_>, head_dim: u64) -> Result<Option<f32>, Error> {
    let scalar = object.positive("query_pre_attn_scalar")?.unwrap_or(256.0);
    Ok((scalar != head_dim as f32).then(|| (1.0 / f64::from(scalar).sqrt()) as f32))
}

/// The cap of the logits. That of the scores is a remnant of Gemma 2, which no Gemma 3 has.
fn softcap(object: &Object<'_>) -> Result<Option<f32>, Error> {
    if object.get("attn_logit_softcapping").is_some() {
        return Err(object.unsupported("attn_logit_softcapping"));
    }
    object.positive("final_logit_softcapping")
}

/// Sliding windows: of the layers that `layer_types` names, or else of those that the older keys
/// imply.
fn window(object: &Object<'_>, config: &Config, rope_theta: f32) -> Result<Option<Window>, Error> {
    let uses = match config.arch {
        Arch::Gemma3 => true,
        Arch::Qwen2 => object.bool("use_sliding_window")? == Some(true),
        _ => return Ok(None),
    };
    let count = config.layers as usize;
    let layers = match layer_types(object, count)? {
        Some(layers) => layers,
        None if !uses => return Ok(None),
        None if config.arch == Arch::Gemma3 => {
            const PERIOD: &str = "sliding_window_pattern";
            let period = object.integer(PERIOD, 1..=limits::LAYERS)?.unwrap_or(6) as usize;
            (1..=count).map(|layer| !layer.is_multiple_of(period)).collect()
        }
        None => {
            let full = object.integer("max_window_layers", 0..=limits::LAYERS)?.unwrap_or(28);
            (0..count).map(|layer| layer as u64 >= full).collect()
        }
    };
    if !layers.contains(&true) {
        return Ok(None);
    }
    let default = uses.then_some(4096);
    let tokens = object.integer("sliding_window", 1..=limits::CONTEXT)?.or(default);
    let tokens = object.require("sliding_window", tokens)?;
    Ok(Some(Window { tokens, layers, rope_theta }))
}

/// Which layers slide, where the configuration lists it.
fn layer_types(object: &Object<'_>, count: usize) -> Result<Option<Vec<bool>>, Error> {
    const KEY: &str = "layer_types";
    let Some(list) = object.get(KEY) else { return Ok(None) };
    let slides = |ty: &serde_json::Value| match ty.as_str() {
        Some("sliding_attention") => Some(true),
        Some("full_attention") => Some(false),
        _ => None,
    };
    let layers: Option<Vec<bool>> =
        list.as_array().and_then(|list| list.iter().map(slides).collect());
    match layers {
        Some(layers) if layers.len() == count => Ok(Some(layers)),
        _ => Err(object.bad(
            KEY,
            &format!("\"full_attention\" or \"sliding_attention\" for each of {count} layers"),
        )),
    }
}

/// The `quantization_config`. Missing keys have transformers' defaults.
fn quantization(
    object: &Object<'_>,
    old: bool,
) -> Result<(Quantization, Option<Vec<String>>), Error> {
    let Some(settings) = object.object("quantization_config.")? else {
        let stated = object.bool("is_bitnet_config")? == Some(true);
        let quantization = match (old, stated) {
            (true, _) => Quantization::Online,
            (false, true) => Quantization::Stated,
            (false, false) => Quantization::Unstated,
        };
        return Ok((quantization, None));
    };
    match settings.str("quant_method")? {
        Some("bitnet") => {}
        _ => return Err(settings.bad("quant_method", "\"bitnet\"")),
    }
    if settings.bool("use_rms_norm")? == Some(true) {
        return Err(settings.unsupported("use_rms_norm"));
    }
    let online = match settings.str("quantization_mode")? {
        None | Some("offline") => false,
        Some("online") => true,
        Some(_) => return Err(settings.bad("quantization_mode", "\"offline\" or \"online\"")),
    };
    let quantization = match (settings.str("linear_class")?, online) {
        (Some("autobitlinear"), true) => Quantization::Online,
        (Some("autobitlinear"), false) => Quantization::Offline { divide: false },
        (None | Some("bitlinear"), false) => Quantization::Offline { divide: true },
        (None | Some("bitlinear"), true) => {
            return Err(settings.bad("quantization_mode", "\"offline\" for the class bitlinear"));
        }
        _ => return Err(settings.bad("linear_class", "\"autobitlinear\" or \"bitlinear\"")),
    };
    Ok((quantization, excluded(&settings)?))
}

fn excluded(settings: &Object<'_>) -> Result<Option<Vec<String>>, Error> {
    const KEY: &str = "modules_to_not_convert";
    let Some(list) = settings.get(KEY) else { return Ok(None) };
    let names: Option<Vec<String>> = list
        .as_array()
        .and_then(|list| list.iter().map(|name| Some(name.as_str()?.to_owned())).collect());
    let names = names.ok_or_else(|| settings.bad(KEY, "a list of module names"))?;
    // transformers takes them for regular expressions, of which plain names are all that is used.
    if names.iter().any(|name| name.is_empty() || name.contains(|c| "*+?[](){}|^$\\".contains(c))) {
        return Err(settings.bad(KEY, "plain module names"));
    }
    Ok(Some(names))
}

impl HfConfig {
    /// Whether a module (`model.layers.0.mlp.up_proj`, `lm_head`) is kept dense.
    pub(crate) fn is_excluded(&self, module: &str) -> bool {
        match &self.excluded {
            None => module == "lm_head",
            Some(names) => names.iter().any(|name| {
                module.ends_with(name.as_str())
                    || module.starts_with(&format!("{name}."))
                    || module.contains(&format!(".{name}."))
            }),
        }
    }
}
