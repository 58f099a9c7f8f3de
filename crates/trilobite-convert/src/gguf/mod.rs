//! GGUF files, foreign and our own: which tensor of the output comes from which of the source.

mod metadata;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use rayon::prelude::*;
use trilobite_format::model::{
    Architecture, Hyperparameters, Projections, ROPE_FACTORS, ROPE_FREQS, Scaling, Storage,
    check_divisors, is_projection, mixture_note,
};
use trilobite_format::{Gguf, Split, TensorInfo, TensorType};
use trilobite_kernels::{DenseMatrix, DenseType, Kernels};

use crate::model::{BIASED, Data, Dense, Plan, Planned, block};
use crate::options::{Options, Quantize};
use crate::scan::Part;
use crate::source::{Checkpoint, Dtype, SourceFile, View};
use crate::trits::{Encoding, Ternary, check_scale, unused_code};
use crate::{Error, plan};

/// Plans the conversion of a GGUF file.
pub(crate) fn plan<'a>(checkpoint: &'a Checkpoint, options: &Options) -> Result<Plan<'a>, Error> {
    let Some(file) = checkpoint.files.first() else {
        let why = "there is no file".to_owned();
        return Err(Error::NotACheckpoint { path: checkpoint.name.clone(), why });
    };
    let parts = checkpoint.files.iter().map(|file| {
        Gguf::parse(file).map_err(|source| Error::Gguf { file: file.name.clone(), source })
    });
    let mut parts = parts.collect::<Result<Vec<Gguf>, Error>>()?;
    let gguf = match (parts.len(), parts.pop()) {
        (1, Some(only)) if !is_part(&only) => only,
        (_, last) => Gguf::join(parts.into_iter().chain(last).collect())
            .map_err(|source| Error::Gguf { file: file.name.clone(), source })?,
    };
    let source = gguf.metadata();
    let in_file = |source| Error::Gguf { file: file.name.clone(), source };
    let rows = gguf.tensor("token_embd.weight").and_then(|info| info.shape.first().copied());
    let model = Hyperparameters::read(source, rows).map_err(in_file)?;
    let files: Vec<&[u8]> = checkpoint.files.iter().map(|file| &**file).collect();
    let projections = match options.quantize {
        None => Projections::of(model.arch, &gguf, &files),
        Some(Quantize::Absmean) => Projections::to_quantise(&gguf, &files),
    };
    let projections = projections.map_err(in_file)?;

    let mut notes = Vec::new();
    let mut builder = Builder {
        files: &checkpoint.files,
        left: gguf.tensors().iter().map(|info| (info.name.clone(), info.clone())).collect(),
        projections,
        options,
        tensors: Vec::new(),
    };
    builder.tensors(&model, &mut notes)?;
    let Builder { left, mut tensors, .. } = builder;
    if let Some((name, info)) = left.into_iter().next() {
        let file = checkpoint.files.get(info.part).map_or_else(String::new, |f| f.name.clone());
        return Err(Error::Unexpected { file, tensor: name });
    }
    plan::choose_types(&mut tensors, model.arch, options, &mut notes)?;
    let mut metadata =
        metadata::translate(&file.name, source, &model, &checkpoint.name, &mut notes)?;
    if let Some(file_type) = plan::file_type(&tensors) {
        metadata.insert("general.file_type", file_type);
    }
    plan::name_dense(&tensors, model.arch, &mut metadata);
    let projections = tensors.iter().filter(|tensor| is_projection(&tensor.name));
    let mixture = projections.map(|tensor| (&tensor.name[..], !tensor.data.is_ternary()));
    notes.extend(mixture_note(mixture));
    Ok(Plan { model, files: &checkpoint.files, metadata, tensors, notes })
}

/// The types of blocks that are passed on as they are.
pub(crate) fn blocks(ty: TensorType) -> Option<DenseType> {
    match ty {
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

/// Whether a file says that it is one of several.
fn is_part(gguf: &Gguf) -> bool {
    !matches!(Split::of(gguf.metadata()), Ok(None))
}

struct Builder<'a, 'o> {
    files: &'a [SourceFile],
    /// Tensors that nothing has asked for yet.
    left: BTreeMap<String, TensorInfo>,
    projections: Projections,
    options: &'o Options,
    tensors: Vec<Planned<'a>>,
}

impl<'a> Builder<'a, '_> {
    /// The name of the file that holds a tensor.
    fn file(&self, info: &TensorInfo) -> &'a str {
        self.files.get(info.part).map_or("", |file| &file.name)
    }

    fn bytes(&self, info: &TensorInfo) -> &'a [u8] {
        info.bytes(self.files.get(info.part).map_or(&[], |file| file))
    }

    fn tensors(&mut self, model: &Hyperparameters, notes: &mut Vec<String>) -> Result<(), Error> {
        let table = [model.vocab, model.hidden];
        // Made anew, in case the head changes its type.
        for name in Part::ALL.map(Part::name) {
            self.left.remove(name);
        }
        self.dense("token_embd.weight", &table)?;
        let divisors: &[&str] = match model.rope.scaling {
            Scaling::LongRope { .. } => &ROPE_FACTORS,
            _ if self.left.contains_key(ROPE_FREQS) => &[ROPE_FREQS],
            _ => &[],
        };
        for name in divisors {
            self.divisors(name, model.head_dim / 2)?;
        }
        let biased = |part: &&str| self.left.contains_key(&format!("blk.0.{part}.bias"));
        let biases: Vec<&str> = match model.arch {
            Architecture::Qwen2 => BIASED[..3].to_vec(),
            _ => BIASED.into_iter().filter(biased).collect(),
        };
        let slots = block(model, &biases);
        for layer in 0..model.layers {
            for slot in &slots {
                let name = format!("blk.{layer}.{}", slot.gguf);
                if slot.is_vector() {
                    self.vector(&format!("{name}.{}", slot.suffix), &slot.shape)?;
                } else {
                    self.projection(&name, &slot.shape)?;
                }
            }
        }
        self.vector("output_norm.weight", &[model.hidden])?;
        match self.projections.storage("output.weight") {
            None => Ok(()),
            Some(Storage::Packed | Storage::Unpacked) => self.projection("output", &table),
            Some(Storage::Dense) => {
                self.dense("output.weight", &table)?;
                self.drop_repeated_head(notes);
                Ok(())
            }
        }
    }

    /// Early files store a tied head twice.
    fn drop_repeated_head(&mut self, notes: &mut Vec<String>) {
        if let (Some(Data::Dense(embedding)), Some(Data::Dense(head))) =
            (self.tensors.first().map(|t| &t.data), self.tensors.last().map(|t| &t.data))
            && plan::same_values(&embedding.view, &head.view)
        {
            self.tensors.pop();
            notes.push("output.weight repeats the embedding and was left out".to_owned());
        }
    }

    fn take(&mut self, name: &str, shape: &[u64]) -> Result<TensorInfo, Error> {
        let Some(info) = self.left.remove(name) else {
            let file = self.files.first().map_or_else(String::new, |file| file.name.clone());
            return Err(Error::Missing { file, tensor: name.to_owned() });
        };
        if info.shape == shape {
            return Ok(info);
        }
        let file = self.file(&info).to_owned();
        Err(Error::Shape { file, tensor: info.name, expected: shape.to_vec(), found: info.shape })
    }

    fn view(&self, info: &TensorInfo) -> Result<View<'a>, Error> {
        let dtype = match info.ty {
            TensorType::F32 => Dtype::F32,
            TensorType::F16 => Dtype::F16,
            TensorType::Bf16 => Dtype::Bf16,
            _ => return Err(self.type_error(info, "BF16, F16 or F32")),
        };
        Ok(View {
            file: self.file(info),
            name: info.name.clone(),
            dtype,
            shape: info.shape.clone(),
            bytes: self.bytes(info),
        })
    }

    fn type_error(&self, info: &TensorInfo, expected: &str) -> Error {
        Error::Dtype {
            file: self.file(info).to_owned(),
            tensor: info.name.clone(),
            expected: expected.to_owned(),
            found: info.ty.to_string(),
        }
    }

    /// A norm or a bias.
    fn vector(&mut self, name: &str, shape: &[u64]) -> Result<(), Error> {
        let info = self.take(name, shape)?;
        let data = Data::Dense(Dense { view: self.view(&info)?, head_dim: None });
        self.push(info, TensorType::F32, data);
        Ok(())
    }

    /// What rotary frequencies are divided by.
    fn divisors(&mut self, name: &str, pairs: u64) -> Result<(), Error> {
        let info = self.take(name, &[pairs])?;
        let view = self.view(&info)?;
        let error = |source| Error::Gguf { file: view.file.to_owned(), source };
        check_divisors(name, &view.to_f32()).map_err(error)?;
        self.push(info, TensorType::F32, Data::Dense(Dense { view, head_dim: None }));
        Ok(())
    }

    /// An embedding or head in its own type.
    fn dense(&mut self, name: &str, shape: &[u64]) -> Result<(), Error> {
        let info = self.take(name, shape)?;
        self.push_dense(info)
    }

    fn push_dense(&mut self, info: TensorInfo) -> Result<(), Error> {
        let data = match blocks(info.ty) {
            Some(ty) => Data::Blocks(self.finite_blocks(&info, ty)?),
            None => Data::Dense(Dense { view: self.view(&info)?, head_dim: None }),
        };
        let ty = info.ty;
        self.push(info, ty, data);
        Ok(())
    }

    /// The bytes of a tensor of blocks, whose codes must be those of weights, and these finite.
    fn finite_blocks(&self, info: &TensorInfo, ty: DenseType) -> Result<&'a [u8], Error> {
        let bytes = self.bytes(info);
        let cols = info.shape.last().map_or(1, |&n| n as usize);
        let rows = bytes.len() / ty.row_len(cols).unwrap_or(1).max(1);
        let Some(matrix) = DenseMatrix::new(ty, bytes, rows, cols) else {
            return Err(self.type_error(info, "a type of whole blocks"));
        };
        if let Some((row, col)) = matrix.find_unused() {
            return Err(Error::NotTernary {
                file: self.file(info).to_owned(),
                tensor: info.name.clone(),
                row: row as u64,
                col: col as u64,
                found: unused_code(info.ty).to_owned(),
            });
        }
        // Any kernels will do, for all give the same weights.
        let Some(kernels) = Kernels::available().into_iter().next_back() else { return Ok(bytes) };
        let bad = (0..rows).into_par_iter().map_init(Vec::new, |wide, row| {
            wide.resize(cols, 0.0);
            kernels.dense_row(&matrix, row, wide);
            let col = wide.iter().position(|w| !w.is_finite())?;
            Some((row * cols + col, wide.get(col).copied().unwrap_or(f32::NAN)))
        });
        match bad.find_map_first(|bad| bad) {
            None => Ok(bytes),
            Some((element, found)) => Err(Error::NotFinite {
                file: self.file(info).to_owned(),
                tensor: info.name.clone(),
                element: element as u64,
                found,
            }),
        }
    }

    /// A projection, by its name without `.weight`. Rows are in the order that the file's
    /// architecture has, which is that of the output.
    fn projection(&mut self, name: &str, shape: &[u64]) -> Result<(), Error> {
        // A file of ours may have it transposed.
        let output = format!("{name}.weight");
        let transposed = TensorType::transposed(&output);
        let is_transposed =
            self.left.get(&transposed).is_some_and(|info| info.ty == TensorType::I2T);
        let (tensor, stored) = match is_transposed {
            true => (transposed, shape.iter().rev().copied().collect()),
            false => (output.clone(), shape.to_vec()),
        };
        let info = self.take(&tensor, &stored)?;
        let info = TensorInfo { name: output, shape: shape.to_vec(), ..info };
        let (ty, bytes) = (info.ty, self.bytes(&info));
        let encoding = match self.projections.storage(&tensor) {
            Some(Storage::Packed | Storage::Unpacked) => {
                let factor = self.factor(tensor.strip_suffix(".weight").unwrap_or(&tensor))?;
                match ty.is_ternary() {
                    true => Encoding::Gguf { ty, bytes, factor },
                    false => Encoding::Plain { view: self.view(&info)?, scale: factor },
                }
            }
            _ if self.options.quantize.is_some() && !self.projections.keeps_dense(&tensor) => {
                Encoding::Dense { view: self.view(&info)? }
            }
            _ => return self.push_dense(info),
        };
        let (&[rows, cols], ty) =
            (shape, plan::ternary_type(self.options.layout, &info.name, shape)?)
        else {
            return Err(self.type_error(&info, "a matrix"));
        };
        let ternary = Ternary {
            file: self.file(&info),
            name: info.name.clone(),
            rows: rows as usize,
            cols: cols as usize,
            encoding,
            head_dim: None,
        };
        self.push(info, ty, Data::Ternary(ternary));
        Ok(())
    }

    /// The scale that some writers store as a tensor of its own, beside weights of -1, 0 and 1; 1
    /// without one.
    fn factor(&mut self, name: &str) -> Result<f32, Error> {
        let name = format!("{name}.scale");
        if !self.left.contains_key(&name) {
            return Ok(1.0);
        }
        let info = self.take(&name, &[1])?;
        let factor = self.view(&info)?.to_f32().first().copied().unwrap_or(f32::NAN);
        check_scale(self.file(&info), &name, factor)?;
        Ok(factor)
    }

    fn push(&mut self, info: TensorInfo, ty: TensorType, data: Data<'a>) {
        self.tensors.push(Planned { name: info.name, ty, shape: info.shape, data });
    }
}
