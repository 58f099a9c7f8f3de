//! Trits of stored weights.

/// The sign of each weight whose magnitude times `factor` exceeds one half, and 0 for the others. This
/// equals rounding half to even and clamping to -1..1.
pub fn round(weights: &[f32], factor: f32, trits: &mut [i8]) {
    for (trit, w) in trits.iter_mut().zip(weights) {
        *trit = i8::from(w * factor > 0.5) - i8::from(w * factor < -0.5);
    }
}

/// The sign of each weight.
pub fn signs(weights: &[f32], trits: &mut [i8]) {
    for (trit, w) in trits.iter_mut().zip(weights) {
        *trit = sign(*w);
    }
}

/// Weights of -1, 0 and 1 as trits, and others as 2.
pub fn exact(weights: &[f32], trits: &mut [i8]) {
    for (trit, w) in trits.iter_mut().zip(weights) {
        *trit = if f32::from(sign(*w)) == *w { sign(*w) } else { 2 };
    }
}

fn sign(w: f32) -> i8 {
    i8::from(w > 0.0) - i8::from(w < 0.0)
}

/// The trits in bits `2 * plane` and `2 * plane + 1` of each byte, as the code trit + 1. An invalid
/// code gives 2.
pub fn of_plane(bytes: &[u8], plane: usize, trits: &mut [i8]) {
    let shift = 2 * plane % 8;
    for (trit, byte) in trits.iter_mut().zip(bytes) {
        *trit = (byte >> shift & 3) as i8 - 1;
    }
}

/// Index of the first trit above 1. The search runs only if a reduction over all trits finds one.
pub fn first_invalid(trits: &[i8]) -> Option<usize> {
    match trits.iter().fold(false, |any, &t| any | (t > 1)) {
        true => trits.iter().position(|&t| t > 1),
        false => None,
    }
}

/// Appends a column of row-major trits in rows of `cols` to `column`.
pub fn push_column(trits: &[i8], cols: usize, col: usize, column: &mut Vec<i8>) {
    column.extend(trits.iter().skip(col).step_by(cols));
}

/// Writes trits to a column of row-major trits in rows of `cols`, as far as there are rows.
pub fn set_column(column: &[i8], cols: usize, col: usize, trits: &mut [i8]) {
    for (out, trit) in trits.iter_mut().skip(col).step_by(cols).zip(column) {
        *out = *trit;
    }
}

/// Decodes blocks of TQ1_0 without their scales.
///
/// A block is base 3, five trits a byte (four in the last four bytes), the first trit most
/// significant. A byte is `ceil(value * 256 / 243)`. The bytes form runs of 32, 16 and 4. Each run
/// stores all its first trits, then all its second ones, and so on.
pub fn tq1_0(blocks: &[[u8; 54]], trits: &mut [i8]) {
    let runs = [(0..32, 5), (32..48, 5), (48..52, 4)];
    for (block, out) in blocks.iter().zip(trits.as_chunks_mut::<256>().0) {
        let mut out = out.iter_mut();
        for (run, trits) in runs.clone() {
            let bytes = &block[run];
            let mut power = 1u8;
            for _ in 0..trits {
                for (byte, trit) in bytes.iter().zip(&mut out) {
                    let digit = (u16::from(byte.wrapping_mul(power)) * 3) >> 8;
                    *trit = digit as i8 - 1;
                }
                power = power.wrapping_mul(3);
            }
        }
    }
}

/// Decodes blocks of TQ2_0 without their scales: two halves of 32 bytes, each with four planes of 32
/// trits, lowest bits first. An invalid code gives 2.
pub fn tq2_0(blocks: &[[u8; 66]], trits: &mut [i8]) {
    for (block, out) in blocks.iter().zip(trits.as_chunks_mut::<256>().0) {
        for (half, out) in block.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<128>().0) {
            for (plane, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                of_plane(half, plane, out);
            }
        }
    }
}
