//! Rows whose weights are `-d`, 0, `d` and `2 d`, with a number `d` for each block of columns, except
//! for a few outliers.

use half::f16;

use crate::DenseType;

/// The weights of a row that the blocks do not hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Outliers {
    /// Column and value of each.
    pub found: Vec<(u32, f32)>,
    /// Whether all weights are plus or minus the scale of their block.
    pub only_signs: bool,
}

/// Finds the outliers of a row in blocks of `block` weights. `None` if a weight is not finite, or if
/// more than a quarter of the weights are outliers.
///
/// # Panics
/// If `block` is 0.
pub fn outliers(row: &[f32], block: usize) -> Option<Outliers> {
    let mut outliers = Outliers { found: Vec::new(), only_signs: true };
    for (i, weights) in row.chunks_exact(block).enumerate() {
        let step = scale(weights)?;
        for (j, weight) in weights.iter().enumerate() {
            let code = code(*weight, step);
            outliers.only_signs &= matches!(code, Some(0 | 2)) && step > 0.0;
            if code.is_none() {
                outliers.found.push(((i * block + j) as u32, *weight));
            }
        }
    }
    (outliers.found.len() <= row.len() / 4).then_some(outliers)
}

/// The code of a weight in a block with this scale, if it has one.
fn code(weight: f32, scale: f32) -> Option<u8> {
    if weight == 0.0 {
        Some(1)
    } else if weight == scale {
        Some(2)
    } else if weight == -scale {
        Some(0)
    } else if weight == 2.0 * scale {
        Some(3)
    } else {
        None
    }
}

/// The scale of a block: the magnitude in it that F16 can hold and that leaves the fewest outliers,
/// the smallest of several. 0 for a block of zeros. `None` if a weight is not finite.
pub fn scale(block: &[f32]) -> Option<f32> {
    let outliers = |scale: f32| block.iter().filter(|w| code(**w, scale).is_none()).count();
    let holds = |scale: f32| f16::from_f32(scale).to_f32() == scale;
    let Some(first) = block.iter().find(|weight| **weight != 0.0).map(|weight| weight.abs()) else {
        return Some(0.0);
    };
    if holds(first) && outliers(first) == 0 {
        return Some(first);
    }
    if !block.iter().all(|weight| weight.is_finite()) {
        return None;
    }
    let mut magnitudes: Vec<u32> = block.iter().map(|weight| weight.abs().to_bits()).collect();
    magnitudes.sort_unstable();
    magnitudes.dedup();
    let candidates = magnitudes.into_iter().map(f32::from_bits).filter(|m| *m > 0.0 && holds(*m));
    Some(candidates.min_by_key(|scale| outliers(*scale)).unwrap_or(0.0))
}

/// Packs a row as Q1_0, Q2_0 or PQ2_0. Outliers become 0.
///
/// # Panics
/// If the type is another, or `out` does not have the bytes of the row.
pub fn pack(ty: DenseType, row: &[f32], out: &mut [u8]) {
    let bits = match ty {
        DenseType::Q1_0 => 1,
        DenseType::Q2_0 | DenseType::PQ2_0 => 2,
        _ => panic!("{ty:?} does not have a scale for each group"),
    };
    assert_eq!(Some(out.len()), ty.row_len(row.len()), "bytes of {} weights", row.len());
    let (weights, bytes) = ty.block();
    for (row, out) in row.chunks_exact(weights).zip(out.chunks_exact_mut(bytes)) {
        let scale = scale(row).unwrap_or(0.0);
        let (step, codes) = out.split_at_mut(2);
        step.copy_from_slice(&f16::from_f32(scale).to_le_bytes());
        codes.fill(0);
        for (i, weight) in row.iter().enumerate() {
            let code = code(*weight, scale).unwrap_or(1);
            match bits {
                1 => codes[i / 8] |= (code >> 1) << (i % 8),
                _ => codes[i / 4] |= code << (2 * (i % 4)),
            }
        }
    }
}
