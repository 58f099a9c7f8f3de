//! The operations of an instruction set on planes of 64 bytes.

use super::codes::{LANES, PLANE_LEN, PLANES};
use crate::dense::blocks::simd::Integers;
use crate::dense::types::DenseType;
#[cfg(target_arch = "x86_64")]
use crate::simd::avx2::Avx2;

/// The places of 64 trits, four groups of 16. The trits of a group are in 16 different bytes.
pub(crate) struct Places {
    /// The byte that holds each trit.
    pub(super) bytes: [[u8; 16]; 4],
    /// The power of 3 that moves each trit to the front of its byte.
    pub(super) powers: [[u8; 16]; 4],
}

/// The operations of an instruction set on planes. All implementations give the same results. Lane
/// `i` of a sum or of sixteen floats belongs to the bytes `4 i` to `4 i + 3` of the planes.
pub(crate) trait BytePlanes: Integers {
    /// Sixty-four bytes.
    type Plane: Copy;

    /// Number of tokens that are multiplied together: the fastest, up to 4.
    const TOKENS: usize = 2;

    /// The least number of tokens, up to 16, from which look-up multiplies weights of a type faster.
    #[inline(always)]
    fn least_look_up(_: DenseType) -> Option<usize> {
        None
    }

    /// The instruction set if its kernel multiplies codes of one bit and few tokens by look-up.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn look_up_bits(self) -> Option<Avx2<false>> {
        None
    }

    fn store_plane(self, x: Self::Plane, out: &mut [u8; PLANE_LEN]);
    /// Joins two halves.
    fn halves(self, x: [&[u8; 32]; 2]) -> Self::Plane;
    /// Joins four quarters.
    fn quarters(self, x: [&[u8; 16]; 4]) -> Self::Plane;
    /// The lower half of the first byte, its upper half, the lower half of the second byte, and so
    /// on, in the lower halves of bytes. The upper halves are not specified.
    fn nibbles_to_bytes(self, x: [&[u8; 16]; 2]) -> Self::Plane;
    /// A trit, plus 1, of each place. A byte holds five in base 3, as a fraction of 256.
    fn trits(self, x: [&[u8; 16]; 4], places: &Places) -> Self::Plane;
    /// Plane `p` has the bits `2 p` and `2 p + 1` of the bytes.
    fn pairs_of_bits(self, x: Self::Plane) -> [Self::Plane; PLANES];
    /// Plane `p` has twice the bit `p` of the bytes.
    fn doubled_bits(self, x: Self::Plane) -> [Self::Plane; PLANES];
    /// `c` plus each lane's sum of products. The codes `w` are at most 3.
    fn dot_planes(
        self,
        w: &[Self::Plane; PLANES],
        x: &[[i8; PLANE_LEN]; PLANES],
        c: Self::Sums,
    ) -> Self::Sums;
    fn load_sums(self, x: &[i32; LANES]) -> Self::Sums;
    fn store_sums(self, x: Self::Sums, out: &mut [i32; LANES]);
    /// The four bytes of each row as an integer.
    fn whole(self, x: Self::Rows) -> Self::Sums;
    fn sub_sums(self, a: Self::Sums, b: Self::Sums) -> Self::Sums;
    /// `256 high + low`
    fn join(self, high: Self::Sums, low: Self::Sums) -> Self::Sums;
    /// Converts four f16, each for four lanes.
    fn steps(self, x: [u16; 4]) -> Self::Half;
}
