//! Checks of packed codes without unpacking.

use super::{BLOCK_COLS, INDEX, PLANES, Plane, TILE, TRIPLE, planes};

/// The bits of each plane that are indices; the others are signs.
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
pub(crate) fn find_invalid(packed: &[u8], cols: usize) -> Option<(usize, usize)> {
    let width = planes(cols).max(1);
    let any = |planes: &[Plane]| {
        let mut found = [0; TILE / 8];
        for (i, plane) in planes.iter().enumerate() {
            let indices = u64::from_ne_bytes([INDICES[i % PLANES]; 8]);
            for (found, bytes) in found.iter_mut().zip(plane.as_chunks().0) {
                *found |= invalid(u64::from_ne_bytes(*bytes)) & indices;
            }
        }
        found != [0; _]
    };
    let (tile, planes) =
        packed.as_chunks().0.chunks(width).enumerate().find(|(_, planes)| any(planes))?;
    let triples = planes.iter().enumerate().flat_map(|(i, plane)| {
        let of_plane = (0..INDEX.len()).filter(move |&t| INDEX[t].0 == i % PLANES);
        of_plane.map(move |t| (i / PLANES * BLOCK_COLS + t * TRIPLE, INDEX[t].1, plane))
    });
    for (col, shift, plane) in triples {
        let at = plane.iter().position(|byte| invalid(u64::from(*byte)) >> shift & 1 == 1);
        if let Some(row) = at {
            return Some((tile * TILE + row, col));
        }
    }
    None
}

/// The lowest bit of every half byte that is 0 or 15, that is, whose bits are all equal.
fn invalid(bytes: u64) -> u64 {
    let differ = bytes ^ bytes >> 1;
    !(differ | differ >> 1 | differ >> 2) & 0x1111_1111_1111_1111
}

/// Whether all trits, including the padding, are zero.
pub(crate) fn is_zero(packed: &[u8], cols: usize) -> bool {
    let mut tiles = packed.as_chunks::<TILE>().0.chunks(planes(cols).max(1));
    tiles.all(|planes| {
        planes.iter().enumerate().all(|(i, plane)| {
            let indices = INDICES[i % PLANES];
            plane.iter().all(|byte| byte & indices == 0x11 & indices)
        })
    })
}
