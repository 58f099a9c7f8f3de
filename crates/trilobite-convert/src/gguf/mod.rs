//! GGUF files, foreign and our own: which tensor of the output comes from which of the source.

mod metadata;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use half::f16;
use trilobite_format::{Gguf, TensorInfo, TensorType};

use crate::model::{Config, Data, Dense, Plan, Planned};
use crate::options::Options;
use crate::source::{Checkpoint, Dtype, View};
use crate::trits::{Encoding, Ternary, check_scale};
use crate::{Error, plan};

/// Plans the conversion of a GGUF file.
pub(crate) fn plan<'a>(checkpoint: &'a Checkpoint, options: &Options) -> Result<Plan<'a>, Error> {
    let Some(file) = checkpoint.files.first() else {
        let why = "there is no file".to_owned();
        return Err(Error::NotACheckpoint { path: checkpoint.name.clone(), why });
    };
    let gguf =
        Gguf::parse(file).map_err(|source| Error::Gguf { file: file.name.clone(), source })?;
    let source = gguf.metadata();
    let config = metadata::config(&file.name, &gguf)?;

    let mut notes = Vec::new();
    let mut builder = Builder {
        file: &file.name,
        bytes: file,
        left: gguf.tensors().iter().map(|info| (info.name.clone(), info.clone())).collect(),
        // A file of ours says which projections its checkpoint keeps dense, by having them dense.
        ours: source.get("trilobite.version").is_some(),
        options,
        tensors: Vec::new(),
    };
    builder.tensors(&config, &mut notes)?;
    let Builder { left, mut tensors, .. } = builder;
    if let Some(name) = left.into_keys().next() {
        return Err(Error::Unexpected { file: file.name.clone(), tensor: name });
    }
    plan::choose_head(&mut tensors, options.head, &mut notes)?;
    plan::add_scan(&mut tensors, options);
    let metadata = metadata::translate(&file.name, source, &config, &checkpoint.name, &mut notes)?;
    Ok(Plan { arch: config.arch, metadata, tensors, notes })
}

struct Builder<'a, 'o> {
    file: &'a str,
    bytes: &'a [u8],
    /// Tensors that nothing has asked for yet.
    left: BTreeMap<String, TensorInfo>,
    ours: bool,
    options: &'o Options,
    tensors: Vec<Planned<'a>>,
}

impl<'a> Builder<'a, '_> {
    fn tensors(&mut self, config: &Config, notes: &mut Vec<String>) -> Result<(), Error> {
        let table = [config.vocab, config.hidden];
        // Made anew, in case the head changes its type.
        for name in plan::SCAN {
            self.left.remove(name);
        }
        self.dense("token_embd.weight", &table)?;
        if self.left.contains_key("rope_freqs.weight") {
            self.norm("rope_freqs.weight", &[config.head_dim / 2])?;
        }
        let slots = config.block();
        for layer in 0..config.layers {
            for slot in &slots {
                let name = format!("blk.{layer}.{}", slot.gguf);
                if slot.is_norm() {
                    self.norm(&format!("{name}.weight"), &slot.shape)?;
                } else {
                    self.projection(&name, &slot.shape)?;
                }
            }
        }
        self.norm("output_norm.weight", &[config.hidden])?;
        match self.left.get("output.weight") {
            None => Ok(()),
            Some(info) if info.ty.is_ternary() => self.projection("output", &table),
            Some(_) => {
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
        let file = self.file.to_owned();
        let Some(info) = self.left.remove(name) else {
            return Err(Error::Missing { file, tensor: name.to_owned() });
        };
        if info.shape == shape {
            return Ok(info);
        }
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
            file: self.file,
            name: info.name.clone(),
            dtype,
            shape: info.shape.clone(),
            bytes: info.bytes(self.bytes),
        })
    }

    fn type_error(&self, info: &TensorInfo, expected: &str) -> Error {
        Error::Dtype {
            file: self.file.to_owned(),
            tensor: info.name.clone(),
            expected: expected.to_owned(),
            found: info.ty.to_string(),
        }
    }

    fn norm(&mut self, name: &str, shape: &[u64]) -> Result<(), Error> {
        let info = self.take(name, shape)?;
        let data = Data::Dense(Dense { view: self.view(&info)?, head_dim: None });
        self.push(info, TensorType::F32, data);
        Ok(())
    }

    /// An embedding or head in its own type.
    fn dense(&mut self, name: &str, shape: &[u64]) -> Result<(), Error> {
        let info = self.take(name, shape)?;
        let data = match info.ty {
            TensorType::Q8_0 => Data::Blocks(self.q8_0(&info)?),
            _ => Data::Dense(Dense { view: self.view(&info)?, head_dim: None }),
        };
        let ty = info.ty;
        self.push(info, ty, data);
        Ok(())
    }

    /// The blocks of a Q8_0 tensor, whose scales must be finite.
    fn q8_0(&self, info: &TensorInfo) -> Result<&'a [u8], Error> {
        let bytes = info.bytes(self.bytes);
        let scales = bytes.as_chunks::<34>().0.iter().map(|b| f16::from_le_bytes([b[0], b[1]]));
        match scales.enumerate().find(|(_, scale)| !scale.is_finite()) {
            None => Ok(bytes),
            Some((block, scale)) => Err(Error::NotFinite {
                file: self.file.to_owned(),
                tensor: info.name.clone(),
                element: 32 * block as u64,
                found: scale.to_f32(),
            }),
        }
    }

    /// A projection, by its name without `.weight`. Rows are in the order that the file's
    /// architecture has, which is that of the output.
    fn projection(&mut self, name: &str, shape: &[u64]) -> Result<(), Error> {
        let info = self.take(&format!("{name}.weight"), shape)?;
        let factor = self.factor(name)?;
        let encoding = if info.ty.is_ternary() {
            let factor = factor.unwrap_or(1.0);
            Encoding::Gguf { ty: info.ty, bytes: info.bytes(self.bytes), factor }
        } else {
            let view = self.view(&info)?;
            match factor {
                Some(scale) => Encoding::Plain { view, scale },
                None if self.ours => {
                    let ty = info.ty;
                    self.push(info, ty, Data::Dense(Dense { view, head_dim: None }));
                    return Ok(());
                }
                None if self.options.quantize.is_some() => Encoding::Dense { view },
                None => {
                    return Err(Error::Dense {
                        file: self.file.to_owned(),
                        dtype: info.ty.to_string(),
                        tensor: info.name,
                    });
                }
            }
        };
        let (&[rows, cols], ty) =
            (shape, plan::ternary_type(self.options.layout, &info.name, shape)?)
        else {
            return Err(self.type_error(&info, "a matrix"));
        };
        let ternary = Ternary {
            file: self.file,
            name: info.name.clone(),
            rows: rows as usize,
            cols: cols as usize,
            encoding,
            head_dim: None,
        };
        self.push(info, ty, Data::Ternary(ternary));
        Ok(())
    }

    /// The scale that some writers store as a tensor of its own, beside weights of -1, 0 and 1.
    fn factor(&mut self, name: &str) -> Result<Option<f32>, Error> {
        let name = format!("{name}.scale");
        if !self.left.contains_key(&name) {
            return Ok(None);
        }
        let info = self.take(&name, &[1])?;
        let factor = self.view(&info)?.to_f32().first().copied().unwrap_or(f32::NAN);
        check_scale(self.file, &name, factor)?;
        Ok(Some(factor))
    }

    fn push(&mut self, info: TensorInfo, ty: TensorType, data: Data<'a>) {
        self.tensors.push(Planned { name: info.name, ty, shape: info.shape, data });
    }
}
