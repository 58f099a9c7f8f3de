//! The tensors of a model as views into its file.

use std::collections::HashSet;
use std::ops::Range;

use trilobite_format::{Gguf, TensorInfo, TensorType, ternary};
use trilobite_kernels::scan::Bounds;
use trilobite_kernels::{DenseType, Kernels, Layout, i2_s};

use crate::config::Config;
use crate::error::{Error, Result};

/// A weight matrix `[rows][cols]` (out, in) in the model file.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// Rows: width of the output.
    pub rows: usize,
    /// Columns: width of the input.
    pub cols: usize,
    /// Bytes of the packed weights within the file.
    pub range: Range<usize>,
    /// How the weights are stored.
    pub kind: Kind,
}

/// A coarse copy of the head: see [`trilobite_kernels::scan`].
#[derive(Clone, Debug)]
pub struct HeadScan {
    /// The codes within the file, `[vocab][hidden]`.
    pub codes: Range<usize>,
    /// The rows' bounds within the file, `[vocab]`.
    pub bounds: Range<usize>,
}

/// How a matrix is stored and therefore multiplied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Packed trits, multiplied exactly with int8 activations.
    Ternary {
        /// How the trits are packed.
        layout: Layout,
        /// The value of a trit of 1.
        scale: f32,
    },
    /// Floats or blocks that stand for them, multiplied with f32 activations.
    Dense(DenseType),
}

/// One transformer layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Norm before attention, `[hidden]`.
    pub attn_norm: Vec<f32>,
    /// Query projection, `[heads * head_dim][hidden]`.
    pub q: Matrix,
    /// Key projection, `[kv_heads * head_dim][hidden]`.
    pub k: Matrix,
    /// Value projection, `[kv_heads * head_dim][hidden]`.
    pub v: Matrix,
    /// Norm over all heads before the output projection, `[heads * head_dim]` (BitNet).
    pub attn_sub_norm: Option<Vec<f32>>,
    /// Output projection, `[hidden][heads * head_dim]`.
    pub o: Matrix,
    /// Norm before the feed-forward network, `[hidden]`.
    pub ffn_norm: Vec<f32>,
    /// Gate projection, `[intermediate][hidden]`.
    pub gate: Matrix,
    /// Up projection, `[intermediate][hidden]`.
    pub up: Matrix,
    /// Norm before the down projection, `[intermediate]` (BitNet).
    pub ffn_sub_norm: Option<Vec<f32>>,
    /// Down projection, `[hidden][intermediate]`.
    pub down: Matrix,
}

/// All tensors of a model.
#[derive(Clone, Debug)]
pub struct Weights {
    /// Token embedding, `[vocab][hidden]`.
    pub embedding: Matrix,
    /// Type of the embedding, which is never ternary.
    pub embedding_type: DenseType,
    /// The layers, first to last.
    pub layers: Vec<Layer>,
    /// Norm before the head, `[hidden]`.
    pub output_norm: Vec<f32>,
    /// Output head, `[vocab][hidden]`; the embedding itself when tied.
    pub head: Matrix,
    /// A coarse copy of the head, where the file has one.
    pub head_scan: Option<HeadScan>,
    /// Whether the head is the embedding.
    pub tied: bool,
    /// Divisors of the rotary frequencies, `[head_dim / 2]` (RoPE scaling `llama3`).
    pub rope_divisors: Option<Vec<f32>>,
}

impl Weights {
    /// Finds every tensor that `config` calls for and checks shapes, types and scales.
    ///
    /// # Errors
    /// A tensor that is missing, unknown, misshapen, of an unusable type, or has a bad scale.
    pub fn from_gguf(gguf: &Gguf, file: &[u8], config: &Config) -> Result<Self> {
        let mut tensors = Tensors { gguf, file, used: HashSet::new() };
        let Config { hidden, intermediate, .. } = *config;
        let embedding = tensors.matrix("token_embd.weight", config.vocab, hidden)?;
        let Kind::Dense(embedding_type) = embedding.kind else {
            return Err(tensors.type_error("token_embd.weight", "a token embedding"));
        };
        // Not allocated ahead: the number of layers is only what the metadata says.
        let mut layers = Vec::new();
        for index in 0..config.layers {
            let name = |part: &str| format!("blk.{index}.{part}.weight");
            let (q_width, kv_width) = (config.q_width(), config.kv_width());
            let mut sub_norm = |part: &str, width| {
                config.sub_norms.then(|| tensors.vector(&name(part), width)).transpose()
            };
            let attn_sub_norm = sub_norm("attn_sub_norm", q_width)?;
            let ffn_sub_norm = sub_norm("ffn_sub_norm", intermediate)?;
            layers.push(Layer {
                attn_norm: tensors.vector(&name("attn_norm"), hidden)?,
                q: tensors.matrix(&name("attn_q"), q_width, hidden)?,
                k: tensors.matrix(&name("attn_k"), kv_width, hidden)?,
                v: tensors.matrix(&name("attn_v"), kv_width, hidden)?,
                attn_sub_norm,
                o: tensors.matrix(&name("attn_output"), hidden, q_width)?,
                ffn_norm: tensors.vector(&name("ffn_norm"), hidden)?,
                gate: tensors.matrix(&name("ffn_gate"), intermediate, hidden)?,
                up: tensors.matrix(&name("ffn_up"), intermediate, hidden)?,
                ffn_sub_norm,
                down: tensors.matrix(&name("ffn_down"), hidden, intermediate)?,
            });
        }
        let output_norm = tensors.vector("output_norm.weight", hidden)?;
        let tied = gguf.tensor("output.weight").is_none();
        let head = if tied {
            embedding.clone()
        } else {
            tensors.matrix("output.weight", config.vocab, hidden)?
        };
        let head_scan = match (gguf.tensor("output_scan.weight"), head.kind) {
            (Some(_), Kind::Dense(_)) => Some(tensors.head_scan(config.vocab, hidden)?),
            _ => None,
        };
        let rope_divisors = match gguf.tensor("rope_freqs.weight") {
            Some(_) => Some(tensors.vector("rope_freqs.weight", config.head_dim / 2)?),
            None => None,
        };
        tensors.all_used()?;
        Ok(Self {
            embedding,
            embedding_type,
            layers,
            output_norm,
            head,
            head_scan,
            tied,
            rope_divisors,
        })
    }

    /// Bytes of all tensors but the embedding and the head.
    pub fn non_embedding_bytes(&self) -> usize {
        let matrices = self.layers.iter().flat_map(Layer::matrices).map(|m| m.range.len());
        let vector = |v: &Vec<f32>| 4 * v.len();
        let norms = self.layers.iter().map(|layer| {
            vector(&layer.attn_norm)
                + vector(&layer.ffn_norm)
                + layer.attn_sub_norm.as_ref().map_or(0, vector)
                + layer.ffn_sub_norm.as_ref().map_or(0, vector)
        });
        matrices.sum::<usize>() + norms.sum::<usize>() + vector(&self.output_norm)
    }
}

impl Layer {
    /// The layer's matrices in the order of their use.
    pub fn matrices(&self) -> [&Matrix; 7] {
        [&self.q, &self.k, &self.v, &self.o, &self.gate, &self.up, &self.down]
    }
}

/// Hands out tensors and remembers which, so that none is silently ignored.
struct Tensors<'a> {
    gguf: &'a Gguf,
    file: &'a [u8],
    used: HashSet<String>,
}

impl<'a> Tensors<'a> {
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<&'a TensorInfo> {
        let info = self.gguf.tensor(name).ok_or_else(|| Error::MissingTensor(name.to_owned()))?;
        if !info.shape.iter().copied().eq(shape.iter().map(|&n| n as u64)) {
            return Err(Error::Shape {
                name: name.to_owned(),
                found: info.shape.clone(),
                expected: shape.iter().map(|&n| n as u64).collect(),
            });
        }
        self.used.insert(name.to_owned());
        Ok(info)
    }

    /// A norm or another short vector, widened to f32.
    fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>> {
        let info = self.take(name, &[len])?;
        let ty = dense_type(info.ty).ok_or_else(|| self.type_error(name, "a vector"))?;
        let mut out = vec![0.0; len];
        Kernels::detect()?.dense_row(ty, info.bytes(self.file), len, 0, &mut out);
        Ok(out)
    }

    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<Matrix> {
        let info = self.take(name, &[rows, cols])?;
        // Trits in llama.cpp's blocks are multiplied with int8 activations once converted.
        let ternary = ternary::has_one_scale(info.ty, info.bytes(self.file));
        if let Some(ty) = dense_type(info.ty).filter(|_| !ternary) {
            let (range, kind) = (info.range.clone(), Kind::Dense(ty));
            return Ok(Matrix { rows, cols, range, kind });
        }
        let layout = match info.ty {
            TensorType::I2S => Layout::I2S(i2_s::Rows::Flat),
            TensorType::I2R => Layout::I2S(i2_s::Rows::Padded),
            TensorType::T5_3 => Layout::T5_3,
            _ => return Err(self.type_error(name, "a weight matrix")),
        };
        let (codes, scale) = ternary::split(info.bytes(self.file))
            .filter(|(codes, _)| Some(codes.len()) == layout.packed_len(rows, cols))
            .ok_or_else(|| self.type_error(name, "a weight matrix"))?;
        if !(scale > 0.0 && scale.is_finite()) {
            return Err(Error::Scale { name: name.to_owned(), scale });
        }
        let range = info.range.start..info.range.start + codes.len();
        Ok(Matrix { rows, cols, range, kind: Kind::Ternary { layout, scale } })
    }

    fn head_scan(&mut self, rows: usize, cols: usize) -> Result<HeadScan> {
        let (codes, bounds) = ("output_scan.weight", "output_scan.bounds");
        let mut take = |name, cols, ty| {
            let info = self.take(name, &[rows, cols])?;
            if info.ty == ty { Ok(info) } else { Err(self.type_error(name, "a coarse head")) }
        };
        let (codes, bounds) =
            (take(codes, cols, TensorType::I8)?, take(bounds, 3, TensorType::F32)?);
        let rows = bounds.bytes(self.file).as_chunks().0;
        match rows.iter().position(|row| !Bounds::from_bytes(row).is_valid()) {
            None => Ok(HeadScan { codes: codes.range.clone(), bounds: bounds.range.clone() }),
            Some(row) => Err(Error::HeadScan { row }),
        }
    }

    fn type_error(&self, name: &str, role: &'static str) -> Error {
        let found = self.gguf.tensor(name).map_or("nothing", |info| info.ty.name());
        Error::TensorType { name: name.to_owned(), found: found.to_owned(), role }
    }

    fn all_used(&self) -> Result<()> {
        match self.gguf.tensors().iter().find(|info| !self.used.contains(&info.name)) {
            Some(info) => Err(Error::UnexpectedTensor(info.name.clone())),
            None => Ok(()),
        }
    }
}

fn dense_type(ty: TensorType) -> Option<DenseType> {
    match ty {
        TensorType::F32 => Some(DenseType::F32),
        TensorType::F16 => Some(DenseType::F16),
        TensorType::Bf16 => Some(DenseType::BF16),
        TensorType::Q4_0 => Some(DenseType::Q4_0),
        TensorType::Q4_1 => Some(DenseType::Q4_1),
        TensorType::Q5_0 => Some(DenseType::Q5_0),
        TensorType::Q5_1 => Some(DenseType::Q5_1),
        TensorType::Q8_0 => Some(DenseType::Q8_0),
        TensorType::Q4K => Some(DenseType::Q4K),
        TensorType::Q5K => Some(DenseType::Q5K),
        TensorType::Q6K => Some(DenseType::Q6K),
        TensorType::Tq1_0 => Some(DenseType::TQ1_0),
        TensorType::Tq2_0 => Some(DenseType::TQ2_0),
        _ => None,
    }
}
