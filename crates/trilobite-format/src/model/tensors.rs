//! The tensors of a model: a row for each, with its name, its shape and the models that have it.

use super::Architecture::{self, BitNet, BitNetB158, Gemma3, Qwen2, Qwen3};
use super::{Hyperparameters, Scaling};

/// What a tensor is to a model. The order is that of files.
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
    /// [`Down`](Self::Down) with columns for rows, which takes its place.
    DownTransposed,
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
    OutputNorm,
    Head,
}

/// Whether a model has a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It does.
    Required,
    /// It may; a tensor of a layer is in all layers or in none.
    Optional,
    /// It does not, unless another tensor is stored in this form.
    Absent,
}

/// A tensor of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// What it is.
    pub role: Role,
    /// Its layer; 0 for what is in none.
    pub layer: u64,
    /// Its name.
    pub name: String,
    /// Its shape, outermost dimension first.
    pub shape: Vec<u64>,
}

/// Lengths, in terms of the hyperparameters.
#[derive(Clone, Copy)]
enum Size {
    Vocab,
    Hidden,
    Ffn,
    /// All query heads.
    Queries,
    /// All key heads, and all value heads.
    Keys,
    Head,
    /// The frequencies of RoPE.
    Pairs,
}

/// Which models have a tensor.
#[derive(Clone, Copy)]
enum Models {
    All,
    Of(&'static [Architecture]),
    /// These, and any other may.
    AnyBut(&'static [Architecture]),
    LongRope,
    OtherRope,
    None,
}

struct Row {
    role: Role,
    /// The name; that of a tensor of a layer follows `blk.N.`.
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

use Models::{All, AnyBut, LongRope, Of, OtherRope};
use Size::{Ffn, Head, Hidden, Keys, Pairs, Queries, Vocab};

const SUB_NORMS: Models = Of(&[BitNetB158, BitNet]);
const POST_NORMS: Models = Of(&[Gemma3]);
const HEAD_NORMS: Models = Of(&[Qwen3, Gemma3]);
const BIASES: Models = AnyBut(&[Qwen2]);

/// All tensors, in the order of [`Role`].
#[rustfmt::skip]
static TABLE: [Row; 26] = [
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
    layer(Role::Gate, "ffn_gate.weight", &[Ffn, Hidden], All),
    layer(Role::Up, "ffn_up.weight", &[Ffn, Hidden], All),
    layer(Role::Down, "ffn_down.weight", &[Hidden, Ffn], All),
    layer(Role::DownTransposed, "ffn_down_t.weight", &[Ffn, Hidden], Models::None),
    layer(Role::AttnSubNorm, "attn_sub_norm.weight", &[Queries], SUB_NORMS),
    layer(Role::FfnSubNorm, "ffn_sub_norm.weight", &[Ffn], SUB_NORMS),
    layer(Role::AttnPostNorm, "post_attention_norm.weight", &[Hidden], POST_NORMS),
    layer(Role::FfnPostNorm, "post_ffw_norm.weight", &[Hidden], POST_NORMS),
    layer(Role::QNorm, "attn_q_norm.weight", &[Head], HEAD_NORMS),
    layer(Role::KNorm, "attn_k_norm.weight", &[Head], HEAD_NORMS),
    layer(Role::QBias, "attn_q.bias", &[Queries], BIASES),
    layer(Role::KBias, "attn_k.bias", &[Keys], BIASES),
    layer(Role::VBias, "attn_v.bias", &[Keys], BIASES),
    layer(Role::AttnOutputBias, "attn_output.bias", &[Hidden], AnyBut(&[])),
    whole(Role::OutputNorm, "output_norm.weight", &[Hidden], All),
    // Without it the embedding is the head.
    whole(Role::Head, "output.weight", &[Vocab, Hidden], AnyBut(&[])),
];

/// What the names of a layer's tensors begin with.
const LAYER: &str = "blk.";

impl Role {
    /// The tensor of a name, and its layer.
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

    /// The name of the tensor, in a layer if it is a layer's.
    pub fn name(self, layer: u64) -> String {
        let row = self.row();
        match row.in_layer {
            true => format!("{LAYER}{layer}.{}", row.name),
            false => row.name.to_owned(),
        }
    }

    /// The shape, outermost dimension first.
    pub fn shape(self, model: &Hyperparameters) -> Vec<u64> {
        let length = |size: &Size| match size {
            Size::Vocab => model.vocab,
            Size::Hidden => model.hidden,
            Size::Ffn => model.ffn,
            Size::Queries => model.heads * model.head_dim,
            Size::Keys => model.kv_heads * model.head_dim,
            Size::Head => model.head_dim,
            Size::Pairs => model.head_dim / 2,
        };
        self.row().shape.iter().map(length).collect()
    }

    /// Whether a model has the tensor.
    pub fn presence(self, model: &Hyperparameters) -> Presence {
        let long = matches!(model.rope.scaling, Scaling::LongRope { .. });
        match self.row().models {
            Models::All => Presence::Required,
            Models::Of(list) if list.contains(&model.arch) => Presence::Required,
            Models::AnyBut(list) if list.contains(&model.arch) => Presence::Required,
            Models::AnyBut(_) => Presence::Optional,
            Models::LongRope if long => Presence::Required,
            Models::OtherRope if !long => Presence::Optional,
            Models::Of(_) | Models::LongRope | Models::OtherRope | Models::None => Presence::Absent,
        }
    }

    /// Whether every layer has one.
    pub fn in_layer(self) -> bool {
        self.row().in_layer
    }

    /// Whether this is a matrix of a layer, which may be ternary.
    pub fn is_projection(self) -> bool {
        let row = self.row();
        row.in_layer && row.shape.len() == 2
    }

    /// Whether this is added to the product with a projection.
    pub fn is_bias(self) -> bool {
        matches!(self, Role::QBias | Role::KBias | Role::VBias | Role::AttnOutputBias)
    }

    /// Whether this is a norm, a bias or another list of numbers.
    pub fn is_vector(self) -> bool {
        self.row().shape.len() == 1
    }

    /// Whether rotary frequencies are divided by this.
    pub fn divides_rope(self) -> bool {
        matches!(self, Role::RopeFreqs | Role::RopeShort | Role::RopeLong)
    }

    /// The bias that is added to the product with a projection, where there can be one.
    pub fn bias(self) -> Option<Self> {
        match self {
            Role::Q => Some(Role::QBias),
            Role::K => Some(Role::KBias),
            Role::V => Some(Role::VBias),
            Role::AttnOutput => Some(Role::AttnOutputBias),
            _ => None,
        }
    }

    fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }
}

/// The tensors of a model in the order of files. Of those that it may have, the ones that `has` says.
pub fn tensors(model: &Hyperparameters, has: impl Fn(Role) -> bool) -> Vec<Tensor> {
    let present = |row: &&Row| match row.role.presence(model) {
        Presence::Required => true,
        Presence::Optional => has(row.role),
        Presence::Absent => false,
    };
    let tensor = |row: &Row, layer| Tensor {
        role: row.role,
        layer,
        name: row.role.name(layer),
        shape: row.role.shape(model),
    };
    let rows: Vec<&Row> = TABLE.iter().filter(present).collect();
    let of_layers = |row: &&&Row| row.in_layer;
    let before = rows.iter().take_while(|row| !row.in_layer).map(|row| tensor(row, 0));
    let layers = (0..model.layers)
        .flat_map(|layer| rows.iter().filter(of_layers).map(move |row| tensor(row, layer)));
    let after = rows.iter().skip_while(|row| !row.in_layer).filter(|row| !row.in_layer);
    before.chain(layers).chain(after.map(|row| tensor(row, 0))).collect()
}

/// The name of the tensor that holds the scale of another one, where that does not hold it itself.
pub fn scale_name(weight: &str) -> Option<String> {
    weight.strip_suffix(".weight").map(|name| format!("{name}.scale"))
}

/// The coarse copy of the head, one row of each for a row of the head. What the rows hold is for
/// `trilobite_kernels::scan` to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadScanPart {
    /// The codes.
    Codes,
    /// Their further bits.
    Refinements,
    /// The bounds of the rows.
    Bounds,
}

impl HeadScanPart {
    /// All, in the order of files.
    pub const ALL: [Self; 3] = [Self::Codes, Self::Refinements, Self::Bounds];

    /// The name of the tensor.
    pub fn name(self) -> &'static str {
        match self {
            Self::Codes => "output_scan.weight",
            Self::Refinements => "output_scan.refine",
            Self::Bounds => "output_scan.bounds",
        }
    }

    /// The part of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }
}

#[cfg(test)]
mod tests;
