//! The tensors of a model as views into its file.

mod check;
mod view;

use std::collections::HashSet;
use std::ops::Range;

use trilobite_format::model::{
    Projections, ROPE_FACTORS, ROPE_FREQS, Scaling, Storage, check_divisors,
};
use trilobite_format::{Gguf, TensorInfo, TensorType, ternary};
use trilobite_kernels::scan::{self, Bounds};
use trilobite_kernels::{DenseMatrix, DenseType, Kernels, Layout, i2_s};

use self::check::Coded;
pub(crate) use self::view::View;
use crate::config::Config;
use crate::error::{Error, Result};

/// A weight matrix `[rows][cols]` (out, in) in the model file.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// Rows: width of the output.
    pub rows: usize,
    /// Columns: width of the input.
    pub cols: usize,
    /// Where its packed weights are.
    pub place: Place,
    /// How the weights are stored.
    pub kind: Kind,
    /// What is added to the product, `[rows]`.
    pub bias: Option<Vec<f32>>,
}

/// Where something lies in a model.
#[derive(Clone, Debug)]
pub struct Place {
    /// Which of the model's files holds it.
    pub part: usize,
    /// Its bytes within the file.
    pub range: Range<usize>,
}

/// A coarse copy of the head: see [`trilobite_kernels::scan`].
#[derive(Clone, Debug)]
pub struct HeadScan {
    /// The codes, `[vocab]`.
    pub codes: Place,
    /// Their further bits, `[vocab]`.
    pub refinements: Place,
    /// The rows' bounds, `[vocab]`.
    pub bounds: Place,
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
    /// Norm of every head of the queries, `[head_dim]` (Qwen 3, Gemma).
    pub q_norm: Option<Vec<f32>>,
    /// Norm of every head of the keys, `[head_dim]` (Qwen 3, Gemma).
    pub k_norm: Option<Vec<f32>>,
    /// Norm over all heads before the output projection, `[heads * head_dim]` (BitNet).
    pub attn_sub_norm: Option<Vec<f32>>,
    /// Output projection, `[hidden][heads * head_dim]`.
    pub o: Matrix,
    /// Norm of what attention adds to the residual stream, `[hidden]` (Gemma).
    pub attn_post_norm: Option<Vec<f32>>,
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
    /// Norm of what the feed-forward network adds to the residual stream, `[hidden]` (Gemma).
    pub ffn_post_norm: Option<Vec<f32>>,
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
    /// What the rotary frequencies are divided by.
    pub rope_divisors: RopeDivisors,
    /// The projections and the head, where they hold nothing but zeros, by the names of the tensors.
    pub zeros: Vec<String>,
}

/// What the rotary frequencies are divided by, each by its own number, `[head_dim / 2]`.
#[derive(Clone, Debug)]
pub enum RopeDivisors {
    /// Nothing.
    None,
    /// The same for every context (RoPE scaling `llama3`).
    Fixed(Vec<f32>),
    /// Others for a context that is longer than the original one (`longrope`).
    ByContext {
        /// For a context of at most the original one.
        short: Vec<f32>,
        /// For a longer one.
        long: Vec<f32>,
    },
}

impl Weights {
    /// Finds every tensor that `config` calls for and checks shapes, types, scales and codes.
    ///
    /// # Errors
    /// A tensor that is missing, unknown, misshapen, of an unusable type, or has a bad scale or code.
    pub fn from_gguf(
        gguf: &Gguf,
        files: &[&[u8]],
        config: &Config,
        projections: &Projections,
    ) -> Result<Self> {
        let mut tensors = Tensors {
            gguf,
            files,
            projections,
            used: HashSet::new(),
            zeros: Vec::new(),
            coded: Vec::new(),
        };
        let Config { hidden, .. } = *config;
        let (embedding, embedding_type) =
            tensors.dense("token_embd.weight", config.vocab, hidden, "a token embedding")?;
        // Not allocated ahead: the number of layers is only what the metadata says.
        let mut layers = Vec::new();
        for index in 0..config.layers {
            layers.push(tensors.layer(index, config)?);
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
        let rope_divisors = tensors.rope_divisors(config)?;
        tensors.all_used()?;
        check::codes(&tensors.coded)?;
        Ok(Self {
            embedding,
            embedding_type,
            layers,
            output_norm,
            head,
            head_scan,
            tied,
            rope_divisors,
            zeros: tensors.zeros,
        })
    }

    /// Where the weights lie that every decoded token reads.
    pub(crate) fn places_mut(&mut self) -> impl Iterator<Item = &mut Place> {
        let head = match &mut self.head_scan {
            Some(HeadScan { codes, refinements, bounds }) => vec![codes, refinements, bounds],
            None => vec![&mut self.head.place],
        };
        let layers = self.layers.iter_mut().flat_map(Layer::matrices_mut);
        layers.map(|matrix| &mut matrix.place).chain(head)
    }

    /// Bytes of all tensors but the embedding and the head.
    pub fn non_embedding_bytes(&self) -> usize {
        let matrices = self.layers.iter().flat_map(Layer::matrices).map(|m| m.place.range.len());
        let vector = |v: &Vec<f32>| 4 * v.len();
        let vectors = self.layers.iter().map(|layer| {
            let biases = layer.matrices().into_iter().filter_map(|m| m.bias.as_ref());
            let norms = [
                &layer.q_norm,
                &layer.k_norm,
                &layer.attn_sub_norm,
                &layer.attn_post_norm,
                &layer.ffn_sub_norm,
                &layer.ffn_post_norm,
            ];
            let norms = norms.into_iter().flatten();
            let always = [&layer.attn_norm, &layer.ffn_norm].into_iter();
            biases.chain(norms).chain(always).map(vector).sum::<usize>()
        });
        matrices.sum::<usize>() + vectors.sum::<usize>() + vector(&self.output_norm)
    }
}

impl Layer {
    /// The layer's matrices in the order of their use.
    pub fn matrices(&self) -> [&Matrix; 7] {
        [&self.q, &self.k, &self.v, &self.o, &self.gate, &self.up, &self.down]
    }

    fn matrices_mut(&mut self) -> [&mut Matrix; 7] {
        let Layer { q, k, v, o, gate, up, down, .. } = self;
        [q, k, v, o, gate, up, down]
    }
}

impl Place {
    fn of(info: &TensorInfo) -> Self {
        Self { part: info.part, range: info.range.clone() }
    }
}

/// Hands out tensors and remembers which, so that none is silently ignored.
struct Tensors<'a> {
    gguf: &'a Gguf,
    files: &'a [&'a [u8]],
    projections: &'a Projections,
    used: HashSet<String>,
    /// See [`Weights::zeros`].
    zeros: Vec<String>,
    /// What has codes that may stand for nothing.
    coded: Vec<Coded<'a>>,
}

impl<'a> Tensors<'a> {
    fn layer(&mut self, index: usize, config: &Config) -> Result<Layer> {
        let Config { hidden, intermediate, head_dim, sub_norms, post_norms, qk_norms, .. } =
            *config;
        let (q_width, kv_width) = (config.q_width(), config.kv_width());
        let name = |part: &str| format!("blk.{index}.{part}");
        let weight = |part: &str| name(part) + ".weight";
        let mut norm = |there: bool, part: &str, width| {
            there.then(|| self.vector(&weight(part), width)).transpose()
        };
        let q_norm = norm(qk_norms, "attn_q_norm", head_dim)?;
        let k_norm = norm(qk_norms, "attn_k_norm", head_dim)?;
        let attn_sub_norm = norm(sub_norms, "attn_sub_norm", q_width)?;
        let attn_post_norm = norm(post_norms, "post_attention_norm", hidden)?;
        let ffn_sub_norm = norm(sub_norms, "ffn_sub_norm", intermediate)?;
        let ffn_post_norm = norm(post_norms, "post_ffw_norm", hidden)?;
        let biases = config.qkv_biases;
        Ok(Layer {
            attn_norm: self.vector(&weight("attn_norm"), hidden)?,
            q: self.projection(&name("attn_q"), q_width, hidden, biases)?,
            k: self.projection(&name("attn_k"), kv_width, hidden, biases)?,
            v: self.projection(&name("attn_v"), kv_width, hidden, biases)?,
            q_norm,
            k_norm,
            attn_sub_norm,
            o: self.projection(&name("attn_output"), hidden, q_width, false)?,
            attn_post_norm,
            ffn_norm: self.vector(&weight("ffn_norm"), hidden)?,
            gate: self.matrix(&weight("ffn_gate"), intermediate, hidden)?,
            up: self.matrix(&weight("ffn_up"), intermediate, hidden)?,
            ffn_sub_norm,
            down: self.matrix(&weight("ffn_down"), hidden, intermediate)?,
            ffn_post_norm,
        })
    }

    /// A matrix of the attention with its bias, which must be there where `biased` says so.
    fn projection(&mut self, name: &str, rows: usize, cols: usize, biased: bool) -> Result<Matrix> {
        let mut matrix = self.matrix(&format!("{name}.weight"), rows, cols)?;
        let bias = format!("{name}.bias");
        if biased || self.gguf.tensor(&bias).is_some() {
            matrix.bias = Some(self.vector(&bias, rows)?);
        }
        Ok(matrix)
    }

    fn bytes(&self, info: &'a TensorInfo) -> &'a [u8] {
        info.bytes(self.files.get(info.part).copied().unwrap_or_default())
    }

    fn take(&mut self, name: &str, shape: &[usize]) -> Result<&'a TensorInfo> {
        let info = self.gguf.tensor(name).ok_or_else(|| Error::MissingTensor(name.to_owned()))?;
        let found = info.matrix_shape();
        if !found.iter().copied().eq(shape.iter().map(|&n| n as u64)) {
            return Err(Error::Shape {
                name: name.to_owned(),
                found,
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
        let row = DenseMatrix::new(ty, self.bytes(info), 1, len);
        let row = row.ok_or_else(|| self.type_error(name, "a vector"))?;
        let mut out = vec![0.0; len];
        Kernels::detect()?.dense_row(&row, 0, &mut out);
        Ok(out)
    }

    /// A projection or the head, as it is or transposed.
    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<Matrix> {
        let name = self.gguf.matrix(name).map_or(name, |info| &info.name);
        let matrix = match self.projections.storage(name) {
            Some(Storage::Packed) => self.ternary(name, rows, cols)?,
            Some(Storage::Unpacked) => return Err(self.type_error(name, "it is, unconverted")),
            Some(Storage::Dense) | None => self.dense(name, rows, cols, "a weight matrix")?.0,
        };
        let file = self.files.get(matrix.place.part).copied().unwrap_or_default();
        let bytes = file.get(matrix.place.range.clone()).unwrap_or_default();
        let kernels = Kernels::detect()?;
        if matrix.view(bytes).is_some_and(|view| view.is_zero(kernels)) {
            self.zeros.push(name.to_owned());
        }
        Ok(matrix)
    }

    fn dense(
        &mut self,
        name: &str,
        rows: usize,
        cols: usize,
        role: &'static str,
    ) -> Result<(Matrix, DenseType)> {
        let info = self.take(name, &[rows, cols])?;
        let ty = dense_type(info.ty).ok_or_else(|| self.type_error(name, role))?;
        let matrix =
            Matrix { rows, cols, place: Place::of(info), kind: Kind::Dense(ty), bias: None };
        let view = matrix.view(self.bytes(info)).ok_or_else(|| self.type_error(name, role))?;
        if matches!(ty, DenseType::TQ1_0 | DenseType::TQ2_0) {
            self.coded.push(Coded { info, view });
        }
        Ok((matrix, ty))
    }

    fn ternary(&mut self, name: &str, rows: usize, cols: usize) -> Result<Matrix> {
        let info = self.take(name, &[rows, cols])?;
        let layout = match info.ty {
            TensorType::I2S => Layout::I2S(i2_s::Rows::Flat),
            TensorType::I2R => Layout::I2S(i2_s::Rows::Padded),
            TensorType::I2T => Layout::I2T,
            TensorType::T5_3 => Layout::T5_3,
            _ => return Err(self.type_error(name, "a ternary matrix")),
        };
        let (codes, scale) = ternary::split(self.bytes(info))
            .ok_or_else(|| self.type_error(name, "a ternary matrix"))?;
        let mut place = Place::of(info);
        place.range.end = place.range.start + codes.len();
        let kind = Kind::Ternary { layout, scale };
        let matrix = Matrix { rows, cols, place, kind, bias: None };
        let view = matrix.view(codes).ok_or_else(|| self.type_error(name, "a ternary matrix"))?;
        // Nothing but zeros may have any scale, also none.
        let scaled = scale > 0.0 || scale == 0.0 && layout.is_zero(codes, cols);
        if !(scaled && scale.is_finite()) {
            return Err(Error::Scale { name: name.to_owned(), scale });
        }
        self.coded.push(Coded { info, view });
        Ok(matrix)
    }

    fn rope_divisors(&mut self, config: &Config) -> Result<RopeDivisors> {
        let fixed = self.gguf.tensor(ROPE_FREQS).is_some();
        let [short, long] = ROPE_FACTORS;
        let mut divisors = |name: &str| -> Result<Vec<f32>> {
            let divisors = self.vector(name, config.head_dim / 2)?;
            check_divisors(name, &divisors)?;
            Ok(divisors)
        };
        match config.rope.scaling {
            Scaling::LongRope { .. } => {
                Ok(RopeDivisors::ByContext { short: divisors(short)?, long: divisors(long)? })
            }
            _ if fixed => Ok(RopeDivisors::Fixed(divisors(ROPE_FREQS)?)),
            _ => Ok(RopeDivisors::None),
        }
    }

    fn head_scan(&mut self, rows: usize, cols: usize) -> Result<HeadScan> {
        let mut take = |name, cols, ty| {
            let info =
                self.gguf.tensor(name).filter(|info| info.shape == [rows, cols].map(|n| n as u64));
            if info.is_none() {
                return Err(Error::HeadScanForm { name });
            }
            let info = self.take(name, &[rows, cols])?;
            if info.ty == ty { Ok(info) } else { Err(self.type_error(name, "a coarse head")) }
        };
        let codes = take("output_scan.weight", scan::code_bytes(cols), TensorType::I8)?;
        let refinements = take("output_scan.refine", scan::refinement_bytes(cols), TensorType::I8)?;
        let bounds = take("output_scan.bounds", Bounds::COUNT, TensorType::F32)?;
        let rows = self.bytes(bounds).as_chunks().0;
        match rows.iter().position(|row| !Bounds::from_bytes(row).is_valid()) {
            None => Ok(HeadScan {
                codes: Place::of(codes),
                refinements: Place::of(refinements),
                bounds: Place::of(bounds),
            }),
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
