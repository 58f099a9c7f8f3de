//! Finding invalid codes in blocks of trits.

/// The validity of each byte of TQ1_0 and PTQ1_0: 5 if it encodes five trits, 4 if it also encodes four, 0 if
/// it is invalid. A valid byte is `ceil(n * 256 / 243)` for a number `n` of five digits in base 3.
/// In a byte of four trits the last digit is 0.
const TRITS: [u8; 256] = {
    let mut trits = [0; 256];
    let mut n: usize = 0;
    while n < 243 {
        trits[(n * 256).div_ceil(243)] = if n.is_multiple_of(3) { 4 } else { 5 };
        n += 1;
    }
    trits
};

/// Index of the first weight with an invalid code in blocks of TQ1_0.
pub(super) fn tq1_0(w: &[u8]) -> Option<usize> {
    first(w, 256, tq1_0_block)
}

/// Index of the first weight with an invalid code in blocks of TQ2_0.
pub(super) fn tq2_0(w: &[u8]) -> Option<usize> {
    first(w, 256, tq2_0_block)
}

/// Index of the first weight with an invalid code in blocks of PTQ1_0.
pub(super) fn ptq1_0(w: &[u8]) -> Option<usize> {
    first(w, 128, ptq1_0_block)
}

/// Index of the first element that `find` finds in any block of `weights` elements.
fn first<const N: usize>(
    w: &[u8],
    weights: usize,
    find: impl Fn(&[u8; N]) -> Option<usize>,
) -> Option<usize> {
    let mut blocks = w.as_chunks().0.iter().enumerate();
    blocks.find_map(|(i, block)| Some(i * weights + find(block)?))
}

/// Index of the first element of a byte that does not encode the required trits.
fn tq1_0_block(block: &[u8; 54]) -> Option<usize> {
    let at = block[..48].iter().position(|byte| TRITS[usize::from(*byte)] == 0);
    let of_five = at.map(|at| if at < 32 { at } else { 160 + at - 32 });
    let of_four = || block[48..52].iter().position(|byte| TRITS[usize::from(*byte)] != 4);
    of_five.or_else(|| of_four().map(|at| 240 + at))
}

/// Index of the first element of a byte that does not encode the required trits.
fn ptq1_0_block(block: &[u8; 28]) -> Option<usize> {
    let at = block[..24].iter().position(|byte| TRITS[usize::from(*byte)] == 0);
    let of_five = at.map(|at| if at < 16 { at } else { 80 + at - 16 });
    let of_four = || block[24..26].iter().position(|byte| TRITS[usize::from(*byte)] != 4);
    of_five.or_else(|| of_four().map(|at| 120 + at))
}

/// The first element whose code is 3.
fn tq2_0_block(block: &[u8; 66]) -> Option<usize> {
    let codes = &block[..64];
    let invalid = |byte: u8| byte & byte >> 1 & 0b01_01_01_01;
    if codes.iter().fold(0, |found, byte| found | invalid(*byte)) == 0 {
        return None;
    }
    let at = codes.iter().position(|byte| invalid(*byte) != 0)?;
    let plane = (0..4).find(|plane| codes[at] >> (2 * plane) & 3 == 3)?;
    Some(at / 32 * 128 + plane * 32 + at % 32)
}
