//! Bindings of `c/portable.c`, for any processor.

use crate::i2_s::BLOCK_BYTES;

unsafe extern "C" {
    fn trilobite_c_i2_s(
        packed: *const [u8; BLOCK_BYTES],
        row_bytes: usize,
        rows: usize,
        vectors: usize,
        x: *const Arranged,
        tokens: usize,
        constants: *const i32,
        out: *mut i32,
        stride: usize,
    );
    fn trilobite_c_i2_s_lookup(
        x: *const Activations,
        bytes: *const [u8; GROUP],
        rows: usize,
        tables: *mut Tables,
        low: *mut Lanes,
        high: *mut Lanes,
        carry: i32,
    );
    fn trilobite_c_quantize(x: *const f32, n: usize, codes: *mut i8, sum: *mut i32) -> f32;
    fn trilobite_c_multiply_add(a: *const f32, b: *const f32, c: *mut f32, lanes: usize);
    fn trilobite_c_widen(from: *const [u16; 32], to: *mut [f32; 32]);
}

/// Number of vectors of packed bytes in a block.
const VECTORS: usize = 2;
/// Maximum number of tokens of [`i2_s`].
pub(crate) const TOKENS: usize = 2;
/// Number of packed bytes whose tables are in use at a time.
pub(crate) const GROUP: usize = 8;
/// Number of tokens in a vector.
pub(crate) const LANES: usize = 8;

/// The multipliers of the words of each vector of a block: eight words of eight codes, lowest codes
/// first.
#[derive(Clone, Copy, Default)]
#[repr(C, align(16))]
pub(crate) struct Arranged(pub(crate) [[[i16; 8]; 8]; VECTORS]);

/// One number for each of eight tokens.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(16))]
pub(crate) struct Lanes(pub(crate) [i16; LANES]);

/// The four activations of each byte of a group, in the order of its codes, highest first.
pub(crate) type Activations = [[Lanes; 4]; GROUP];

/// For each byte of a group, the sum of activations for each value of the byte.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Tables([[Lanes; 256]; GROUP]);

impl Default for Tables {
    fn default() -> Tables {
        Tables([[Lanes::default(); 256]; GROUP])
    }
}

/// Adds to `out[t * stride + r]` each token's constant and the sums of codes times activations over
/// the first blocks of `rows` rows. Rows start `row_blocks` blocks apart. `x` is
/// `[tokens][blocks]`.
pub(crate) fn i2_s(
    packed: &[[u8; BLOCK_BYTES]],
    row_blocks: usize,
    rows: usize,
    x: &[Arranged],
    constants: &[i32],
    out: &mut [i32],
    stride: usize,
) {
    let tokens = constants.len();
    assert!((1..=TOKENS).contains(&tokens) && x.len().is_multiple_of(tokens), "{tokens} tokens");
    let blocks = x.len() / tokens;
    assert!(rows > 0 && (rows - 1) * row_blocks + blocks <= packed.len(), "{rows} rows");
    assert!(rows <= stride && (tokens - 1) * stride + rows <= out.len(), "outputs");
    // SAFETY: the function reads packed blocks and reads and writes outputs up to the indices that are
    // asserted, and reads `tokens * blocks` blocks of activations, which are as aligned as it needs,
    // and `tokens` constants.
    unsafe {
        trilobite_c_i2_s(
            packed.as_ptr(),
            row_blocks * BLOCK_BYTES,
            rows,
            blocks * VECTORS,
            x.as_ptr(),
            tokens,
            constants.as_ptr(),
            out.as_mut_ptr(),
            stride,
        );
    }
}

/// Adds the products of a group of bytes of each row with eight tokens to `256 * high + low`. With
/// `carry`, moves all but the lowest byte of `low` to `high`.
pub(crate) fn i2_s_lookup(
    x: &Activations,
    bytes: &[[u8; GROUP]],
    tables: &mut Tables,
    low: &mut [Lanes],
    high: &mut [Lanes],
    carry: bool,
) {
    let rows = bytes.len();
    assert!(low.len() >= rows && high.len() >= rows, "sums");
    // SAFETY: the function reads `x` and `rows` groups of bytes, reads and writes the tables, any byte
    // pointing into its own, and `rows` elements of the sums. Types give the alignment that it needs.
    unsafe {
        trilobite_c_i2_s_lookup(
            x,
            bytes.as_ptr(),
            rows,
            tables,
            low.as_mut_ptr(),
            high.as_mut_ptr(),
            carry.into(),
        );
    }
}

/// See [`Kernels::quantize_row`](crate::Kernels::quantize_row).
pub(crate) fn quantize_row(x: &[f32], codes: &mut [i8]) -> (f32, i32) {
    assert_eq!(x.len(), codes.len(), "codes");
    let mut sum = 0;
    // SAFETY: the function reads as many floats as it writes codes, and writes the sum.
    let scale = unsafe { trilobite_c_quantize(x.as_ptr(), x.len(), codes.as_mut_ptr(), &mut sum) };
    (scale, sum)
}

/// `c += a * b` in each lane, rounded once.
#[inline(always)]
pub fn multiply_add(a: &[f32], b: &[f32], c: &mut [f32]) {
    let lanes = c.len();
    assert!(lanes <= 32 && lanes.is_multiple_of(8), "{lanes} lanes");
    assert!(a.len() == lanes && b.len() == lanes, "factors");
    // SAFETY: the function reads as many floats as it reads and writes of `c`, at most 32.
    unsafe { trilobite_c_multiply_add(a.as_ptr(), b.as_ptr(), c.as_mut_ptr(), lanes) }
}

/// Converts 32 half-precision numbers to single precision.
#[inline(always)]
pub(crate) fn widen(from: &[u16; 32]) -> [f32; 32] {
    let mut to = [0.0; 32];
    // SAFETY: the function reads and writes 32 numbers.
    unsafe { trilobite_c_widen(from, &mut to) }
    to
}
