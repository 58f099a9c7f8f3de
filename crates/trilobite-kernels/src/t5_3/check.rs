//! Looking at packed codes without unpacking them.

use super::{BLOCK_COLS, INDEX, PLANES, Plane, TILE, TRIPLE, planes};

/// Which bits of each plane are indices; the others are signs.
const INDICES: [u8; PLANES] = {
    let mut bits = [0; PLANES];
    let mut i = 0;
    while i < INDEX.len() {
        bits[INDEX[i].0] |= 15 << INDEX[i].1;
        i += 1;
    }
    bits
};

/// Row and column of the first weight, in the order of the bytes, whose index is 0 or 15.
pub(crate) fn find_unused(packed: &[u8], cols: usize) -> Option<(usize, usize)> {
    let width = planes(cols).max(1);
    let any = |planes: &[Plane]| {
        let mut found = [0; TILE];
        for (i, plane) in planes.iter().enumerate() {
            for (found, byte) in found.iter_mut().zip(plane) {
                *found |= unused(*byte) & INDICES[i % PLANES];
            }
        }
        found != [0; TILE]
    };
    let (tile, planes) =
        packed.as_chunks().0.chunks(width).enumerate().find(|(_, planes)| any(planes))?;
    let triples = planes.iter().enumerate().flat_map(|(i, plane)| {
        let of_plane = (0..INDEX.len()).filter(move |&t| INDEX[t].0 == i % PLANES);
        of_plane.map(move |t| (i / PLANES * BLOCK_COLS + t * TRIPLE, INDEX[t].1, plane))
    });
    for (col, shift, plane) in triples {
        if let Some(row) = plane.iter().position(|byte| unused(*byte) >> shift & 15 != 0) {
            return Some((tile * TILE + row, col));
        }
    }
    None
}

/// Bit 0 or bit 4 where the lower or the upper half of a byte is 0 or 15.
fn unused(byte: u8) -> u8 {
    let (lower, upper) = (byte & 15, byte >> 4);
    // The sum reaches 16 but for 0, and for 15 alone.
    let outside = |half: u8| (!(half + 15) | (half + 1)) >> 4 & 1;
    outside(lower) | outside(upper) << 4
}

/// Whether all trits are zeros, those of the padding included.
pub(crate) fn is_zero(packed: &[u8], cols: usize) -> bool {
    let mut tiles = packed.as_chunks::<TILE>().0.chunks(planes(cols).max(1));
    tiles.all(|planes| {
        planes.iter().enumerate().all(|(i, plane)| {
            let indices = INDICES[i % PLANES];
            plane.iter().all(|byte| byte & indices == 0x11 & indices)
        })
    })
}
