//! Hugging Face checkpoints: the source tensor of each output tensor.

mod added_tokens;
mod buffers;
mod chat;
mod config;
#[cfg(test)]
mod dense_tests;
mod embedding;
#[cfg(test)]
mod embedding_tests;
mod fused;
#[cfg(test)]
mod grid_tests;
mod json;
#[cfg(test)]
mod maple_tests;
mod mlx;
mod names;
#[cfg(test)]
mod names_tests;
mod sentencepiece;
#[cfg(test)]
mod tests;
mod tokenizer;
mod vocabulary;

use std::collections::HashMap;

use serde_json::Value;
use trilobite_format::model::{
    Architecture, Hyperparameters, Role, Tensor, check_divisors, tensors,
};
use trilobite_format::{Metadata, TensorType};

use crate::dense::Dense;
use crate::grouped;
use crate::model::{Data, Plan, Planned};
use crate::options::{Head, Options};
use crate::rows::source_row;
use crate::source::{Checkpoint, Dtype, Shards, SourceFile, View};
use crate::stack::{Matrix, Stack};
use crate::trits::{Encoding, Ternary, check_scale};
use crate::{Error, plan};
use config::{HfConfig, Quantization};
use json::Object;
pub(crate) use json::brief;
use names::{HEAD, suffix};

const CONFIG: &str = "config.json";
/// The prefix of the names of all other modules.
const BASE: &str = "model.";

/// The prefix of the tensors with which deepgrove's programs search the head approximately.
const APPROXIMATE_HEAD: &str = "lm_head_flash.";
/// Plans the conversion of a Hugging Face checkpoint.
pub(crate) fn plan<'a>(checkpoint: &'a Checkpoint, options: &Options) -> Result<Plan<'a>, Error> {
    let json = checkpoint.object(CONFIG)?.ok_or_else(|| Error::NotACheckpoint {
        path: checkpoint.name.clone(),
        why: format!("it has no {CONFIG}"),
    })?;
    let object = Object::new(CONFIG, &json);
    let mut source = config::read(object)?;
    if options.quantize.is_some() && source.model.arch.has_experts() {
        let (file, what) = (CONFIG.to_owned(), plan::QUANTISED_EXPERTS.to_owned());
        return Err(Error::Unsupported { file, what });
    }
    let mut shards = checkpoint.shards()?;
    base_names(&mut shards, &source)?;
    fused::divide(&mut shards, &source.model)?;
    source.settle(&shards);
    let embedding = embedding::complete(checkpoint, object, &mut source, &shards)?;
    if source.input_norms && embedding.is_none() && !source.is_excluded(HEAD) {
        let what = "a norm of the head's input (`use_rms_norm`, and `modules_to_not_convert` does not \
                    list lm_head)";
        return Err(Error::Unsupported { file: CONFIG.to_owned(), what: what.to_owned() });
    }
    let mut planner = HfPlanner {
        shards,
        options,
        tensors: Vec::new(),
        notes: source.notes.clone(),
        files: &checkpoint.files,
        dense_projections: 0,
        excluded: 0,
        factors: HashMap::new(),
        source,
    };
    planner.tensors()?;
    planner.check_tied()?;
    planner.find_groups();
    planner.buffers()?;
    planner.note();
    let HfPlanner { source, tensors, mut notes, .. } = planner;

    let model = source.model;
    let mut metadata = Metadata::new();
    plan::general(&mut metadata, model.arch, &checkpoint.name, plan::file_type(&tensors));
    model.describe(&mut metadata);
    tokenizer::describe(checkpoint, object, model.vocab, &mut metadata, &mut notes)?;
    if let Some(embedding) = embedding {
        embedding.describe(checkpoint, model.arch, &mut metadata)?;
    }
    plan::name_dense(&tensors, model.arch, &mut metadata);
    Ok(Plan { model, files: &checkpoint.files, metadata, tensors, notes })
}

/// A tensor of a Hugging Face checkpoint with unpacked weights.
pub struct CheckpointTensor {
    /// The function of the tensor in the model.
    pub role: Role,
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<u64>,
}

/// Reads a config.json: the hyperparameters, and the tensors of its checkpoint.
///
/// # Errors
/// The configuration is invalid or not supported.
pub fn checkpoint_tensors(
    config: &Value,
) -> Result<(Hyperparameters, Vec<CheckpointTensor>), Error> {
    let source = config::read(Object::new(CONFIG, config))?;
    let tied = source.tied.unwrap_or(source.tied_by_default);
    let has = |role, layer| if role == Role::Head { !tied } else { source.has(role, layer) };
    let named = tensors(&source.model, has).into_iter().flat_map(|tensor| {
        let Tensor { role, layer, shape, .. } = tensor;
        let of = |module: String, shape: &[u64]| {
            let name = format!("{module}.{}", suffix(role));
            CheckpointTensor { role, name, shape: shape.to_vec() }
        };
        match (role.is_of_experts(), shape.as_slice()) {
            (true, &[experts, ref shape @ ..]) => {
                let modules = (0..experts).filter_map(|at| names::expert(role, layer, at));
                modules.map(|module| of(module, shape)).collect::<Vec<_>>()
            }
            _ => source.module(role, layer).map(|module| of(module, &shape)).into_iter().collect(),
        }
    });
    let named = named.collect();
    Ok((source.model, named))
}

/// Renames tensors to their names in a model with a head. A checkpoint saved from the base model
/// lacks the prefix `model.`, and a wrapped one has it twice; transformers adds or strips one
/// prefix. Other prefixes are an error.
fn base_names(shards: &mut Shards<'_>, source: &HfConfig) -> Result<(), Error> {
    let embedding = source.module(Role::Embedding, 0).unwrap_or_default();
    let embedding = embedding.trim_start_matches(BASE);
    let has = |prefix: &str| shards.get(&format!("{prefix}{embedding}.weight")).is_some();
    let (as_expected, bare, wrapped) = (has(BASE), has(""), has("model.model."));
    if as_expected {
        return Ok(());
    }
    if bare {
        let of_base = |name: &str| !name.starts_with(BASE) && !name.starts_with(HEAD);
        shards.rename(|name| of_base(name).then(|| format!("{BASE}{name}")));
    } else if wrapped {
        shards.rename(|name| name.strip_prefix(BASE).map(str::to_owned));
    } else {
        shards.prefixed(&format!("{BASE}{embedding}.weight"))?;
    }
    Ok(())
}

struct HfPlanner<'a, 'o> {
    source: HfConfig,
    shards: Shards<'a>,
    files: &'a [SourceFile],
    options: &'o Options,
    tensors: Vec<Planned<'a>>,
    notes: Vec<String>,
    /// Number of projections of a mixture of experts that TQ2_0 cannot represent.
    dense_projections: usize,
    /// Number of projections that `modules_to_not_convert` keeps dense.
    excluded: usize,
    /// The `weight_scale` of each module in which it also multiplies the bias. Projections precede
    /// biases, so it is known by then.
    factors: HashMap<String, f32>,
}

impl<'a> HfPlanner<'a, '_> {
    fn tensors(&mut self) -> Result<(), Error> {
        let tied = self.is_tied();
        let has = |role: Role, layer| match role {
            Role::Head => !tied,
            role => self.source.has(role, layer) || self.source.has_input_norm(role, &self.shards),
        };
        for tensor in tensors(&self.source.model, has) {
            match self.source.module(tensor.role, tensor.layer) {
                None if tensor.role.is_of_experts() => self.experts(tensor)?,
                None => self.divisors(tensor)?,
                Some(module) if tensor.role == Role::Router => {
                    let weight = format!("{module}.weight");
                    let view = self.shards.require_shape(&weight, &tensor.shape)?;
                    self.dense(tensor.name, view, None)?;
                }
                Some(module)
                    if self.source.model.arch.has_experts() && tensor.role.is_projection() =>
                {
                    let matrix = self.matrix(&module, &tensor.shape)?;
                    self.stack(tensor, vec![matrix])?;
                }
                Some(module) if tensor.role == Role::Embedding => {
                    self.embedding(tensor, &module)?
                }
                Some(module) if tensor.role.is_vector() => self.vector(tensor, &module)?,
                Some(module) => self.projection(tensor, &module)?,
            }
        }
        Ok(())
    }

    fn embedding(&mut self, tensor: Tensor, module: &str) -> Result<(), Error> {
        if self.mlx(&tensor, module)? {
            return Ok(());
        }
        let mut weight = format!("{module}.weight");
        // A file with tied weights may contain only the head.
        let head = format!("{HEAD}.weight");
        let there = |name: &str| self.shards.get(name).is_some();
        if self.is_tied() && !there(&weight) && there(&head) {
            weight = head;
        }
        let view = self.shards.require_shape(&weight, &tensor.shape)?;
        self.dense(tensor.name, view, None)
    }

    /// Plans the matrices of the experts of a layer as one tensor.
    fn experts(&mut self, tensor: Tensor) -> Result<(), Error> {
        let &[experts, ref shape @ ..] = tensor.shape.as_slice() else { return Ok(()) };
        let modules = (0..experts).filter_map(|at| names::expert(tensor.role, tensor.layer, at));
        let matrices = modules.map(|module| self.matrix(&module, shape));
        let matrices = matrices.collect::<Result<Vec<_>, _>>()?;
        self.stack(tensor, matrices)
    }

    /// Plans matrices with a ternary row each as one tensor: as TQ2_0 if it represents them exactly,
    /// otherwise in their own type.
    fn stack(&mut self, tensor: Tensor, matrices: Vec<Matrix<'a>>) -> Result<(), Error> {
        let Tensor { name, shape, .. } = tensor;
        let Some(own) = matrices.first().and_then(Matrix::float_type) else {
            let first = matrices.first().map(Matrix::view);
            return first.map_or(Ok(()), |view| Err(view.dtype_error("BF16, F16 or F32")));
        };
        if let Some(other) = matrices.iter().find(|matrix| matrix.float_type() != Some(own)) {
            return Err(other.view().dtype_error(&format!("{own}, as the other experts have")));
        }
        let stack = Stack { matrices };
        let packed = self.options.ty.is_none() && stack.is_ternary();
        for bytes in stack.matrices.iter().flat_map(Matrix::sources) {
            self.files.iter().for_each(|file| file.release(bytes));
        }
        let ty = if packed { TensorType::Tq2_0 } else { own };
        self.dense_projections += usize::from(!packed);
        self.tensors.push(Planned { name, ty, shape, data: Data::Stack(stack) });
        Ok(())
    }

    fn divisors(&mut self, tensor: Tensor) -> Result<(), Error> {
        let mut all = self.source.rope_divisors.iter();
        let found = all.find(|(role, _)| *role == tensor.role);
        let divisors = found.map(|(_, divisors)| divisors.clone());
        let divisors = divisors.expect("the configuration was read with what its scaling needs");
        check_divisors(&tensor.name, &divisors).map_err(|source| Error::Unrunnable { source })?;
        let Tensor { name, shape, .. } = tensor;
        let data = Data::Values(divisors);
        self.tensors.push(Planned { name, ty: TensorType::F32, shape, data });
        Ok(())
    }

    /// Checks that an explicit head of a model with tied weights equals the embedding, and chooses
    /// types.
    fn check_tied(&mut self) -> Result<(), Error> {
        let weight = format!("{HEAD}.weight");
        let tied = self.is_tied();
        if tied && self.shards.get(&weight).is_some() {
            let shape = Role::Head.shape(&self.source.model);
            let head = self.shards.require_shape(&weight, &shape)?;
            match self.tensors.first().map(|embedding| &embedding.data) {
                Some(Data::Dense(embedding)) if plan::same_values(&embedding.view, &head) => {}
                _ => return Err(Error::Untied { file: head.file.to_owned(), tensor: head.name }),
            }
            self.notes.push(format!("{weight} repeats the embedding and was left out"));
        }
        if tied
            && self.source.quantization == Quantization::Online
            && !self.source.is_excluded(HEAD)
        {
            return Err(Error::Unsupported {
                file: CONFIG.to_owned(),
                what:
                    "a ternary head that is tied to the embedding (`modules_to_not_convert` does \
                       not list lm_head)"
                        .to_owned(),
            });
        }
        plan::choose_types(&mut self.tensors, &self.source.model, self.options, &mut self.notes)
    }

    /// Packs the matrices of a dense model of Bonsai's architecture that have scales for groups,
    /// unless the options ask for types.
    fn find_groups(&mut self) {
        let Options { ty, head, quantize, .. } = self.options;
        let as_stored =
            ty.is_none() && matches!(head, Head::Auto | Head::Source) && quantize.is_none();
        let arch = self.source.model.arch;
        if as_stored && arch == Architecture::Qwen3 {
            grouped::pack(&mut self.tensors, &mut self.notes);
        }
    }

    /// Whether the head is tied to the embedding. If config.json does not say, a checkpoint with a
    /// head is untied.
    fn is_tied(&self) -> bool {
        let there = || self.shards.get(&format!("{HEAD}.weight")).is_some();
        self.source.tied.unwrap_or_else(|| self.source.tied_by_default && !there())
    }

    /// Drops buffers, which follow from the configuration. Any other remaining tensor is an error.
    fn buffers(&mut self) -> Result<(), Error> {
        let model = &self.source.model;
        let count = self.shards.leave_out(|name, view| buffers::is_derived(name, view, model));
        if count > 0 {
            let what = "that follow from the configuration were left out";
            self.notes.push(format!("{count} buffers {what}"));
        }
        if model.arch.has_experts()
            && self.shards.leave_out(|name, _| name.starts_with(APPROXIMATE_HEAD)) > 0
        {
            self.notes.push("the tensors of an approximate head were left out".to_owned());
        }
        self.shards.require_empty()
    }

    fn note(&mut self) {
        if self.dense_projections > 0 && self.options.ty.is_none() {
            self.notes.push(format!(
                "{} projections are stored as floats: their rows are not ternary, or not a multiple of \
                 256 wide",
                self.dense_projections
            ));
        }
        if self.excluded > 0 {
            let count = self.excluded;
            self.notes.push(format!("modules_to_not_convert keeps {count} projections dense"));
        }
        let dense = !self.tensors.iter().any(|tensor| tensor.data.is_ternary());
        if dense && self.source.model.arch == Architecture::Llama {
            self.notes.push(
                "the model is dense: config.json does not say that it is BitNet's, whose masters \
                 quantising by absmean makes ternary"
                    .to_owned(),
            );
        }
        let stated = self.source.quantization != Quantization::Unstated;
        if stated && self.options.quantize.is_some() {
            self.notes.push(
                "quantising has no effect: the checkpoint says how it is quantised".to_owned(),
            );
        }
    }

    /// Plans a norm or a bias as F32. Gemma's checkpoints store the difference of norms from 1.
    /// Transformers' `AutoBitLinear` adds a bias before it multiplies by `weight_scale`.
    fn vector(&mut self, tensor: Tensor, module: &str) -> Result<(), Error> {
        let Tensor { role, name, shape, .. } = tensor;
        let suffix = suffix(role);
        let view = self.shards.require_shape(&format!("{module}.{suffix}"), &shape)?;
        if view.dtype.float_type().is_none() {
            return Err(view.dtype_error("BF16, F16 or F32"));
        }
        let reordering = self.source.reordering(role);
        let gemma = self.source.model.arch == Architecture::Gemma3;
        let offset = gemma && suffix == "weight" && !role.is_input_norm();
        let factor = self.factors.get(module).copied();
        let data = if offset || factor.is_some() || reordering.is_some() {
            view.require_finite()?;
            let values = view.to_f32();
            let factor = factor.unwrap_or(1.0);
            let value = |i| {
                let element = source_row(i, reordering);
                let value = values[element];
                let changed = if offset { 1.0 + value } else { value * factor };
                match changed.is_finite() {
                    true => Ok(changed),
                    false => Err(Error::Bias {
                        file: view.file.to_owned(),
                        tensor: view.name.clone(),
                        element: element as u64,
                        found: value,
                        factor,
                    }),
                }
            };
            Data::Values((0..values.len()).map(value).collect::<Result<_, _>>()?)
        } else {
            Data::Dense(Dense { view, head_dim: None })
        };
        self.tensors.push(Planned { name, ty: TensorType::F32, shape, data });
        Ok(())
    }

    /// Plans a dense matrix in its own type.
    fn dense(
        &mut self,
        name: String,
        view: View<'a>,
        head_dim: Option<usize>,
    ) -> Result<(), Error> {
        let Some(ty) = view.dtype.float_type() else {
            return Err(view.dtype_error("BF16, F16 or F32"));
        };
        let shape = view.shape.clone();
        self.tensors.push(Planned { name, ty, shape, data: Data::Dense(Dense { view, head_dim }) });
        Ok(())
    }

    /// Plans a projection: ternary unless `modules_to_not_convert` lists it. The configuration must
    /// agree with the stored type.
    fn projection(&mut self, tensor: Tensor, module: &str) -> Result<(), Error> {
        if self.mlx(&tensor, module)? {
            return Ok(());
        }
        let Tensor { role, name, shape, .. } = tensor;
        let head_dim = self.source.reordering(role);
        let weight = format!("{module}.weight");
        let excluded = self.source.is_excluded(module);
        let stored = match self.shards.get(&weight) {
            Some(stored) => stored,
            None if role == Role::Head => return Err(self.shards.no_head(weight)),
            None => return Err(self.shards.missing(&weight)),
        };
        let packed = stored.dtype == Dtype::U8;
        if packed && excluded {
            return Err(
                stored.dtype_error("BF16, F16 or F32, for modules_to_not_convert covers it")
            );
        }
        let scale = format!("{module}.weight_scale");
        let view = self.require_matrix(&weight, &shape, packed)?;
        if let Dtype::Other(..) = view.dtype {
            return Err(view.dtype_error("BF16, F16, F32, I8 or U8"));
        }
        if excluded {
            self.excluded += usize::from(role != Role::Head);
            return self.dense(name, view, head_dim);
        }
        if role == Role::Head
            && matches!(self.source.quantization, Quantization::Offline { .. })
            && !packed
            && self.shards.get(&scale).is_none()
        {
            self.notes.push(format!("{weight} is dense, though modules_to_not_convert lacks it"));
            return self.dense(name, view, head_dim);
        }
        let (file, cols) = (view.file, view.cols());
        let encoding = match self.source.quantization {
            Quantization::Offline { divide } => {
                let scale = self.scale(&scale, divide)?;
                if !divide {
                    self.factors.insert(module.to_owned(), scale);
                }
                if packed {
                    Encoding::Packed { view, scale }
                } else {
                    Encoding::Plain { view, scale }
                }
            }
            _ if packed => {
                return Err(view.dtype_error(
                    "BF16, F16 or F32, for config.json does not say how packed weights are scaled",
                ));
            }
            Quantization::Online => Encoding::Master { view },
            Quantization::Stated => Encoding::Dense { view },
            Quantization::Unstated if self.options.quantize.is_some() => Encoding::Dense { view },
            Quantization::Mlx { .. } => return self.dense(name, view, head_dim),
            Quantization::Unstated if !self.source.model.arch.is_bitnet() => {
                return self.dense(name, view, head_dim);
            }
            Quantization::Unstated => {
                return Err(Error::Dense {
                    file: CONFIG.to_owned(),
                    tensor: weight,
                    dtype: view.dtype.to_string(),
                });
            }
        };
        let rows = shape[0] as usize;
        let ternary = Ternary { file, name: weight, rows, cols, encoding, head_dim };
        let ty = plan::ternary_type(self.options.layout, &name, &shape)?;
        self.tensors.push(Planned { name, ty, shape, data: Data::Ternary(ternary) });
        Ok(())
    }

    /// Takes out a matrix. A packed one has four rows in one.
    fn require_matrix(
        &mut self,
        name: &str,
        shape: &[u64],
        packed: bool,
    ) -> Result<View<'a>, Error> {
        match *shape {
            [rows, cols] if packed && rows.is_multiple_of(4) => {
                self.shards.require_shape(name, &[rows / 4, cols])
            }
            [rows, _] if packed => Err(Error::Unsupported {
                file: CONFIG.to_owned(),
                what: format!("packed tensor {name} of {rows} rows, no multiple of four,"),
            }),
            _ => self.shards.require_shape(name, shape),
        }
    }

    /// Reads a `weight_scale` tensor. Returns the factor of a trit.
    fn scale(&mut self, name: &str, divide: bool) -> Result<f32, Error> {
        let view = self.shards.require(name)?;
        if view.count() != 1 {
            return Err(Error::Shape {
                file: view.file.to_owned(),
                tensor: view.name,
                expected: vec![1],
                found: view.shape,
            });
        }
        if view.dtype.float_type().is_none() {
            return Err(view.dtype_error("BF16, F16 or F32"));
        }
        let stored = view.to_f32()[0];
        let scale = if divide { 1.0 / stored } else { stored };
        check_scale(view.file, name, stored)?;
        check_scale(view.file, name, scale)?;
        Ok(scale)
    }
}
