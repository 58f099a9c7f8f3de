//! Random tensor data, generated in parallel. The same seed gives the same bytes on every machine.
//!
//! Every value is one of 65,536 in a table, selected by 16 random bits. A tensor is divided into
//! pieces of fixed size, and each piece has its own stream of the generator.

use std::io::{Result, Write};

use half::{bf16, f16};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

use super::tensors::{Dtype, Fill, Tensor, ZEROS};

/// Number of values in a piece.
const PIECE: usize = 1 << 18;
/// Number of pieces in memory at a time.
const BATCH: usize = 32;
/// Number of values in a table.
const TABLE: usize = 1 << 16;

/// Writes the data of a tensor. `index` is its index in the checkpoint.
pub(crate) fn write(out: &mut impl Write, tensor: &Tensor, seed: u64, index: u64) -> Result<()> {
    let width = tensor.dtype.bytes();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(index << 32);
    let table = table(tensor.fill, tensor.dtype, &mut rng);

    let count: usize = tensor.shape.iter().product();
    let mut buffer = vec![0; width * count.min(PIECE * BATCH)];
    for first in (0..count).step_by(PIECE * BATCH) {
        let batch = &mut buffer[..width * (count - first).min(PIECE * BATCH)];
        batch.par_chunks_mut(width * PIECE).enumerate().for_each(|(piece, bytes)| {
            let mut rng = rng.clone();
            rng.set_stream((index << 32) + 1 + (first / PIECE + piece) as u64);
            fill(bytes, &table, width, &mut rng);
        });
        out.write_all(batch)?;
    }
    Ok(())
}

/// Fills `bytes` with values of `width` bytes drawn from the table.
fn fill(bytes: &mut [u8], table: &[u8], width: usize, rng: &mut ChaCha8Rng) {
    let mut draws = [0; 4096];
    for values in bytes.chunks_mut(draws.len() / 2 * width) {
        rng.fill_bytes(&mut draws);
        for (value, draw) in values.chunks_mut(width).zip(draws.chunks_exact(2)) {
            let entry = usize::from(u16::from_le_bytes([draw[0], draw[1]])) * width;
            value.copy_from_slice(&table[entry..entry + width]);
        }
    }
}

/// The table of the 65,536 possible values of a tensor's elements, as bytes.
fn table(fill: Fill, dtype: Dtype, rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut uniform = || rng.next_u32() as f32 / (1u64 << 32) as f32;
    let values: Vec<f32> = match fill {
        Fill::TernaryCodes => return (0..TABLE).map(four_codes).collect(),
        Fill::Trits(scale) => {
            (0..TABLE).map(|bits| scale * (f32::from(four_codes(bits) & 3) - 1.0)).collect()
        }
        // The sum of twelve uniform numbers has variance 1 and needs no transcendental function,
        // which would differ between systems.
        Fill::Normal(std) => {
            (0..TABLE).map(|_| std * ((0..12).map(|_| uniform()).sum::<f32>() - 6.0)).collect()
        }
        Fill::NearOne => (0..TABLE).map(|i| 0.75 + 0.5 * i as f32 / TABLE as f32).collect(),
        Fill::NearZero => (0..TABLE).map(|i| 0.5 * i as f32 / TABLE as f32 - 0.25).collect(),
        Fill::Around(value) => vec![value * (0.8 + 0.4 * uniform()); TABLE],
    };
    match dtype {
        Dtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Dtype::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
    }
}

/// Four 2-bit codes, each determined by four of the 16 random bits.
fn four_codes(bits: usize) -> u8 {
    const ZERO: usize = (ZEROS * 16.0) as usize;
    const MINUS: usize = (16 - ZERO) / 2;
    (0..4).fold(0, |byte, i| {
        let code = match (bits >> (4 * i)) & 15 {
            n if n < MINUS => 0,
            n if n < MINUS + ZERO => 1,
            _ => 2,
        };
        byte | code << (2 * i)
    })
}
