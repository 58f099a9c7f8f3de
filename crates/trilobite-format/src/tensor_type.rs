//! Tensor types: their numbers in the file and their sizes.

use std::fmt;

use crate::ternary::{BLOCK, BLOCK_BYTES, TAIL, TILE};

/// The suffix of the name of an [`I2T`](TensorType::I2T) tensor.
const TRANSPOSED: &str = "_t.weight";

/// How the elements of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TensorType {
    /// 32-bit IEEE 754, little-endian.
    F32,
    /// 16-bit IEEE 754, little-endian.
    F16,
    /// Blocks of 32, 4 bits: an F16 scale, then 16 bytes. As in every block type, a row is a whole
    /// number of blocks.
    Q4_0,
    /// Blocks of 32, 4 bits: an F16 scale and an F16 minimum, then 16 bytes.
    Q4_1,
    /// Blocks of 32, 5 bits: an F16 scale, 4 bytes of upper bits, then 16 bytes.
    Q5_0,
    /// Blocks of 32, 5 bits: an F16 scale and an F16 minimum, 4 bytes of upper bits, then 16 bytes.
    Q5_1,
    /// Blocks of 32: an F16 scale, then 32 signed bytes.
    Q8_0,
    /// Blocks of 256, 4 bits, with a scale and a minimum of 6 bits for every 32: 144 bytes.
    Q4K,
    /// Blocks of 256, 5 bits, with a scale and a minimum of 6 bits for every 32: 176 bytes.
    Q5K,
    /// Blocks of 256, 6 bits, with a scale of 8 bits for every 16: 210 bytes.
    Q6K,
    /// Signed bytes.
    I8,
    /// The upper 16 bits of an F32, little-endian.
    Bf16,
    /// Ternary, llama.cpp: blocks of 256, five weights a byte (48 + 4 bytes), then an F16 scale.
    Tq1_0,
    /// Ternary, llama.cpp: blocks of 256, four weights a byte (64 bytes), then an F16 scale.
    Tq2_0,
    /// Blocks of 128, 1 bit: an F16 scale, then 16 bytes. A weight is the scale or its negative.
    Q1_0,
    /// Blocks of 64, 2 bits: an F16 scale, then 16 bytes. A code of 3 is twice the scale.
    Q2_0,
    /// Blocks of 128, 2 bits, PrismML: an F16 scale, then 32 bytes. A code of 3 is twice the scale.
    /// Older files store the type number of Q2_0; the positions of the tensors tell the two apart.
    Pq2_0,
    /// Blocks of 128 trits, PrismML: five a byte (24 bytes), four a byte (2 bytes), then an F16
    /// scale.
    Ptq1_0,
    /// Ternary, bitnet.cpp on x86: see [`crate::ternary`].
    I2S,
    /// Ternary, specific to Trilobite: I2_S with every row padded to whole blocks.
    I2R,
    /// A transposed matrix as I2_R: the rows are the columns of the matrix. The file stores the
    /// type number of I2_R; the name of the tensor tells the two apart, see
    /// [`transposed`](TensorType::transposed).
    I2T,
    /// Ternary, specific to Trilobite: three weights in five bits, 32 rows side by side.
    T5_3,
}

impl TensorType {
    /// Every type, in the order of the type numbers.
    pub const ALL: [TensorType; 22] = [
        TensorType::F32,
        TensorType::F16,
        TensorType::Q4_0,
        TensorType::Q4_1,
        TensorType::Q5_0,
        TensorType::Q5_1,
        TensorType::Q8_0,
        TensorType::Q4K,
        TensorType::Q5K,
        TensorType::Q6K,
        TensorType::I8,
        TensorType::Bf16,
        TensorType::Tq1_0,
        TensorType::Tq2_0,
        TensorType::I2S,
        TensorType::Q1_0,
        TensorType::Q2_0,
        TensorType::Pq2_0,
        TensorType::Ptq1_0,
        TensorType::I2R,
        TensorType::I2T,
        TensorType::T5_3,
    ];

    /// The type number in the file.
    pub const fn id(self) -> u32 {
        match self {
            TensorType::F32 => 0,
            TensorType::F16 => 1,
            TensorType::Q4_0 => 2,
            TensorType::Q4_1 => 3,
            TensorType::Q5_0 => 6,
            TensorType::Q5_1 => 7,
            TensorType::Q8_0 => 8,
            TensorType::Q4K => 12,
            TensorType::Q5K => 13,
            TensorType::Q6K => 14,
            TensorType::I8 => 24,
            TensorType::Bf16 => 30,
            TensorType::Tq1_0 => 34,
            TensorType::Tq2_0 => 35,
            TensorType::I2S => 36,
            TensorType::Q1_0 => 41,
            TensorType::Q2_0 => 42,
            TensorType::Pq2_0 => 142,
            TensorType::Ptq1_0 => 143,
            TensorType::I2R | TensorType::I2T => 7401,
            TensorType::T5_3 => 7402,
        }
    }

    /// The type of the tensor named `tensor` whose type number is `id`. `None` for an unknown
    /// number.
    pub fn of(id: u32, tensor: &str) -> Option<TensorType> {
        match TensorType::ALL.into_iter().find(|ty| ty.id() == id) {
            Some(TensorType::I2R) if tensor.ends_with(TRANSPOSED) => Some(TensorType::I2T),
            found => found,
        }
    }

    /// The name of the tensor that stores `matrix` transposed: `blk.0.ffn_down_t.weight` for
    /// `blk.0.ffn_down.weight`.
    pub fn transposed(matrix: &str) -> String {
        format!("{}{TRANSPOSED}", matrix.strip_suffix(".weight").unwrap_or(matrix))
    }

    /// ggml's name of the type, in upper case.
    pub const fn name(self) -> &'static str {
        match self {
            TensorType::F32 => "F32",
            TensorType::F16 => "F16",
            TensorType::Q4_0 => "Q4_0",
            TensorType::Q4_1 => "Q4_1",
            TensorType::Q5_0 => "Q5_0",
            TensorType::Q5_1 => "Q5_1",
            TensorType::Q8_0 => "Q8_0",
            TensorType::Q4K => "Q4_K",
            TensorType::Q5K => "Q5_K",
            TensorType::Q6K => "Q6_K",
            TensorType::I8 => "I8",
            TensorType::Bf16 => "BF16",
            TensorType::Tq1_0 => "TQ1_0",
            TensorType::Tq2_0 => "TQ2_0",
            TensorType::I2S => "I2_S",
            TensorType::Q1_0 => "Q1_0",
            TensorType::Q2_0 => "Q2_0",
            TensorType::Pq2_0 => "PQ2_0",
            TensorType::Ptq1_0 => "PTQ1_0",
            TensorType::I2R | TensorType::I2T => "I2_R",
            TensorType::T5_3 => "T5_3",
        }
    }

    /// Whether the weights are -1, 0 and 1 times a scale. Types whose codes also have other values
    /// are not.
    pub const fn is_ternary(self) -> bool {
        match self {
            TensorType::F32 | TensorType::F16 | TensorType::Bf16 => false,
            TensorType::Q4_0 | TensorType::Q4_1 | TensorType::Q5_0 | TensorType::Q5_1 => false,
            TensorType::Q8_0 | TensorType::I8 => false,
            TensorType::Q4K | TensorType::Q5K | TensorType::Q6K => false,
            TensorType::Q1_0 | TensorType::Q2_0 | TensorType::Pq2_0 | TensorType::Ptq1_0 => false,
            TensorType::Tq1_0 | TensorType::Tq2_0 => true,
            TensorType::I2S | TensorType::I2R | TensorType::I2T | TensorType::T5_3 => true,
        }
    }

    /// The size in bytes of a tensor of this type and `shape`, outermost dimension first.
    ///
    /// `None` if the type cannot hold the shape: there is no dimension, a dimension is 0, the size
    /// exceeds `u64`, or the row length (for I2_S: the number of elements) is not a multiple of the
    /// block.
    pub fn byte_len(self, shape: &[u64]) -> Option<u64> {
        let cols = *shape.last()?;
        if shape.contains(&0) {
            return None;
        }
        let count = shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n))?;
        let blocks = |size: u64, bytes: u64| {
            (cols.is_multiple_of(size)).then(|| (count / size).checked_mul(bytes)).flatten()
        };
        match self {
            TensorType::F32 => count.checked_mul(4),
            TensorType::F16 | TensorType::Bf16 => count.checked_mul(2),
            TensorType::Q4_0 => blocks(32, 18),
            TensorType::Q4_1 => blocks(32, 20),
            TensorType::Q5_0 => blocks(32, 22),
            TensorType::Q5_1 => blocks(32, 24),
            TensorType::Q8_0 => blocks(32, 34),
            TensorType::Q4K => blocks(256, 144),
            TensorType::Q5K => blocks(256, 176),
            TensorType::Q6K => blocks(256, 210),
            TensorType::I8 => Some(count),
            TensorType::Tq1_0 => blocks(256, 54),
            TensorType::Tq2_0 => blocks(256, 66),
            TensorType::Q1_0 => blocks(128, 18),
            TensorType::Q2_0 => blocks(64, 18),
            TensorType::Pq2_0 => blocks(128, 34),
            TensorType::Ptq1_0 => blocks(128, 28),
            TensorType::I2S => {
                let whole = count.is_multiple_of(BLOCK as u64);
                whole.then(|| (count / 4).checked_add(TAIL as u64)).flatten()
            }
            TensorType::I2R | TensorType::I2T => (count / cols)
                .checked_mul(cols.div_ceil(BLOCK as u64))?
                .checked_mul(BLOCK_BYTES as u64)?
                .checked_add(TAIL as u64),
            TensorType::T5_3 => {
                // A row takes five bits a triple, rounded up to whole bytes. Rows are padded to
                // whole tiles.
                let triples = cols.div_ceil(3);
                let row = triples / 8 * 5 + (triples % 8 * 5).div_ceil(8);
                (count / cols)
                    .checked_next_multiple_of(TILE as u64)?
                    .checked_mul(row)?
                    .checked_add(TAIL as u64)
            }
        }
    }

    /// The name of a type that other programs write and this crate does not read, for error
    /// messages.
    pub(crate) fn foreign_name(id: u32) -> Option<&'static str> {
        Some(match id {
            9 => "Q8_1",
            10 => "Q2_K",
            11 => "Q3_K",
            15 => "Q8_K",
            16 => "IQ2_XXS",
            17 => "IQ2_XS",
            18 => "IQ3_XXS",
            19 => "IQ1_S",
            20 => "IQ4_NL",
            21 => "IQ3_S",
            22 => "IQ2_S",
            23 => "IQ4_XS",
            25 => "I16",
            26 => "I32",
            27 => "I64",
            28 => "F64",
            29 => "IQ1_M",
            38 => "TL1, a table layout for one shape and machine",
            39 => "TL2 of bitnet.cpp or MXFP4 of llama.cpp",
            // Q2_0 and PQ2_0 share the number.
            42 => "STQ1_0",
            134 => "IQ1_BN of ik_llama.cpp",
            135 => "IQ2_BN of ik_llama.cpp",
            335 => "IQ2_BN_R4 of ik_llama.cpp",
            _ => return None,
        })
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
