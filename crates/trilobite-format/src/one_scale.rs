//! The scale of TQ1_0 and TQ2_0 tensors.

use crate::TensorType;

impl TensorType {
    /// The scale, an F16, that all blocks of a TQ1_0 or TQ2_0 tensor share. Such a tensor is a
    /// ternary matrix; one whose blocks have different scales is a dense matrix, rounded block by
    /// block.
    ///
    /// Blocks of zeros are ignored; the scale is 0 if there is no other block. `None` if the scales
    /// differ, and for every other type.
    pub fn one_scale(self, bytes: &[u8]) -> Option<[u8; 2]> {
        match self {
            TensorType::Tq1_0 => one_scale_of::<54>(bytes, |at| if at < 48 { 128 } else { 127 }),
            TensorType::Tq2_0 => one_scale_of::<66>(bytes, |_| 0b01_01_01_01),
            _ => None,
        }
    }
}

/// The scale that all blocks of `N` bytes share. `zero` gives each code byte of a block of zeros.
fn one_scale_of<const N: usize>(bytes: &[u8], zero: impl Fn(usize) -> u8) -> Option<[u8; 2]> {
    let blocks = bytes.as_chunks::<N>().0.iter().filter_map(|block| block.split_last_chunk::<2>());
    let is_zero = |codes: &[u8]| codes.iter().enumerate().all(|(at, byte)| *byte == zero(at));
    let Some((_, first)) = blocks.clone().find(|(codes, _)| !is_zero(codes)) else {
        return Some([0; 2]);
    };
    let agree = |(codes, scale): (&[u8], &[u8; 2])| scale == first || is_zero(codes);
    blocks.clone().all(agree).then_some(*first)
}
