//! config.json: sizes, and how the weights are to be understood.

use crate::Error;
use crate::hf::json::Object;
use crate::model::{Arch, Config, limits};

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
    let config = sizes(&object, arch)?;
    for key in ["attention_bias", "mlp_bias", "use_bias"] {
        if object.bool(key)? == Some(true) {
            return Err(object.unsupported(key));
        }
    }
    let (quantization, excluded) = quantization(&object, old)?;
    Ok(HfConfig {
        tied: object.bool("tie_word_embeddings")?,
        rope_divisors: rope_scaling(&object, &config)?,
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
        _ => {
            return Err(object
                .bad("architectures", "BitNetForCausalLM, BitnetForCausalLM or LlamaForCausalLM"));
        }
    };
    match object.str("hidden_act")? {
        Some(found) if found != act => {
            Err(object.bad("hidden_act", &format!("\"{act}\" for this architecture")))
        }
        _ => Ok((arch, old)),
    }
}

fn sizes(object: &Object<'_>, arch: Arch) -> Result<Config, Error> {
    let size = |key: &str, max: u64| object.require(key, object.integer(key, 1..=max)?);
    let hidden = size("hidden_size", limits::WIDTH)?;
    let heads = size("num_attention_heads", limits::HEADS)?;
    let kv_heads = object.integer("num_key_value_heads", 1..=limits::HEADS)?.unwrap_or(heads);
    if !heads.is_multiple_of(kv_heads) {
        let expected = format!("a divisor of the {heads} heads");
        return Err(object.bad("num_key_value_heads", &expected));
    }
    let head_dim = match object.integer("head_dim", 2..=limits::WIDTH)? {
        Some(head_dim) => head_dim,
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
    let rope = object.object("rope_parameters.")?;
    let theta = match rope {
        Some(rope) if rope.get("rope_theta").is_some() => rope.positive("rope_theta")?,
        _ => object.positive("rope_theta")?,
    };
    let eps = object.positive("rms_norm_eps")?;
    Ok(Config {
        arch,
        vocab: size("vocab_size", limits::VOCAB)?,
        context: size("max_position_embeddings", limits::CONTEXT)?,
        hidden,
        ffn: size("intermediate_size", limits::WIDTH)?,
        layers: size("num_hidden_layers", limits::LAYERS)?,
        heads,
        kv_heads,
        head_dim,
        norm_eps: object.require("rms_norm_eps", eps)?,
        rope_theta: object.require("rope_theta", theta)?,
    })
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

/// RoPE scaling: none, or Llama 3's, which is a divisor of each frequency.
fn rope_scaling(object: &Object<'_>, config: &Config) -> Result<Option<Vec<f32>>, Error> {
    let scaling = match object.object("rope_scaling.")? {
        Some(scaling) => scaling,
        None => match object.object("rope_parameters.")? {
            Some(parameters) => parameters,
            None => return Ok(None),
        },
    };
    for partial in [object, &scaling] {
        if partial.number("partial_rotary_factor")?.is_some_and(|factor| factor != 1.0) {
            return Err(partial.unsupported("partial_rotary_factor"));
        }
    }
    let key = if scaling.get("rope_type").is_some() { "rope_type" } else { "type" };
    match scaling.str(key)? {
        None if scaling.get("factor").is_some() => return Err(scaling.unsupported("factor")),
        None | Some("default") => return Ok(None),
        Some("llama3") => {}
        Some(_) => return Err(scaling.unsupported(key)),
    }
    let positive = |key: &str| scaling.require(key, scaling.positive(key)?);
    let factor = positive("factor")?;
    let (low, high) = (positive("low_freq_factor")?, positive("high_freq_factor")?);
    if low >= high {
        return Err(scaling.bad("low_freq_factor", &format!("less than high_freq_factor ({high})")));
    }
    const OLD: &str = "original_max_position_embeddings";
    let old = scaling.positive(OLD)?.or(object.positive(OLD)?);
    let old = scaling.require(OLD, old)?;
    let divisors = (0..config.head_dim / 2).map(|i| {
        let exponent = (2 * i) as f32 / config.head_dim as f32;
        let wavelength = 2.0 * std::f32::consts::PI * config.rope_theta.powf(exponent);
        if wavelength < old / high {
            1.0
        } else if wavelength > old / low {
            factor
        } else {
            let smooth = (old / wavelength - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    });
    Ok(Some(divisors.collect()))
}
