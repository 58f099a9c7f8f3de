//! The tensors of a model, as checked views into its file.

mod check;
mod matrix;
mod view;

use std::collections::HashSet;

use trilobite_format::model::{
    HeadScanPart, Hyperparameters, Presence, Projections, Role, Scaling, Storage, check_divisors,
};
use trilobite_format::{Gguf, Outlier, TensorInfo, TensorType, ternary};
use trilobite_kernels::scan::{self, Bounds, RowBounds};
use trilobite_kernels::{DenseMatrix, DenseType, Kernels, Layout, i2_s};

use self::check::Coded;
pub(crate) use self::matrix::Place;
pub use self::matrix::{Kind, Matrix};
pub(crate) use self::view::MatrixView;
use crate::error::{Error, Result};

/// A coarse copy of the head: see [`trilobite_kernels::scan`].
#[derive(Clone, Debug)]
pub struct HeadScan {
    /// The first bits of the codes, `[vocab]`.
    pub codes: Place,
    /// The further bits of the codes, `[REFINEMENTS][vocab]`.
    pub refinements: Place,
    /// The bounds of the rows, `[Bounds::COUNT][vocab]`.
    pub bounds: Place,
    /// The factors of the columns, `[hidden]`.
    pub factors: Vec<f32>,
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
    /// The router of a mixture of experts, `[experts][hidden]`. With it, the three projections below
    /// hold those of all experts, one after the other.
    pub router: Option<Matrix>,
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
    /// Norm before the head, `[hidden]`, divided by the divisor of the logits.
    pub output_norm: Vec<f32>,
    /// Output head, `[vocab][hidden]`. A tied head is the embedding itself.
    pub head: Matrix,
    /// A coarse copy of the head, if the file has one.
    pub head_scan: Option<HeadScan>,
    /// Whether the file has a coarse copy of the form of earlier versions, which is not used.
    pub earlier_head_scan: bool,
    /// Whether the head is the embedding.
    pub tied: bool,
    /// Divisors of the rotary frequencies.
    pub rope_divisors: RopeDivisors,
    /// The names of the projections and of the head whose weights are all zero.
    pub zeros: Vec<String>,
}

/// Divisors of the rotary frequencies, one for each, `[head_dim / 2]`.
#[derive(Clone, Debug)]
pub enum RopeDivisors {
    /// No divisors.
    None,
    /// The same divisors for every context (RoPE scaling `llama3`).
    Fixed(Vec<f32>),
    /// Different divisors for short and long contexts (`longrope`).
    ByContext {
        /// Divisors for a context of at most the original length.
        short: Vec<f32>,
        /// Divisors for a longer context.
        long: Vec<f32>,
    },
}

impl Weights {
    /// Finds every tensor that `model` has and checks shapes, types, scales and codes. Passes the
    /// places of experts to `checked`, since a token reads few of the bytes that the check has read.
    ///
    /// # Errors
    /// A tensor is missing, unknown, of the wrong shape or type, or has an invalid scale or code.
    pub fn from_gguf(
        gguf: &Gguf,
        files: &[&[u8]],
        model: &Hyperparameters,
        projections: &Projections,
        checked: impl Fn(&Place) + Sync,
    ) -> Result<Self> {
        let mut tensors = Tensors {
            gguf,
            files,
            model,
            projections,
            used: HashSet::new(),
            zeros: Vec::new(),
            coded: Vec::new(),
        };
        let (embedding, view) =
            tensors.dense(&Role::Embedding.name(0), Role::Embedding, "a token embedding")?;
        // Not allocated in advance: the number of layers is an unchecked claim of the metadata.
        let mut layers = Vec::new();
        for index in 0..model.layers {
            layers.push(tensors.layer(index)?);
        }
        let mut output_norm = tensors.vector(Role::OutputNorm, 0)?;
        output_norm.iter_mut().for_each(|weight| *weight /= model.scales.logits);
        let tied = !tensors.has(Role::Head, 0);
        let head = if tied { embedding.clone() } else { tensors.matrix(Role::Head, 0)? };
        let codes = gguf.tensor(HeadScanPart::Codes.name());
        let earlier = codes.is_some_and(|codes| is_earlier(codes, head.rows, head.cols));
        if earlier {
            tensors.used.extend(HeadScanPart::ALL.map(|part| part.name().to_owned()));
        }
        let head_scan = match head.kind {
            Kind::Dense(_) if codes.is_some() && !earlier => {
                Some(tensors.head_scan(head.rows, head.cols)?)
            }
            _ => None,
        };
        let rope_divisors = tensors.rope_divisors()?;
        tensors.all_used()?;
        check::codes(&tensors.coded, |coded| {
            if coded.role.is_of_experts() {
                checked(&Place::of(coded.info));
            }
        })?;
        Ok(Self {
            embedding,
            embedding_type: view.ty(),
            layers,
            output_norm,
            head,
            head_scan,
            earlier_head_scan: earlier,
            tied,
            rope_divisors,
            zeros: tensors.zeros,
        })
    }

    /// The places of the weights that every decoded token reads.
    pub(crate) fn places_mut(&mut self) -> impl Iterator<Item = &mut Place> {
        let head = match &mut self.head_scan {
            Some(HeadScan { codes, refinements, bounds, .. }) => vec![codes, refinements, bounds],
            None => vec![&mut self.head.place],
        };
        let layers = self.layers.iter_mut().flat_map(Layer::always_read);
        layers.map(|matrix| &mut matrix.place).chain(head)
    }

    /// Size in bytes of all tensors except the embedding and the head.
    pub fn non_embedding_bytes(&self) -> usize {
        let matrices = self.layers.iter().flat_map(Layer::matrices);
        let routers = self.layers.iter().filter_map(|layer| layer.router.as_ref());
        let matrices = matrices.chain(routers).map(|m| m.place.range.len());
        let vector = |v: &Vec<f32>| 4 * v.len();
        let vectors = self.layers.iter().map(|layer| {
            let of_matrices =
                |m: &'_ Matrix| m.bias.iter().chain(&m.input_norm).map(vector).sum::<usize>();
            let of_matrices = layer.matrices().into_iter().map(of_matrices).sum::<usize>();
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
            of_matrices + norms.chain(always).map(vector).sum::<usize>()
        });
        matrices.sum::<usize>() + vectors.sum::<usize>() + vector(&self.output_norm)
    }
}

impl Layer {
    /// The layer's matrices in the order of their use.
    pub fn matrices(&self) -> [&Matrix; 7] {
        [&self.q, &self.k, &self.v, &self.o, &self.gate, &self.up, &self.down]
    }

    /// Whether the output of attention or the feed-forward network is normed before it is added to
    /// the residual stream.
    pub(crate) fn has_post_norms(&self) -> bool {
        self.attn_post_norm.is_some() || self.ffn_post_norm.is_some()
    }

    /// The matrices that every token reads. Of experts, it reads some.
    fn always_read(&mut self) -> Vec<&mut Matrix> {
        let Layer { q, k, v, o, router, gate, up, down, .. } = self;
        match router {
            None => vec![q, k, v, o, gate, up, down],
            Some(router) => vec![q, k, v, o, router],
        }
    }

    /// Whether projections have norms of their own.
    pub(crate) fn has_input_norms(&self) -> bool {
        self.matrices().iter().any(|matrix| matrix.input_norm.is_some())
    }
}

/// Hands out tensors by name and records which, so that an unknown tensor is an error.
struct Tensors<'a> {
    gguf: &'a Gguf,
    files: &'a [&'a [u8]],
    model: &'a Hyperparameters,
    projections: &'a Projections,
    used: HashSet<String>,
    /// See [`Weights::zeros`].
    zeros: Vec<String>,
    /// Tensors with codes that may be invalid.
    coded: Vec<Coded<'a>>,
}

impl<'a> Tensors<'a> {
    fn layer(&mut self, index: u64) -> Result<Layer> {
        let [gate, up, down] = match self.model.arch.has_experts() {
            true => [Role::GateExperts, Role::UpExperts, Role::DownExperts],
            false => [Role::Gate, Role::Up, Role::Down],
        };
        Ok(Layer {
            attn_norm: self.vector(Role::AttnNorm, index)?,
            q: self.matrix(Role::Q, index)?,
            k: self.matrix(Role::K, index)?,
            v: self.matrix(Role::V, index)?,
            q_norm: self.vector_if_any(Role::QNorm, index)?,
            k_norm: self.vector_if_any(Role::KNorm, index)?,
            attn_sub_norm: self.vector_if_any(Role::AttnSubNorm, index)?,
            o: self.matrix(Role::AttnOutput, index)?,
            attn_post_norm: self.vector_if_any(Role::AttnPostNorm, index)?,
            ffn_norm: self.vector(Role::FfnNorm, index)?,
            router: self.router(index)?,
            gate: self.matrix(gate, index)?,
            up: self.matrix(up, index)?,
            ffn_sub_norm: self.vector_if_any(Role::FfnSubNorm, index)?,
            down: self.matrix(down, index)?,
            ffn_post_norm: self.vector_if_any(Role::FfnPostNorm, index)?,
        })
    }

    /// Whether the model has a tensor.
    fn has(&self, role: Role, layer: u64) -> bool {
        match role.presence(self.model) {
            Presence::Required => true,
            Presence::Optional => {
                self.projections.have(role, layer, |name| self.gguf.tensor(name).is_some())
            }
            Presence::Absent => false,
        }
    }

    fn bytes(&self, info: &'a TensorInfo) -> &'a [u8] {
        info.bytes(self.files.get(info.part).copied().unwrap_or_default())
    }

    fn take(&mut self, name: &str, shape: &[u64]) -> Result<&'a TensorInfo> {
        let info = self.gguf.tensor(name).ok_or_else(|| Error::MissingTensor(name.to_owned()))?;
        let found = info.matrix_shape();
        if found != shape {
            return Err(Error::Shape { name: name.to_owned(), found, expected: shape.to_vec() });
        }
        self.used.insert(name.to_owned());
        Ok(info)
    }

    /// Takes a matrix by its name and returns it with its rows and columns.
    fn take_matrix(&mut self, name: &str, role: Role) -> Result<(&'a TensorInfo, usize, usize)> {
        let shape = role.shape(self.model);
        let info = self.take(name, &shape)?;
        match shape[..] {
            [rows, cols] => Ok((info, rows as usize, cols as usize)),
            // The matrices of all experts are one of as many rows.
            [experts, rows, cols] => Ok((info, (experts * rows) as usize, cols as usize)),
            _ => Err(self.type_error(name, "a matrix")),
        }
    }

    /// Takes a norm or another short vector, widened to f32.
    fn vector(&mut self, role: Role, layer: u64) -> Result<Vec<f32>> {
        let name = role.name(layer);
        let info = self.take(&name, &role.shape(self.model))?;
        let ty = dense_type(info.ty).ok_or_else(|| self.type_error(&name, "a vector"))?;
        let len = info.count() as usize;
        let row = DenseMatrix::new(ty, self.bytes(info), 1, len);
        let row = row.ok_or_else(|| self.type_error(&name, "a vector"))?;
        let mut out = vec![0.0; len];
        Kernels::detect()?.dense_row(&row, 0, &mut out);
        Ok(out)
    }

    fn vector_if_any(&mut self, role: Role, layer: u64) -> Result<Option<Vec<f32>>> {
        self.has(role, layer).then(|| self.vector(role, layer)).transpose()
    }

    /// Takes the router of a mixture of experts, whose weights are floats.
    fn router(&mut self, layer: u64) -> Result<Option<Matrix>> {
        const PURPOSE: &str = "a router, which is F32, F16 or BF16";
        if !self.has(Role::Router, layer) {
            return Ok(None);
        }
        let name = Role::Router.name(layer);
        let (matrix, view) = self.dense(&name, Role::Router, PURPOSE)?;
        if view.ty().has_blocks() {
            return Err(self.type_error(&name, PURPOSE));
        }
        Ok(Some(matrix))
    }

    /// Takes a projection with its bias, or the head, transposed if stored so.
    fn matrix(&mut self, role: Role, layer: u64) -> Result<Matrix> {
        let name = role.name(layer);
        let name = self.gguf.matrix(&name).map_or(name, |info| info.name.clone());
        let (mut matrix, view) = match self.projections.storage(&name) {
            Some(Storage::Packed) if self.model.arch.has_experts() => {
                return Err(self.type_error(&name, "a matrix of a mixture of experts"));
            }
            Some(Storage::Packed) => self.ternary(&name, role)?,
            Some(Storage::Unpacked) => return Err(self.type_error(&name, "it is, unconverted")),
            Some(Storage::Dense) | None => {
                let (matrix, view) = self.dense(&name, role, "a weight matrix")?;
                if role.is_of_experts() && !matrix.outliers.is_empty() {
                    return Err(self.type_error(&name, "a matrix of a mixture of experts"));
                }
                (matrix, MatrixView::Dense(view))
            }
        };
        if view.is_zero(Kernels::detect()?) {
            self.zeros.push(name);
        }
        if let Some(bias) = role.bias() {
            matrix.bias = self.vector_if_any(bias, layer)?;
        }
        if let Some(norm) = role.input_norm() {
            matrix.input_norm = self.vector_if_any(norm, layer)?;
        }
        Ok(matrix)
    }

    fn dense(
        &mut self,
        name: &str,
        role: Role,
        purpose: &'static str,
    ) -> Result<(Matrix, DenseMatrix<'a>)> {
        let (info, rows, cols) = self.take_matrix(name, role)?;
        let ty = dense_type(info.ty).ok_or_else(|| self.type_error(name, purpose))?;
        let outliers = self.outliers(name, rows, cols)?;
        let matrix = Matrix {
            rows,
            cols,
            place: Place::of(info),
            kind: Kind::Dense(ty),
            bias: None,
            input_norm: None,
            outliers,
        };
        let view = DenseMatrix::new(ty, self.bytes(info), rows, cols);
        let view = view.ok_or_else(|| self.type_error(name, purpose))?;
        if matches!(ty, DenseType::TQ1_0 | DenseType::TQ2_0 | DenseType::PTQ1_0) {
            self.coded.push(Coded { info, role, view: MatrixView::Dense(view) });
        }
        Ok((matrix, view))
    }

    /// Takes the outliers of a dense matrix, if it has any.
    fn outliers(&mut self, name: &str, rows: usize, cols: usize) -> Result<Vec<Outlier>> {
        let tensor = Outlier::tensor(name);
        let Some(count) = self.gguf.tensor(&tensor).and_then(|info| info.shape.first().copied())
        else {
            return Ok(Vec::new());
        };
        let info = self.take(&tensor, &[count, Outlier::BYTES as u64])?;
        if info.ty != TensorType::I8 {
            return Err(self.type_error(&tensor, "a list of outliers"));
        }
        let outliers = Outlier::read(self.bytes(info), rows, cols);
        outliers.map_err(|entry| Error::Outlier { name: tensor, entry })
    }

    fn ternary(&mut self, name: &str, role: Role) -> Result<(Matrix, MatrixView<'a>)> {
        let (info, rows, cols) = self.take_matrix(name, role)?;
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
        let (bias, input_norm, outliers) = (None, None, Vec::new());
        let matrix = Matrix { rows, cols, place, kind, bias, input_norm, outliers };
        let view = matrix.view(codes).ok_or_else(|| self.type_error(name, "a ternary matrix"))?;
        // A matrix of zeros may have any scale, or none.
        let scaled = scale > 0.0 || scale == 0.0 && layout.is_zero(codes, cols);
        if !(scaled && scale.is_finite()) {
            return Err(Error::Scale { name: name.to_owned(), scale });
        }
        self.coded.push(Coded { info, role, view });
        Ok((matrix, view))
    }

    fn rope_divisors(&mut self) -> Result<RopeDivisors> {
        let fixed = self.has(Role::RopeFreqs, 0);
        let scaling = &self.model.rope.scaling;
        let mut divisors = |role: Role| -> Result<Vec<f32>> {
            let divisors = self.vector(role, 0)?;
            check_divisors(&role.name(0), &divisors)?;
            Ok(divisors)
        };
        match scaling {
            Scaling::LongRope { .. } => Ok(RopeDivisors::ByContext {
                short: divisors(Role::RopeShort)?,
                long: divisors(Role::RopeLong)?,
            }),
            _ if fixed => Ok(RopeDivisors::Fixed(divisors(Role::RopeFreqs)?)),
            _ => Ok(RopeDivisors::None),
        }
    }

    fn head_scan(&mut self, rows: usize, cols: usize) -> Result<HeadScan> {
        let mut take = |part: HeadScanPart, shape: &[usize], ty| {
            let (name, shape) = (part.name(), shape.iter().map(|n| *n as u64).collect::<Vec<_>>());
            let info = self.gguf.tensor(name).filter(|info| info.shape == shape);
            if info.is_none() {
                return Err(Error::HeadScanForm { name });
            }
            let info = self.take(name, &shape)?;
            if info.ty == ty { Ok(info) } else { Err(self.type_error(name, "a coarse head")) }
        };
        let (codes, bits) = (scan::code_bytes(cols), scan::refinement_bytes(cols));
        let codes = take(HeadScanPart::Codes, &[rows, codes], TensorType::I8)?;
        let planes = [scan::REFINEMENTS, rows, bits];
        let refinements = take(HeadScanPart::Refinements, &planes, TensorType::I8)?;
        let bounds = take(HeadScanPart::Bounds, &[Bounds::COUNT, rows], TensorType::F32)?;
        let factors = take(HeadScanPart::Factors, &[cols], TensorType::F32)?;
        let of_rows = RowBounds::new(self.bytes(bounds));
        if let Some(row) = (0..rows).find(|row| !of_rows.row(*row).is_valid()) {
            return Err(Error::HeadScan { name: HeadScanPart::Bounds.name(), row });
        }
        let numbers = self.bytes(factors).as_chunks().0.iter();
        let factors: Vec<f32> = numbers.map(|&bytes| f32::from_le_bytes(bytes)).collect();
        match factors.iter().find(|factor| !(factor.is_finite() && **factor > 0.0)) {
            Some(&scale) => {
                Err(Error::Scale { name: HeadScanPart::Factors.name().to_owned(), scale })
            }
            None => Ok(HeadScan {
                codes: Place::of(codes),
                refinements: Place::of(refinements),
                bounds: Place::of(bounds),
                factors,
            }),
        }
    }

    fn type_error(&self, name: &str, role: &'static str) -> Error {
        let found = self.gguf.tensor(name).map_or("nothing", |info| info.ty.name());
        Error::TensorType { name: name.to_owned(), found: found.to_owned(), role }
    }

    fn all_used(&self) -> Result<()> {
        match self.gguf.tensors().iter().find(|info| !self.used.contains(&info.name)) {
            Some(info) => Err(match Role::lacking(&info.name, self.model) {
                Some(lacking) => Error::MissingTensor(lacking),
                None => Error::UnexpectedTensor(info.name.clone()),
            }),
            None => Ok(()),
        }
    }
}

/// Whether these are the codes of a coarse copy as written before its first plane had three bits: five
/// bits for each of 256 columns.
fn is_earlier(codes: &TensorInfo, rows: usize, cols: usize) -> bool {
    codes.shape == [rows as u64, (cols.div_ceil(256) * 160) as u64]
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
        TensorType::Q1_0 => Some(DenseType::Q1_0),
        TensorType::Q2_0 => Some(DenseType::Q2_0),
        TensorType::Pq2_0 => Some(DenseType::PQ2_0),
        TensorType::Ptq1_0 => Some(DenseType::PTQ1_0),
        _ => None,
    }
}
