//! Writing cells of the key and value cache.

use super::Kernels;
use crate::kv::{BLOCK, CellsMut, rank};

impl Kernels {
    /// Stores the key of a position of one head.
    ///
    /// Q8 quantises 32 elements at a time, as [`quantize_row`](Kernels::quantize_row) does.
    pub fn store_key(&self, key: &[f32], cells: &mut CellsMut<'_>, position: usize) {
        let panels = key.len().div_ceil(BLOCK);
        let (block, position) = (position / BLOCK * panels, position % BLOCK);
        for (panel, key) in key.chunks(BLOCK).enumerate() {
            let place = |l| (block * BLOCK + rank(l) * panels + panel) * BLOCK + position;
            self.store(key, cells, (block + panel) * BLOCK + position, place);
        }
    }

    /// Stores the value of a position of one head: see [`store_key`](Kernels::store_key).
    pub fn store_value(&self, value: &[f32], cells: &mut CellsMut<'_>, position: usize) {
        let (block, position) = (position / BLOCK, position % BLOCK);
        let tile = block * value.len().div_ceil(BLOCK);
        for (tile, value) in (tile..).zip(value.chunks(BLOCK)) {
            let row = tile * BLOCK + position;
            self.store(value, cells, row, |l| row * BLOCK + l);
        }
    }

    /// Stores at most 32 elements at the places of a position, and their step.
    fn store(
        &self,
        x: &[f32],
        cells: &mut CellsMut<'_>,
        step: usize,
        place: impl Fn(usize) -> usize,
    ) {
        match cells {
            CellsMut::F32(cells) => spread(x, cells, place),
            CellsMut::F16(cells) => {
                let mut bits = [0; BLOCK];
                self.to_f16(x, &mut bits[..x.len()]);
                spread(&bits[..x.len()], cells, place);
            }
            CellsMut::Q8 { codes, steps } => {
                let mut row = [0; BLOCK];
                let (scale, _) = self.quantize_row(x, &mut row[..x.len()]);
                steps[step] = 1.0 / scale;
                spread(&row[..x.len()], codes, place);
            }
        }
    }
}

fn spread<T: Copy>(x: &[T], cells: &mut [T], place: impl Fn(usize) -> usize) {
    for (l, x) in x.iter().enumerate() {
        cells[place(l)] = *x;
    }
}
