//! Matrices in the formats of MLX: words with codes of two or four bits, and scales for rows or groups
//! of columns.

use trilobite_format::TensorType;
use trilobite_format::model::Tensor;

use super::config::Quantization;
use super::{CONFIG, HfPlanner};
use crate::Error;
use crate::grouped::{self, Mlx};
use crate::model::{Data, Planned};
use crate::source::{Dtype, View};
use crate::stack::{Matrix, Stack};
use crate::words::Words;

/// The type of the words of MLX.
const U32: Dtype = Dtype::Other("U32", 4);
/// Number of codes of two bits in a word of MLX.
const WORD: u64 = 16;

impl<'a> HfPlanner<'a, '_> {
    /// Takes out the matrix of a projection of a mixture of experts: floats, or codes of MLX with a
    /// scale for each row or each group of columns.
    pub(super) fn matrix(&mut self, module: &str, shape: &[u64]) -> Result<Matrix<'a>, Error> {
        let [weight, alpha, scales, biases] =
            ["weight", "row_alpha", "scales", "biases"].map(|suffix| format!("{module}.{suffix}"));
        let (&[rows, cols], quantization) = (shape, self.source.quantization) else {
            return Ok(Matrix::Floats(self.shards.require_shape(&weight, shape)?));
        };
        let by_row = self.shards.get(&alpha).is_some();
        let group = match quantization {
            _ if by_row => WORD,
            Quantization::Mlx { group } if self.shards.get(&scales).is_some() => group,
            _ => match self.shards.get(&weight) {
                Some(view) if view.dtype == U32 => return Err(self.shards.missing(&alpha)),
                _ => return Ok(Matrix::Floats(self.shards.require_shape(&weight, shape)?)),
            },
        };
        self.check_group(module, cols, group)?;
        let words = self.words(&weight, [rows, cols / WORD])?;
        let scales = match by_row {
            true => self.shards.require_shape(&alpha, &[rows])?,
            false => self.shards.require_shape(&scales, &[rows, cols / group])?,
        };
        require_floats(&scales)?;
        if !by_row {
            let biases = self.shards.require_shape(&biases, &[rows, cols / group])?;
            require_floats(&biases)?;
            grouped::check_biases(&scales, &biases)?;
        }
        let (rows, cols) = (rows as usize, cols as usize);
        Ok(Matrix::Words(Box::new(Words { words, scales, biases: None, rows, cols })))
    }

    /// Takes out the words of a matrix of MLX.
    fn words(&mut self, weight: &str, shape: [u64; 2]) -> Result<View<'a>, Error> {
        let words = self.shards.require_shape(weight, &shape)?;
        match words.dtype {
            U32 => Ok(words),
            _ => Err(words.dtype_error("U32")),
        }
    }

    fn check_group(&self, module: &str, cols: u64, group: u64) -> Result<(), Error> {
        if cols.is_multiple_of(group) {
            return Ok(());
        }
        let what = format!("{module}.weight of {cols} columns in groups of {group}");
        Err(Error::Unsupported { file: CONFIG.to_owned(), what })
    }

    /// Plans a matrix of MLX, if it is one.
    pub(super) fn mlx(&mut self, tensor: &Tensor, module: &str) -> Result<bool, Error> {
        let names = ["weight", "scales", "biases"].map(|suffix| format!("{module}.{suffix}"));
        let (Quantization::Mlx { group }, Some(_), &[rows, cols]) =
            (self.source.quantization, self.shards.get(&names[1]), tensor.shape.as_slice())
        else {
            return Ok(false);
        };
        let [words, scales, biases] = &names;
        let four_bits = self.source.four_bits.iter().find(|(name, _)| name == module);
        let (group, bits) = four_bits.map_or((group, 2), |(_, group)| (*group, 4));
        self.check_group(module, cols, group)?;
        let words = self.words(words, [rows, cols * bits / 32])?;
        let groups = [rows, cols / group];
        let scales = self.shards.require_shape(scales, &groups)?;
        let biases = self.shards.require_shape(biases, &groups)?;
        require_floats(&scales)?;
        require_floats(&biases)?;
        let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
        if bits == 4 {
            let biases = Some(biases);
            let words = Words { words, scales, biases, rows: rows as usize, cols: cols as usize };
            let ty = if words.fits_q4_1() { TensorType::Q4_1 } else { TensorType::F32 };
            self.notes
                .push(format!("{module}.weight has codes of four bits and is stored as {ty}"));
            let data = Data::Stack(Stack { matrices: vec![Matrix::Words(Box::new(words))] });
            self.tensors.push(Planned { name, ty, shape, data });
            return Ok(true);
        }
        let (ty, block) = match group % 128 {
            0 => (TensorType::Pq2_0, 128),
            _ => (TensorType::Q2_0, 64),
        };
        let data = Data::Mlx(Mlx::new(words, &scales, &biases, (group as usize, block))?);
        self.tensors.push(Planned { name, ty, shape, data });
        Ok(true)
    }
}

/// Checks that a tensor holds finite floats.
fn require_floats(view: &View<'_>) -> Result<(), Error> {
    match view.dtype.float_type() {
        Some(_) => view.require_finite(),
        None => Err(view.dtype_error("BF16, F16 or F32")),
    }
}
