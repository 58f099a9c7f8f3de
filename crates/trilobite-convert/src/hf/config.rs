//! Reading config.json: the hyperparameters and the encoding of the weights.

mod classes;
mod defaults;
mod excluded;
mod experts;
mod rope;
#[cfg(test)]
mod tests;

use trilobite_format::keys::model as keys;
use trilobite_format::model::{
    Architecture, Fault, Hyperparameters, Role, Rope, Scales, Window, limits, tensors,
};

use super::names;
use crate::Error;
use crate::hf::json::{Object, brief};
use crate::source::Shards;
use classes::Class;
use defaults::Defaults;
use excluded::Excluded;
use rope::Rotary;

/// The names of a parameter of RoPE, in the order in which they take precedence.
macro_rules! rope_names {
    ($name:literal) => {
        [
            concat!("rope_scaling.", $name),
            concat!("rope_parameters.full_attention.", $name),
            concat!("rope_parameters.", $name),
            $name,
        ]
    };
}

/// The content of config.json.
#[derive(Debug)]
pub(crate) struct HfConfig {
    pub(crate) model: Hyperparameters,
    /// Whether the projections of attention have biases that are optional in the architecture.
    pub(crate) biases: bool,
    /// Whether tensors are named as in 1bitLLM's checkpoints.
    pub(crate) old: bool,
    /// Whether the head is tied to the embedding; `None` if the file does not say.
    pub(crate) tied: Option<bool>,
    /// The default of the model's class for `tied`.
    pub(crate) tied_by_default: bool,
    pub(crate) quantization: Quantization,
    /// The modules that MLX packs with four bits, and the sizes of their groups.
    pub(crate) four_bits: Vec<(String, u64)>,
    /// Whether the input of every quantised projection is normed (`use_rms_norm`).
    pub(crate) input_norms: bool,
    /// The modules in `modules_to_not_convert`. `None` if the key is absent: then all projections
    /// are ternary, and the head is dense.
    pub(crate) excluded: Option<Excluded>,
    /// The divisors of RoPE frequencies, if they are scaled.
    pub(crate) rope_divisors: Vec<(Role, Vec<f32>)>,
    /// Notes for the user about values with an unexpected meaning.
    pub(crate) notes: Vec<String>,
}

/// The encoding of projections, as far as the configuration states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantization {
    /// Not stated.
    Unstated,
    /// `is_bitnet_config`: a BitNet model whose dense weights are master weights, or ternary
    /// weights stored as floats.
    Stated,
    /// Master weights that are quantised by absmean on loading.
    Online,
    /// Ternary weights with a `weight_scale`. A weight is trit times scale, or trit divided by
    /// scale.
    Offline { divide: bool },
    /// Codes of two bits with a scale for each row, or a scale and a bias for each group of columns.
    Mlx { group: u64 },
}

/// Reads config.json.
pub(crate) fn read(object: Object<'_>) -> Result<HfConfig, Error> {
    let (&Class { old, defaults, .. }, arch) = Class::of(&object)?;
    for key in ["mlp_bias", "use_bias", "use_bidirectional_attention"] {
        if object.bool(key)? == Some(true) {
            return Err(object.unsupported(key));
        }
    }
    // Bonsai and Maple are the supported models that MLX packs.
    let mlx = match arch {
        Architecture::Qwen3 | Architecture::Maple => mlx(&object)?,
        _ => None,
    };
    if arch == Architecture::Maple {
        if mlx.is_none() && object.get("quantization_config").is_some() {
            return Err(object.unsupported("quantization_config"));
        }
        if object.bool("is_bitnet_config")? == Some(true) {
            return Err(object.unsupported("is_bitnet_config"));
        }
    }
    let unfit = |fault| unfit(&object, fault);
    let sizes = sizes(&object, arch, defaults)?;
    // Limit the numbers of layers and pairs before lists of these lengths are read.
    sizes.check().map_err(unfit)?;
    let experts = match arch.has_experts() {
        true => Some(experts::read(&object, sizes.layers)?),
        false => None,
    };
    let Rotary { rope, rope_dim, context, local_theta, divisors, notes } =
        rope::read(&object, &sizes, defaults.rope_theta)?;
    let window = window(&object, &sizes, local_theta)?;
    let attention_scale = attention_scale(&object, &sizes)?;
    let scales = scales(&object, &sizes)?;
    let (quantization, excluded, four_bits) = match mlx {
        Some((group, four_bits)) => (Quantization::Mlx { group }, None, four_bits),
        None => {
            let (quantization, excluded) = quantization(&object, old)?;
            (quantization, excluded, Vec::new())
        }
    };
    let projection_norm_eps = input_norms(&object)?;
    let model = Hyperparameters {
        rope,
        rope_dim,
        context,
        window,
        experts,
        attention_scale,
        scales,
        projection_norm_eps: projection_norm_eps.filter(|eps| *eps != sizes.norm_eps),
        ..sizes
    };
    model.check().map_err(unfit)?;
    Ok(HfConfig {
        model,
        // Qwen 2 requires its biases, regardless of the key.
        biases: arch != Architecture::Qwen2 && object.bool("attention_bias")? == Some(true),
        old,
        tied: object.bool("tie_word_embeddings")?,
        tied_by_default: defaults.tied,
        quantization,
        four_bits,
        input_norms: projection_norm_eps.is_some(),
        excluded,
        rope_divisors: divisors,
        notes,
    })
}

/// Reads the sizes. RoPE and the window are read later.
fn sizes(
    object: &Object<'_>,
    arch: Architecture,
    defaults: &Defaults,
) -> Result<Hyperparameters, Error> {
    let stated = |key: &str| object.integer(key, 0..=u32::MAX.into());
    let size = |key: &str, default: u64| Ok::<_, Error>(stated(key)?.unwrap_or(default));
    let gemma = arch == Architecture::Gemma3;
    let hidden = size("hidden_size", defaults.hidden)?;
    let heads = object.integer("num_attention_heads", 1..=limits::HEADS)?;
    let heads = heads.unwrap_or(defaults.heads);
    let kv_heads = match stated("num_key_value_heads")? {
        Some(kv_heads) => kv_heads,
        None if object.is_null("num_key_value_heads") => heads,
        None => defaults.kv_heads.unwrap_or(heads),
    };
    // Null means `hidden / heads` in `MapleConfig`.
    let unstated = arch == Architecture::Maple && object.is_null("head_dim");
    let head_dim = match stated("head_dim")?.or(defaults.head_dim.filter(|_| !unstated)) {
        Some(head_dim) => head_dim,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            let expected = format!("a value, for {heads} heads do not divide {hidden}");
            return Err(object.bad("head_dim", &expected));
        }
    };
    Ok(Hyperparameters {
        arch,
        vocab: size("vocab_size", defaults.vocab)?,
        context: size("max_position_embeddings", defaults.context)?,
        hidden,
        ffn: size("intermediate_size", defaults.ffn)?,
        layers: size("num_hidden_layers", defaults.layers)?,
        heads,
        kv_heads,
        head_dim,
        rope_dim: head_dim,
        norm_eps: object.number("rms_norm_eps")?.unwrap_or(defaults.norm_eps),
        projection_norm_eps: None,
        rope: Rope::unscaled(defaults.rope_theta),
        window: None,
        experts: None,
        attention_scale: None,
        softcap: if gemma { softcap(object)? } else { None },
        scales: Scales::NONE,
        pooling: None,
    })
}

/// The error for a hyperparameter outside its range, under its name in config.json and with the value
/// there, from which the hyperparameter may follow.
fn unfit(object: &Object<'_>, fault: Fault) -> Error {
    /// The names of each hyperparameter, in the order in which they take precedence.
    const NAMES: [(&str, &[&str]); 21] = [
        (keys::VOCAB, &["vocab_size"]),
        (keys::CONTEXT, &["max_position_embeddings"]),
        (keys::HIDDEN, &["hidden_size"]),
        (keys::LAYERS, &["num_hidden_layers"]),
        (keys::FFN, &["intermediate_size"]),
        (keys::HEADS, &["num_attention_heads"]),
        (keys::KV_HEADS, &["num_key_value_heads"]),
        (keys::HEAD_DIM, &["head_dim"]),
        (keys::NORM_EPS, &["rms_norm_eps"]),
        (keys::WINDOW, &["sliding_window"]),
        (keys::PROJECTION_NORM_EPS, &["quantization_config.rms_norm_eps"]),
        (keys::EMBEDDING_SCALE, &["scale_emb"]),
        (keys::RESIDUAL_SCALE, &["scale_depth"]),
        (keys::LOGIT_SCALE, &["dim_model_base"]),
        (keys::ROPE_BASE, &rope_names!("rope_theta")),
        (keys::ROPE_DIM, &rope_names!("partial_rotary_factor")),
        (
            keys::ROPE_BASE_WINDOW,
            &[
                "rope_parameters.sliding_attention.rope_theta",
                "rope_local_base_freq",
                "rope_parameters.rope_theta",
                "rope_theta",
            ],
        ),
        (keys::SCALING_FACTOR, &rope_names!("factor")),
        (keys::ATTENTION_FACTOR, &rope_names!("attention_factor")),
        (keys::BETA_FAST, &rope_names!("beta_fast")),
        (keys::BETA_SLOW, &rope_names!("beta_slow")),
    ];
    let Fault { key, expected, found } = fault;
    let own = [key];
    let names = NAMES.iter().find(|(known, _)| *known == key).map_or(&own[..], |(_, all)| all);
    let value = |name: &&'static str| {
        let value = name.split('.').try_fold(object.value, |value, key| value.get(key));
        value.filter(|value| !value.is_null()).map(|value| (*name, brief(value)))
    };
    let number = |text: &str| text.parse::<f64>().ok();
    let (name, found) = match names.iter().find_map(value) {
        Some((name, stated)) if number(&stated) == number(&found) => (name, stated),
        Some((name, stated)) => (name, format!("{stated}, which means {found}")),
        None => (names[names.len() - 1], format!("{found} where it is not stated")),
    };
    Error::Value { file: object.file.to_owned(), key: name.to_owned(), expected, found }
}

/// The factor of attention scores; `None` if it is `1 / sqrt(head_dim)` and that is also the
/// default of the output.
fn attention_scale(object: &Object<'_>, model: &Hyperparameters) -> Result<Option<f32>, Error> {
    if model.arch != Architecture::Gemma3 {
        return Ok(None);
    }
    let scalar = object.positive("query_pre_attn_scalar")?.unwrap_or(256.0);
    let usual = scalar == model.head_dim as f32 && model.scale_width() == model.head_dim;
    Ok((!usual).then(|| (1.0 / f64::from(scalar).sqrt()) as f32))
}

/// The factors of MiniCPM.
fn scales(object: &Object<'_>, sizes: &Hyperparameters) -> Result<Scales, Error> {
    if sizes.arch != Architecture::MiniCpm {
        return Ok(Scales::NONE);
    }
    const EXPERTS: &str = "num_experts";
    if object.integer(EXPERTS, 0..=u32::MAX.into())?.is_some_and(|experts| experts > 0) {
        return Err(object.unsupported(EXPERTS));
    }
    let or_1 = |key| Ok::<f32, Error>(object.positive(key)?.unwrap_or(1.0));
    let depth = f64::from(or_1("scale_depth")?);
    Ok(Scales {
        embedding: or_1("scale_emb")?,
        residual: (depth / (sizes.layers as f64).sqrt()) as f32,
        logits: sizes.hidden as f32 / or_1("dim_model_base")?,
    })
}

/// The epsilon of the norms of projections' inputs; `None` if there are no such norms.
fn input_norms(object: &Object<'_>) -> Result<Option<f32>, Error> {
    let Some(settings) = object.object("quantization_config.")? else { return Ok(None) };
    match settings.bool("use_rms_norm")? {
        Some(true) => Ok(Some(settings.number("rms_norm_eps")?.unwrap_or(1e-6))),
        _ => Ok(None),
    }
}

/// The cap of the logits. That of attention scores is a remnant of Gemma 2 that no Gemma 3 uses.
fn softcap(object: &Object<'_>) -> Result<Option<f32>, Error> {
    if object.get("attn_logit_softcapping").is_some() {
        return Err(object.unsupported("attn_logit_softcapping"));
    }
    object.positive("final_logit_softcapping")
}

/// Sliding windows of the layers that `layer_types` lists; without it, of those that the older keys
/// imply.
fn window(
    object: &Object<'_>,
    sizes: &Hyperparameters,
    rope_theta: f32,
) -> Result<Option<Window>, Error> {
    const KEY: &str = "sliding_window";
    let gemma = sizes.arch == Architecture::Gemma3;
    let maple = sizes.arch == Architecture::Maple;
    let uses = match sizes.arch {
        Architecture::Gemma3 | Architecture::Maple => true,
        // A window of null means no window.
        Architecture::Qwen2 | Architecture::Qwen3 => {
            object.bool("use_sliding_window")? == Some(true) && !object.is_null(KEY)
        }
        _ => return Ok(None),
    };
    let count = sizes.layers as usize;
    let layers = match layer_types(object, count)? {
        Some(layers) => layers,
        // deepgrove's model code and other programs disagree about a default.
        None if maple => {
            return Err(object.bad("layer_types", "a list with the type of each layer"));
        }
        None if gemma => {
            const PERIOD: &str = "sliding_window_pattern";
            let period = object.integer(PERIOD, 1..=limits::LAYERS)?.unwrap_or(6) as usize;
            (1..=count).map(|layer| !layer.is_multiple_of(period)).collect()
        }
        None => {
            let full = object.integer("max_window_layers", 0..=u32::MAX.into())?.unwrap_or(28);
            (0..count).map(|layer| uses && layer as u64 >= full).collect()
        }
    };
    if !layers.contains(&true) {
        return Ok(None);
    }
    if object.is_null(KEY) {
        return Err(object.bad(KEY, "a number of tokens, for some layers slide"));
    }
    if !uses {
        return Err(object.bad("use_sliding_window", "true, for some layers slide"));
    }
    if maple {
        // deepgrove's model code counts the tokens before the current one.
        let before = object.integer(KEY, 1..=u32::MAX.into())?;
        let tokens = object.require(KEY, before)? + 1;
        return Ok(Some(Window { tokens, layers, rope_theta }));
    }
    let tokens = object.integer(KEY, 0..=u32::MAX.into())?.unwrap_or(4096);
    Ok(Some(Window { tokens, layers, rope_theta }))
}

/// Reads from `layer_types` whether each layer slides, if the key is present.
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

/// What a checkpoint of MLX says about its codes: the size of a group, and the modules that have four
/// bits instead of two, with the sizes of their groups.
type MlxSettings = (u64, Vec<(String, u64)>);

/// Reads the settings of a checkpoint of MLX, which repeats its key under transformers' name.
fn mlx(object: &Object<'_>) -> Result<Option<MlxSettings>, Error> {
    let own = object.object("quantization.")?;
    let settings = match own {
        Some(settings) => Some(settings),
        None => object.object("quantization_config.")?.filter(|s| s.get("quant_method").is_none()),
    };
    let Some(settings) = settings else { return Ok(None) };
    let Some(group) = settings.integer("group_size", 1..=u32::MAX.into())? else {
        return match own {
            Some(_) => Err(settings.bad("group_size", "a number of columns")),
            None => Ok(None),
        };
    };
    if settings.integer("bits", 0..=u32::MAX.into())? != Some(2) {
        return Err(settings.bad("bits", "2"));
    }
    if settings.str("mode")?.is_some_and(|mode| mode != "affine") {
        return Err(settings.bad("mode", "\"affine\""));
    }
    if !group.is_multiple_of(64) {
        return Err(settings.bad("group_size", "a multiple of 64"));
    }
    let mut four_bits = Vec::new();
    for (module, value) in settings.iter().filter(|(_, value)| value.is_object()) {
        let number = |key: &str| value.get(key).and_then(serde_json::Value::as_u64);
        let affine = value.get("mode").is_none_or(|mode| mode == "affine");
        match (number("bits"), number("group_size")) {
            (Some(4), Some(size)) if affine && size > 0 && size.is_multiple_of(32) => {
                four_bits.push((module.to_owned(), size));
            }
            (Some(2), Some(size)) if affine && size == group => {}
            _ => {
                let size =
                    format!("2 bits in groups of {group}, or 4 in groups of a multiple of 32");
                return Err(settings.bad(module, &size));
            }
        }
    }
    Ok(Some((group, four_bits)))
}

/// Reads `quantization_config`, with the defaults of transformers.
fn quantization(object: &Object<'_>, old: bool) -> Result<(Quantization, Option<Excluded>), Error> {
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
    Ok((quantization, Excluded::read(&settings)?))
}

impl HfConfig {
    /// The module of which the tensor is the weight or the bias.
    pub(crate) fn module(&self, role: Role, layer: u64) -> Option<String> {
        let module = names::module(role, layer, self.model.arch, self.old)?;
        // The name that transformers gives the norms which it adds itself.
        let linear = module.strip_suffix(".norm").filter(|_| self.input_norms);
        match linear.filter(|_| role.is_input_norm()) {
            Some(linear) => Some(format!("{linear}.rms_norm")),
            None => Some(module),
        }
    }

    /// The head width for reordering the rows of rotated tensors; see
    /// [`source_row`](crate::rows::source_row).
    pub(crate) fn reordering(&self, role: Role) -> Option<usize> {
        let rotated = matches!(role, Role::Q | Role::K | Role::QBias | Role::KBias);
        (rotated && self.model.arch.permutes()).then_some(self.model.head_dim as usize)
    }

    /// Whether the model has an optional tensor other than the head in a layer. Only converted
    /// projections norm their input.
    pub(crate) fn has(&self, role: Role, layer: u64) -> bool {
        match role.divides_rope() {
            true => self.rope_divisors.iter().any(|(divisors, _)| *divisors == role),
            false if role.is_input_norm() => {
                let norm = self.module(role, layer).filter(|_| self.input_norms);
                let linear = norm.as_deref().and_then(|norm| norm.strip_suffix(".rms_norm"));
                linear.is_some_and(|linear| !self.is_excluded(linear))
            }
            false => role.is_bias() && self.biases,
        }
    }

    /// Whether a module (`model.layers.0.mlp.up_proj`, `lm_head`) is kept dense.
    pub(crate) fn is_excluded(&self, module: &str) -> bool {
        self.excluded.as_ref().map_or(module == names::HEAD, |excluded| excluded.contains(module))
    }

    /// Decides by the stored tensors about the modules that `modules_to_not_convert` names loosely.
    pub(crate) fn settle(&mut self, shards: &Shards<'_>) {
        let has = |role: Role, _| role == Role::Head;
        let all = tensors(&self.model, has).into_iter();
        let modules: Vec<String> = all
            .filter(|tensor| tensor.role.is_projection() || tensor.role == Role::Head)
            .filter_map(|tensor| self.module(tensor.role, tensor.layer))
            .collect();
        if let Some(excluded) = &mut self.excluded {
            let offline = matches!(self.quantization, Quantization::Offline { .. });
            excluded.settle(&modules, offline, self.input_norms, shards);
        }
    }
}
