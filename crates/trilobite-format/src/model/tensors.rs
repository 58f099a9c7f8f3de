//! The table of tensors: the name and shape of each, and the models that have it.

use super::architecture::Architecture::{self, BitNet, BitNetB158, Gemma3, Maple, Qwen2, Qwen3};
use super::hyperparameters::Hyperparameters;
use super::rope::Scaling;

/// The function of a tensor in a model, in the order of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the table of names and shapes says what they are")]
pub enum Role {
    Embedding,
    RopeFreqs,
    RopeShort,
    RopeLong,
    AttnNorm,
    Q,
    K,
    V,
    AttnOutput,
    FfnNorm,
    Gate,
    Up,
    Down,
    /// [`Down`](Self::Down) stored transposed. It takes the place of `Down`.
    DownTransposed,
    /// The router, whose product with a token is a logit for each expert.
    Router,
    /// [`Gate`](Self::Gate) of all experts.
    GateExperts,
    /// [`Up`](Self::Up) of all experts.
    UpExperts,
    /// [`Down`](Self::Down) of all experts.
    DownExperts,
    AttnSubNorm,
    FfnSubNorm,
    AttnPostNorm,
    FfnPostNorm,
    QNorm,
    KNorm,
    QBias,
    KBias,
    VBias,
    AttnOutputBias,
    /// The norm of the input of [`Q`](Self::Q), before it is multiplied. The other projections of a
    /// layer have such a norm each.
    QInputNorm,
    KInputNorm,
    VInputNorm,
    AttnOutputInputNorm,
    GateInputNorm,
    UpInputNorm,
    DownInputNorm,
    OutputNorm,
    Head,
}

/// Whether a model has a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The model requires it.
    Required,
    /// The model may have it. A tensor of a layer is in all layers or in none, except that dense
    /// projections may lack a norm that those of other layers have.
    Optional,
    /// The model does not have it, except as a replacement for another tensor.
    Absent,
}

/// A tensor of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// The function of the tensor.
    pub role: Role,
    /// The layer; 0 for a tensor outside the layers.
    pub layer: u64,
    /// Its name.
    pub name: String,
    /// Its shape, outermost dimension first.
    pub shape: Vec<u64>,
}

/// The length of a dimension, in terms of the hyperparameters.
#[derive(Clone, Copy)]
enum Size {
    Vocab,
    Hidden,
    Ffn,
    /// The width of all query heads.
    Queries,
    /// The width of all key heads, and of all value heads.
    Keys,
    Head,
    /// The frequencies of RoPE: half the rotated elements of a head.
    Pairs,
    Experts,
    /// The width of an expert.
    ExpertFfn,
}

/// Which models have a tensor.
#[derive(Clone, Copy)]
enum Models {
    All,
    Of(&'static [Architecture]),
    AllBut(&'static [Architecture]),
    /// Required in these, optional in all others.
    AnyBut(&'static [Architecture]),
    LongRope,
    OtherRope,
    None,
}

struct Row {
    role: Role,
    /// The name. In a layer it follows `blk.N.`.
    name: &'static str,
    in_layer: bool,
    shape: &'static [Size],
    models: Models,
}

const fn whole(role: Role, name: &'static str, shape: &'static [Size], models: Models) -> Row {
    Row { role, name, in_layer: false, shape, models }
}

const fn layer(role: Role, name: &'static str, shape: &'static [Size], models: Models) -> Row {
    Row { role, name, in_layer: true, shape, models }
}

use Models::{All, AllBut, AnyBut, LongRope, Of, OtherRope};
use Size::{ExpertFfn, Experts, Ffn, Head, Hidden, Keys, Pairs, Queries, Vocab};

const SUB_NORMS: Models = Of(&[BitNetB158, BitNet]);
const POST_NORMS: Models = Of(&[Gemma3]);
const HEAD_NORMS: Models = Of(&[Qwen3, Gemma3, Maple]);
const ONE_NETWORK: Models = AllBut(&[Maple]);
const MIXTURE: Models = Of(&[Maple]);
const BIASES: Models = AnyBut(&[Qwen2]);
const OPTIONAL: Models = AnyBut(&[]);

/// All tensors, indexed by [`Role`].
#[rustfmt::skip]
static TABLE: [Row; 37] = [
    whole(Role::Embedding, "token_embd.weight", &[Vocab, Hidden], All),
    whole(Role::RopeFreqs, "rope_freqs.weight", &[Pairs], OtherRope),
    whole(Role::RopeShort, "rope_factors_short.weight", &[Pairs], LongRope),
    whole(Role::RopeLong, "rope_factors_long.weight", &[Pairs], LongRope),
    layer(Role::AttnNorm, "attn_norm.weight", &[Hidden], All),
    layer(Role::Q, "attn_q.weight", &[Queries, Hidden], All),
    layer(Role::K, "attn_k.weight", &[Keys, Hidden], All),
    layer(Role::V, "attn_v.weight", &[Keys, Hidden], All),
    layer(Role::AttnOutput, "attn_output.weight", &[Hidden, Queries], All),
    layer(Role::FfnNorm, "ffn_norm.weight", &[Hidden], All),
    layer(Role::Gate, "ffn_gate.weight", &[Ffn, Hidden], ONE_NETWORK),
    layer(Role::Up, "ffn_up.weight", &[Ffn, Hidden], ONE_NETWORK),
    layer(Role::Down, "ffn_down.weight", &[Hidden, Ffn], ONE_NETWORK),
    layer(Role::DownTransposed, "ffn_down_t.weight", &[Ffn, Hidden], Models::None),
    layer(Role::Router, "ffn_gate_inp.weight", &[Experts, Hidden], MIXTURE),
    layer(Role::GateExperts, "ffn_gate_exps.weight", &[Experts, ExpertFfn, Hidden], MIXTURE),
    layer(Role::UpExperts, "ffn_up_exps.weight", &[Experts, ExpertFfn, Hidden], MIXTURE),
    layer(Role::DownExperts, "ffn_down_exps.weight", &[Experts, Hidden, ExpertFfn], MIXTURE),
    layer(Role::AttnSubNorm, "attn_sub_norm.weight", &[Queries], SUB_NORMS),
    layer(Role::FfnSubNorm, "ffn_sub_norm.weight", &[Ffn], SUB_NORMS),
    layer(Role::AttnPostNorm, "post_attention_norm.weight", &[Hidden], POST_NORMS),
    layer(Role::FfnPostNorm, "post_ffw_norm.weight", &[Hidden], POST_NORMS),
    layer(Role::QNorm, "attn_q_norm.weight", &[Head], HEAD_NORMS),
    layer(Role::KNorm, "attn_k_norm.weight", &[Head], HEAD_NORMS),
    layer(Role::QBias, "attn_q.bias", &[Queries], BIASES),
    layer(Role::KBias, "attn_k.bias", &[Keys], BIASES),
    layer(Role::VBias, "attn_v.bias", &[Keys], BIASES),
    layer(Role::AttnOutputBias, "attn_output.bias", &[Hidden], OPTIONAL),
    layer(Role::QInputNorm, "attn_q_norm_in.weight", &[Hidden], OPTIONAL),
    layer(Role::KInputNorm, "attn_k_norm_in.weight", &[Hidden], OPTIONAL),
    layer(Role::VInputNorm, "attn_v_norm_in.weight", &[Hidden], OPTIONAL),
    layer(Role::AttnOutputInputNorm, "attn_output_norm_in.weight", &[Queries], OPTIONAL),
    layer(Role::GateInputNorm, "ffn_gate_norm_in.weight", &[Hidden], OPTIONAL),
    layer(Role::UpInputNorm, "ffn_up_norm_in.weight", &[Hidden], OPTIONAL),
    layer(Role::DownInputNorm, "ffn_down_norm_in.weight", &[Ffn], OPTIONAL),
    whole(Role::OutputNorm, "output_norm.weight", &[Hidden], All),
    // Optional: without it the embedding is the head.
    whole(Role::Head, "output.weight", &[Vocab, Hidden], OPTIONAL),
];

/// The prefix of the names of a layer's tensors.
const LAYER: &str = "blk.";

impl Role {
    /// The role and the layer of the tensor with this name. The layer is 0 outside the layers.
    pub fn of(name: &str) -> Option<(Self, u64)> {
        let (layer, part) = match name.strip_prefix(LAYER) {
            None => (None, name),
            Some(rest) => {
                let (layer, part) = rest.split_once('.')?;
                (Some(layer.parse().ok()?), part)
            }
        };
        let row = TABLE.iter().find(|row| row.in_layer == layer.is_some() && row.name == part)?;
        Some((row.role, layer.unwrap_or(0)))
    }

    /// The name of the tensor. `layer` is ignored for a tensor outside the layers.
    pub fn name(self, layer: u64) -> String {
        let row = self.row();
        match row.in_layer {
            true => format!("{LAYER}{layer}.{}", row.name),
            false => row.name.to_owned(),
        }
    }

    /// The shape in a model, outermost dimension first.
    pub fn shape(self, model: &Hyperparameters) -> Vec<u64> {
        let length = |size: &Size| match size {
            Size::Vocab => model.vocab,
            Size::Hidden => model.hidden,
            Size::Ffn => model.ffn,
            Size::Queries => model.heads * model.head_dim,
            Size::Keys => model.kv_heads * model.head_dim,
            Size::Head => model.head_dim,
            Size::Pairs => model.rope_dim / 2,
            Size::Experts => model.experts.as_ref().map_or(0, |experts| experts.count),
            Size::ExpertFfn => model.experts.as_ref().map_or(0, |experts| experts.ffn),
        };
        self.row().shape.iter().map(length).collect()
    }

    /// Whether a model has this tensor.
    pub fn presence(self, model: &Hyperparameters) -> Presence {
        let long = matches!(model.rope.scaling, Scaling::LongRope { .. });
        match self.row().models {
            Models::All => Presence::Required,
            Models::Of(list) if list.contains(&model.arch) => Presence::Required,
            Models::AllBut(list) if !list.contains(&model.arch) => Presence::Required,
            Models::AnyBut(list) if list.contains(&model.arch) => Presence::Required,
            Models::AnyBut(_) => Presence::Optional,
            Models::LongRope if long => Presence::Required,
            Models::OtherRope if !long => Presence::Optional,
            Models::Of(_) | Models::AllBut(_) => Presence::Absent,
            Models::LongRope | Models::OtherRope | Models::None => Presence::Absent,
        }
    }

    /// The name of the tensor that the first layer lacks, if `name` is that of an optional tensor of a
    /// later one. The first layer decides whether the layers have such tensors, except norms of
    /// inputs.
    pub fn lacking(name: &str, model: &Hyperparameters) -> Option<String> {
        let (role, layer) = Self::of(name)?;
        let optional = role.presence(model) == Presence::Optional && !role.is_input_norm();
        (optional && (1..model.layers).contains(&layer)).then(|| role.name(0))
    }

    /// Whether this is a tensor of a layer.
    pub fn in_layer(self) -> bool {
        self.row().in_layer
    }

    /// Whether this is a projection: a matrix of a layer, which may be ternary, or one for each
    /// expert.
    pub fn is_projection(self) -> bool {
        let row = self.row();
        row.in_layer && row.shape.len() >= 2 && self != Role::Router
    }

    /// Whether this is the bias of a projection.
    pub fn is_bias(self) -> bool {
        matches!(self, Role::QBias | Role::KBias | Role::VBias | Role::AttnOutputBias)
    }

    /// Whether this is a vector, such as a norm or a bias.
    pub fn is_vector(self) -> bool {
        self.row().shape.len() == 1
    }

    /// Whether this holds a matrix for each expert.
    pub fn is_of_experts(self) -> bool {
        matches!(self, Role::GateExperts | Role::UpExperts | Role::DownExperts)
    }

    /// Whether this holds divisors of rotary frequencies.
    pub fn divides_rope(self) -> bool {
        matches!(self, Role::RopeFreqs | Role::RopeShort | Role::RopeLong)
    }

    /// The bias of a projection, for the projections that can have one.
    pub fn bias(self) -> Option<Self> {
        match self {
            Role::Q => Some(Role::QBias),
            Role::K => Some(Role::KBias),
            Role::V => Some(Role::VBias),
            Role::AttnOutput => Some(Role::AttnOutputBias),
            _ => None,
        }
    }

    /// The norm of the input of a projection, which some models have.
    pub fn input_norm(self) -> Option<Self> {
        match self {
            Role::Q => Some(Role::QInputNorm),
            Role::K => Some(Role::KInputNorm),
            Role::V => Some(Role::VInputNorm),
            Role::AttnOutput => Some(Role::AttnOutputInputNorm),
            Role::Gate => Some(Role::GateInputNorm),
            Role::Up => Some(Role::UpInputNorm),
            Role::Down => Some(Role::DownInputNorm),
            _ => None,
        }
    }

    /// The projection of which this is the norm of the input.
    pub fn normed_projection(self) -> Option<Self> {
        TABLE.iter().map(|row| row.role).find(|role| role.input_norm() == Some(self))
    }

    /// Whether this is the norm of the input of a projection.
    pub fn is_input_norm(self) -> bool {
        self.normed_projection().is_some()
    }

    fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }
}

/// The tensors of a model in the order of files. `has` says which optional tensors it has in a
/// layer, which is 0 outside the layers.
pub fn tensors(model: &Hyperparameters, has: impl Fn(Role, u64) -> bool) -> Vec<Tensor> {
    let tensor = |row: &Row, layer| {
        let present = match row.role.presence(model) {
            Presence::Required => true,
            Presence::Optional => has(row.role, layer),
            Presence::Absent => false,
        };
        present.then(|| Tensor {
            role: row.role,
            layer,
            name: row.role.name(layer),
            shape: row.role.shape(model),
        })
    };
    let of_layers = |row: &&Row| row.in_layer;
    let before = TABLE.iter().take_while(|row| !row.in_layer).map(|row| (row, 0));
    let layers = (0..model.layers)
        .flat_map(|layer| TABLE.iter().filter(of_layers).map(move |row| (row, layer)));
    let after = TABLE.iter().skip_while(|row| !row.in_layer).filter(|row| !row.in_layer);
    let all = before.chain(layers).chain(after.map(|row| (row, 0)));
    all.filter_map(|(row, layer)| tensor(row, layer)).collect()
}

/// The name of the tensor that holds the scale of `weight`, for weights that do not contain their
/// own.
pub fn scale_name(weight: &str) -> Option<String> {
    weight.strip_suffix(".weight").map(|name| format!("{name}.scale"))
}

/// A tensor of the coarse copy of the head. `trilobite_kernels::scan` defines its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadScanPart {
    /// The first bits of the codes.
    Codes,
    /// The further bits of the codes, one plane after the other.
    Refinements,
    /// The scales and error bounds of the rows.
    Bounds,
    /// The factors of the columns.
    Factors,
}

impl HeadScanPart {
    /// All parts, in the order of files.
    pub const ALL: [Self; 4] = [Self::Codes, Self::Refinements, Self::Bounds, Self::Factors];

    /// The name of the tensor.
    pub fn name(self) -> &'static str {
        match self {
            Self::Codes => "output_scan.weight",
            Self::Refinements => "output_scan.refine",
            Self::Bounds => "output_scan.bounds",
            Self::Factors => "output_scan.factors",
        }
    }

    /// The part with this tensor name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }
}

#[cfg(test)]
mod tests;
