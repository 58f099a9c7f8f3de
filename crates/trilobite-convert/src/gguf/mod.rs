//! GGUF sources, from Trilobite and other programs: the source tensor of each output tensor.

mod metadata;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use rayon::prelude::*;
use trilobite_format::keys;
use trilobite_format::model::{
    HeadScanPart, Hyperparameters, Projections, Role, Storage, Tensor, check_divisors,
    is_projection, mixture_note, scale_name, tensors,
};
use trilobite_format::{Gguf, Outlier, Split, TensorInfo, TensorType};
use trilobite_kernels::source::first_not_finite;
use trilobite_kernels::{DenseMatrix, DenseType, Kernels};

use crate::blocks::blocks;
use crate::dense::Dense;
use crate::model::{Data, Plan, Planned};
use crate::options::{Options, Quantize};
use crate::source::{Checkpoint, Dtype, SourceFile, View};
use crate::trits::{Encoding, Ternary, check_scale};
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
    let rows = gguf.tensor(&Role::Embedding.name(0)).and_then(|info| info.shape.first().copied());
    let model = Hyperparameters::read(source, rows).map_err(in_file)?;
    let files: Vec<&[u8]> = checkpoint.files.iter().map(|file| &**file).collect();
    if options.quantize.is_some() && model.arch.has_experts() {
        return Err(Error::Unsupported {
            file: file.name.clone(),
            what: plan::QUANTISED_EXPERTS.to_owned(),
        });
    }
    let projections = match options.quantize {
        None => Projections::of(model.arch, &gguf, &files),
        Some(Quantize::Absmean) => Projections::to_quantise(&gguf, &files),
    };
    let projections = projections.map_err(in_file)?;
    if let Some(info) =
        projections.first(Storage::Packed, &gguf).filter(|_| model.arch.has_experts())
    {
        return Err(Error::Dtype {
            file: checkpoint.files[info.part].name.clone(),
            tensor: info.name.clone(),
            expected: "floats, or a type with scales for blocks, in a mixture of experts"
                .to_owned(),
            found: info.ty.to_string(),
        });
    }

    let mut notes = Vec::new();
    let mut planner = GgufPlanner {
        files: &checkpoint.files,
        remaining: gguf.tensors().iter().map(|info| (info.name.clone(), info.clone())).collect(),
        projections,
        options,
        tensors: Vec::new(),
    };
    planner.tensors(&model, &mut notes)?;
    let GgufPlanner { remaining, mut tensors, .. } = planner;
    if let Some((name, info)) = remaining.into_iter().next() {
        let file = checkpoint.files[info.part].name.clone();
        return Err(match Role::lacking(&name, &model) {
            Some(tensor) => Error::Missing { file, tensor },
            None => Error::Unexpected { file, tensor: name },
        });
    }
    plan::choose_types(&mut tensors, &model, options, &mut notes)?;
    let mut metadata =
        metadata::translate(&file.name, source, &model, &checkpoint.name, &mut notes)?;
    if let Some(file_type) = plan::file_type(&tensors) {
        metadata.insert(keys::FILE_TYPE, file_type);
    }
    plan::name_dense(&tensors, model.arch, &mut metadata);
    let projections = tensors.iter().filter(|tensor| is_projection(&tensor.name));
    let mixture = projections.map(|tensor| (&tensor.name[..], !tensor.data.is_ternary()));
    notes.extend(mixture_note(mixture));
    Ok(Plan { model, files: &checkpoint.files, metadata, tensors, notes })
}

/// Whether the file is a part of a split model.
fn is_part(gguf: &Gguf) -> bool {
    !matches!(Split::of(gguf.metadata()), Ok(None))
}

struct GgufPlanner<'a, 'o> {
    files: &'a [SourceFile],
    /// The source tensors that have not been used yet.
    remaining: BTreeMap<String, TensorInfo>,
    projections: Projections,
    options: &'o Options,
    tensors: Vec<Planned<'a>>,
}

impl<'a> GgufPlanner<'a, '_> {
    /// The name of the file that contains a tensor.
    fn file(&self, info: &TensorInfo) -> &'a str {
        &self.files[info.part].name
    }

    fn bytes(&self, info: &TensorInfo) -> &'a [u8] {
        info.bytes(&self.files[info.part])
    }

    fn tensors(&mut self, model: &Hyperparameters, notes: &mut Vec<String>) -> Result<(), Error> {
        // The coarse copy is computed anew, because the head may change its type.
        for part in HeadScanPart::ALL {
            self.remaining.remove(part.name());
        }
        let there = |name: &str| self.remaining.contains_key(name);
        let has = |role: Role, layer| self.projections.have(role, layer, there);
        for tensor in tensors(model, has) {
            match tensor.role {
                Role::Embedding => self.dense(&tensor)?,
                Role::Head => self.head(&tensor, notes)?,
                Role::Router => self.router(&tensor)?,
                role if role.divides_rope() => self.divisors(&tensor)?,
                role if role.is_vector() => self.vector(&tensor)?,
                _ => self.projection(&tensor)?,
            }
        }
        Ok(())
    }

    fn head(&mut self, tensor: &Tensor, notes: &mut Vec<String>) -> Result<(), Error> {
        match self.projections.storage(&tensor.name) {
            Some(Storage::Packed | Storage::Unpacked) => return self.projection(tensor),
            Some(Storage::Dense) | None => self.dense(tensor)?,
        }
        self.drop_repeated_head(notes);
        Ok(())
    }

    /// Drops the head if it repeats the embedding, as in early files with tied weights.
    fn drop_repeated_head(&mut self, notes: &mut Vec<String>) {
        if let (Some(Data::Dense(embedding)), Some(Data::Dense(head))) =
            (self.tensors.first().map(|t| &t.data), self.tensors.last().map(|t| &t.data))
            && plan::same_values(&embedding.view, &head.view)
        {
            let name = Role::Head.name(0);
            notes.push(format!("{name} repeats the embedding and was left out"));
            self.tensors.pop();
        }
    }

    fn take(&mut self, name: &str, shape: &[u64]) -> Result<TensorInfo, Error> {
        let Some(info) = self.remaining.remove(name) else {
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

    /// Plans a norm or a bias.
    fn vector(&mut self, tensor: &Tensor) -> Result<(), Error> {
        let info = self.take(&tensor.name, &tensor.shape)?;
        let data = Data::Dense(Dense { view: self.view(&info)?, head_dim: None });
        self.push(info, TensorType::F32, data);
        Ok(())
    }

    /// Plans the divisors of rotary frequencies.
    fn divisors(&mut self, tensor: &Tensor) -> Result<(), Error> {
        let info = self.take(&tensor.name, &tensor.shape)?;
        let view = self.view(&info)?;
        let error = |source| Error::Gguf { file: view.file.to_owned(), source };
        check_divisors(&tensor.name, &view.to_f32()).map_err(error)?;
        self.push(info, TensorType::F32, Data::Dense(Dense { view, head_dim: None }));
        Ok(())
    }

    /// Plans an embedding or head in its own type.
    fn dense(&mut self, tensor: &Tensor) -> Result<(), Error> {
        let info = self.take(&tensor.name, &tensor.shape)?;
        self.push_dense(info)
    }

    /// Plans a router, whose weights are floats.
    fn router(&mut self, tensor: &Tensor) -> Result<(), Error> {
        let info = self.take(&tensor.name, &tensor.shape)?;
        let (view, ty) = (self.view(&info)?, info.ty);
        self.push(info, ty, Data::Dense(Dense { view, head_dim: None }));
        Ok(())
    }

    fn push_dense(&mut self, info: TensorInfo) -> Result<(), Error> {
        let data = match blocks(info.ty) {
            Some(ty) => Data::Blocks(self.finite_blocks(&info, ty)?),
            None => Data::Dense(Dense { view: self.view(&info)?, head_dim: None }),
        };
        let ty = info.ty;
        let outliers = self.outliers(&info)?;
        self.push(info, ty, data);
        self.tensors.extend(outliers);
        Ok(())
    }

    /// The outliers of a matrix, in files of our own.
    fn outliers(&mut self, matrix: &TensorInfo) -> Result<Option<Planned<'a>>, Error> {
        let name = Outlier::tensor(&matrix.name);
        let Some(count) = self.remaining.get(&name).and_then(|info| info.shape.first().copied())
        else {
            return Ok(None);
        };
        let info = self.take(&name, &[count, Outlier::BYTES as u64])?;
        if info.ty != TensorType::I8 {
            return Err(self.type_error(&info, "I8"));
        }
        let bytes = self.bytes(&info);
        let [rows, cols] = [0, 1].map(|i| matrix.shape.get(i).map_or(1, |n| *n as usize));
        if let Err(entry) = Outlier::read(bytes, rows, cols) {
            let file = self.file(&info).to_owned();
            return Err(Error::Outlier { file, tensor: name, entry });
        }
        let TensorInfo { name, ty, shape, .. } = info;
        Ok(Some(Planned { name, ty, shape, data: Data::Blocks(bytes) }))
    }

    /// The bytes of a tensor of quantised blocks. All codes must be valid and all weights finite.
    fn finite_blocks(&self, info: &TensorInfo, ty: DenseType) -> Result<&'a [u8], Error> {
        let bytes = self.bytes(info);
        let &cols = info.shape.last().expect("a tensor has dimensions");
        let cols = cols as usize;
        let rows =
            bytes.len() / ty.row_len(cols).expect("the rows of a parsed file are whole blocks");
        let matrix = DenseMatrix::new(ty, bytes, rows, cols).expect("a parsed file has whole rows");
        if let Some((row, col)) = matrix.find_invalid() {
            return Err(Error::InvalidCode {
                file: self.file(info).to_owned(),
                tensor: info.name.clone(),
                row: row as u64,
                col: col as u64,
            });
        }
        // Any kernels will do, because all give the same weights.
        let kernels = Kernels::best();
        let bad = (0..rows).into_par_iter().map_init(Vec::new, |wide, row| {
            wide.resize(cols, 0.0);
            kernels.dense_row(&matrix, row, wide);
            let col = first_not_finite(wide)?;
            Some((row * cols + col, wide[col]))
        });
        let bad = bad.find_map_first(|bad| bad);
        // They are read again when they are written.
        self.files[info.part].release(bytes);
        match bad {
            None => Ok(bytes),
            Some((element, found)) => Err(Error::NotFinite {
                file: self.file(info).to_owned(),
                tensor: info.name.clone(),
                element: element as u64,
                found,
            }),
        }
    }

    /// Plans a projection or the head. The order of rows depends on the architecture, and is the
    /// same in the output.
    fn projection(&mut self, tensor: &Tensor) -> Result<(), Error> {
        let Tensor { name, shape, .. } = tensor;
        // Files of our own may store it transposed.
        let transposed = TensorType::transposed(name);
        let is_transposed =
            self.remaining.get(&transposed).is_some_and(|info| info.ty == TensorType::I2T);
        let (stored, stored_shape) = match is_transposed {
            true => (&transposed, shape.iter().rev().copied().collect()),
            false => (name, shape.clone()),
        };
        let info = self.take(stored, &stored_shape)?;
        let info = TensorInfo { name: name.clone(), shape: shape.clone(), ..info };
        let (ty, bytes) = (info.ty, self.bytes(&info));
        let encoding = match self.projections.storage(stored) {
            Some(Storage::Packed | Storage::Unpacked) => {
                let factor = self.factor(stored)?;
                match ty.is_ternary() {
                    true => Encoding::Gguf { ty, bytes, factor },
                    false => Encoding::Plain { view: self.view(&info)?, scale: factor },
                }
            }
            _ if self.options.quantize.is_some() && !self.projections.keeps_dense(stored) => {
                Encoding::Dense { view: self.view(&info)? }
            }
            _ => return self.push_dense(info),
        };
        let (&[rows, cols], ty) =
            (shape.as_slice(), plan::ternary_type(self.options.layout, &info.name, shape)?)
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

    /// The scale that some writers store in a tensor of its own, beside weights of -1, 0 and 1. The
    /// default is 1.
    fn factor(&mut self, weight: &str) -> Result<f32, Error> {
        let name = scale_name(weight).filter(|name| self.remaining.contains_key(name));
        let Some(name) = name else { return Ok(1.0) };
        let info = self.take(&name, &[1])?;
        let factor = self.view(&info)?.to_f32()[0];
        check_scale(self.file(&info), &name, factor)?;
        Ok(factor)
    }

    fn push(&mut self, info: TensorInfo, ty: TensorType, data: Data<'a>) {
        self.tensors.push(Planned { name: info.name, ty, shape: info.shape, data });
    }
}
