//! Dense matrices whose weights are -d, 0, d and 2 d, with a number d for each group of columns.
//!
//! Models that are trained with such weights are published as floats. A matrix fits if a scale for
//! every 128 columns, or for every 64, gives all its weights but a few. The scale of a block is the
//! magnitude that leaves the fewest outliers: one of them can be larger than the scale. Larger groups
//! repeat their scale.

use half::f16;
use rayon::prelude::*;
use trilobite_format::model::is_projection;
use trilobite_format::{Outlier, TensorType};
use trilobite_kernels::source::{groups, same};
use trilobite_kernels::{DenseMatrix, Kernels};

use crate::Error;
use crate::blocks::blocks;
use crate::dense::{Dense, PIECE, pieces};
use crate::model::{Data, Planned};
use crate::source::View;

/// Minimum number of weights per outlier in a matrix that fits. An outlier takes 96 bits.
const WEIGHTS_PER_OUTLIER: usize = 256;
/// Rows that are tried before the whole matrix.
const SAMPLE: usize = 16;

/// A matrix that is packed in blocks with a scale each.
pub(crate) struct Grouped<'a> {
    pub(crate) view: View<'a>,
    outliers: Vec<Outlier>,
}

/// Packs the matrices of a dense model that fit, if at least nine tenths of the weights of the
/// projections do. Others stay as they are.
pub(crate) fn pack(tensors: &mut Vec<Planned<'_>>, notes: &mut Vec<String>) {
    let fits = |tensor: &Planned<'_>| match (&tensor.data, tensor.shape.len()) {
        (Data::Dense(Dense { view, head_dim: None }), 2) => fit(view),
        _ => None,
    };
    let mut found: Vec<_> = tensors.iter().map(|_| None).collect();
    let (mut weights, mut fitting) = (0, 0);
    for (tensor, found) in tensors.iter().zip(&mut found) {
        if is_projection(&tensor.name) {
            *found = fits(tensor);
            let count = tensor.shape.iter().product::<u64>();
            weights += count;
            fitting += if found.is_some() { count } else { 0 };
            if (weights - fitting) > weights / 10 && weights >= 1 << 24 {
                return;
            }
        }
    }
    if weights == 0 || fitting * 10 < weights * 9 {
        return;
    }
    let (mut matrices, mut outliers, mut dense) = (0, 0, 0);
    let mut packed = Vec::with_capacity(tensors.len());
    for (tensor, found) in std::mem::take(tensors).into_iter().zip(found) {
        let found = match is_projection(&tensor.name) {
            true => found,
            false => fits(&tensor),
        };
        let is_matrix = tensor.shape.len() == 2;
        let (Some(fit), Data::Dense(Dense { view, .. })) = (found, &tensor.data) else {
            dense += usize::from(is_matrix);
            packed.push(tensor);
            continue;
        };
        matrices += 1;
        outliers += fit.outliers.len();
        let beside = (!fit.outliers.is_empty()).then(|| Planned {
            name: Outlier::tensor(&tensor.name),
            ty: TensorType::I8,
            shape: vec![fit.outliers.len() as u64, Outlier::BYTES as u64],
            data: Data::Bytes(fit.outliers.iter().flat_map(|outlier| outlier.to_bytes()).collect()),
        });
        let data = Data::Grouped(Grouped { view: view.clone(), outliers: fit.outliers });
        packed.push(Planned { ty: fit.ty, data, ..tensor });
        packed.extend(beside);
    }
    *tensors = packed;
    notes.push(format!("{matrices} matrices have a scale for each group and were packed exactly"));
    if outliers > 0 {
        notes.push(format!("{outliers} of their weights are no multiples of it and kept beside"));
    }
    if dense > 0 {
        notes.push(format!("{dense} other matrices have no such scales and stay dense"));
    }
}

/// How a matrix is packed.
struct Fit {
    ty: TensorType,
    outliers: Vec<Outlier>,
}

/// The smallest type that holds a matrix, if its weights have scales for groups.
fn fit(view: &View<'_>) -> Option<Fit> {
    let cols = view.cols();
    let rows = view.count() / cols.max(1);
    let in_blocks = |weights: usize, ty| {
        if !cols.is_multiple_of(weights) {
            return None;
        }
        search(view, 0..rows.min(SAMPLE), weights)?;
        let found = search(view, 0..rows, weights)?;
        let bits = weights == 128 && found.only_signs && found.outliers.is_empty();
        let ty = if bits { TensorType::Q1_0 } else { ty };
        Some(Fit { ty, outliers: found.outliers })
    };
    in_blocks(128, TensorType::Pq2_0).or_else(|| in_blocks(64, TensorType::Q2_0))
}

/// The outliers of some rows.
struct Outliers {
    outliers: Vec<Outlier>,
    /// Whether all weights are plus or minus the scale of their block.
    only_signs: bool,
}

/// Finds the outliers of some rows in blocks of `weights` weights. `None` if there are too many.
fn search(view: &View<'_>, rows: std::ops::Range<usize>, weights: usize) -> Option<Outliers> {
    let cols = view.cols();
    let most = rows.len() * cols / WEIGHTS_PER_OUTLIER;
    let of_row = |wide: &mut Vec<f32>, row: usize| {
        view.widen(row * cols..(row + 1) * cols, wide);
        Some((row, groups::outliers(wide, weights)?))
    };
    let of_rows = rows.into_par_iter().map_init(Vec::new, of_row).collect::<Option<Vec<_>>>()?;
    let only_signs = of_rows.iter().all(|(_, row)| row.only_signs);
    let of_row = |(row, outliers): (usize, groups::Outliers)| {
        let found = outliers.found.into_iter();
        found.map(move |(col, value)| Outlier { row: row as u32, col, value })
    };
    let outliers: Vec<_> = of_rows.into_iter().flat_map(of_row).collect();
    (outliers.len() <= most).then_some(Outliers { outliers, only_signs })
}

impl Grouped<'_> {
    /// Passes the bytes of the tensor as type `ty` to `sink`, in order. Every row is unpacked again
    /// and compared with the source.
    pub(crate) fn stream(
        &self,
        ty: TensorType,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let cols = self.view.cols();
        let rows = self.view.count() / cols;
        let dense = blocks(ty).expect("grouped matrices have a type of blocks");
        let row_bytes = dense.row_len(cols).expect("types are chosen to hold their shapes");
        let kernels = Kernels::best();
        pieces(rows, row_bytes, |first, piece| {
            let changed = piece.par_chunks_mut(row_bytes).enumerate().map_init(
                Default::default,
                |(wide, again): &mut (Vec<f32>, Vec<f32>), (i, out)| {
                    let row = first + i;
                    self.view.widen(row * cols..(row + 1) * cols, wide);
                    groups::pack(dense, wide, out);
                    again.resize(cols, 0.0);
                    let matrix = DenseMatrix::new(dense, out, 1, cols).expect("one row");
                    kernels.dense_row(&matrix, 0, again);
                    for outlier in Outlier::of_rows(&self.outliers, row..row + 1) {
                        again[outlier.col as usize] += outlier.value;
                    }
                    !same(again, wide)
                },
            );
            if changed.any(|changed| changed) {
                let (file, tensor) = (self.view.file.to_owned(), self.view.name.clone());
                return Err(Error::Changed { file, tensor });
            }
            sink(piece)
        })
    }
}

/// A matrix of MLX: words with sixteen codes of two bits, lowest first, and a scale for each group.
pub(crate) struct Mlx<'a> {
    pub(crate) words: View<'a>,
    /// The scale of each block, an F16.
    scales: Vec<f16>,
}

impl<'a> Mlx<'a> {
    /// Checks that a group's weights are multiples of its scale: the bias is its negative.
    pub(crate) fn new(
        words: View<'a>,
        scales: &View<'_>,
        biases: &View<'_>,
        (group, block): (usize, usize),
    ) -> Result<Self, Error> {
        check_biases(scales, biases)?;
        let mut found = Vec::with_capacity(scales.count() * group / block);
        for (element, scale) in scales.to_f32().into_iter().enumerate() {
            let rounded = f16::from_f32(scale);
            if rounded.to_f32() != scale {
                return Err(affine(scales, element, scale, -scale));
            }
            found.extend(std::iter::repeat_n(rounded, group / block));
        }
        Ok(Self { words, scales: found })
    }

    /// Passes the bytes of the tensor to `sink`, in order: a scale, then codes as they are.
    pub(crate) fn stream(
        &self,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let codes = self.words.bytes.len() / self.scales.len().max(1);
        let mut out = Vec::with_capacity(PIECE + codes + 2);
        for (scale, codes) in self.scales.iter().zip(self.words.bytes.chunks_exact(codes.max(1))) {
            out.extend(scale.to_le_bytes());
            out.extend(codes);
            if out.len() >= PIECE {
                sink(&out)?;
                out.clear();
            }
        }
        sink(&out)
    }
}

/// Checks that the bias of every group of MLX is the negative of its scale.
pub(crate) fn check_biases(scales: &View<'_>, biases: &View<'_>) -> Result<(), Error> {
    let pairs = scales.to_f32().into_iter().zip(biases.to_f32());
    match pairs.enumerate().find(|(_, (scale, bias))| *bias != -scale) {
        None => Ok(()),
        Some((element, (scale, bias))) => Err(affine(scales, element, scale, bias)),
    }
}

fn affine(scales: &View<'_>, element: usize, scale: f32, bias: f32) -> Error {
    let (file, tensor) = (scales.file.to_owned(), scales.name.clone());
    Error::Affine { file, tensor, element, scale, bias }
}

#[cfg(test)]
mod tests;
