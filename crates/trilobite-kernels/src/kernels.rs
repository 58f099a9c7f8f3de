//! The table of kernels, and the selection of the instruction set.

mod cells;
mod compiled;
mod faulty;
mod floats;
mod method;
mod self_test;
mod ternary;

pub use faulty::faulty;
pub use method::Method;
pub use self_test::SCALAR_FINGERPRINT;

use self::self_test::SelfTest;
use crate::dense::blocks::GROUPS;
use crate::dense::low_bit::LowBitBuffers;
use crate::dense::{
    BlockBuffers, FloatBuffer, NarrowGroup, SplitChunk, SplitCodes, SplitForm, WideGroup,
};
use crate::i2_s::transposed;
use crate::kv::{Block, Visible};
#[cfg(target_arch = "x86_64")]
use crate::lookup;
#[cfg(target_arch = "x86_64")]
use crate::processor::Processor;
use crate::workspace::ManyBuffers;
use crate::{DenseMatrix, Error, NarrowCodes, WideCodes, i2_s, scan, t5_3};
use std::cell::LazyCell;
use std::ops::Range;
use std::sync::OnceLock;

/// The environment variable that lowers the instruction set.
const ISA_VARIABLE: &str = "TRILOBITE_ISA";

/// An instruction set with kernels of its own, from lowest to highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Any processor.
    Scalar,
    /// Any processor, with kernels in C.
    C,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// [`Avx2`](Self::Avx2) and AVX-VNNI.
    AvxVnni,
    /// [`AvxVnni`](Self::AvxVnni) and AVX-512 F, BW and VNNI.
    Avx512Vnni,
    /// Any 64-bit ARM.
    Neon,
    /// 64-bit ARM with the dot product extension.
    DotProd,
    /// [`DotProd`](Self::DotProd) and int8 matrix multiplication, with kernels in C.
    I8mm,
}

impl Isa {
    /// Every instruction set, including those that this machine lacks.
    pub const ALL: [Isa; 8] = [
        Isa::Scalar,
        Isa::C,
        Isa::Avx2,
        Isa::AvxVnni,
        Isa::Avx512Vnni,
        Isa::Neon,
        Isa::DotProd,
        Isa::I8mm,
    ];

    /// The name that `TRILOBITE_ISA` accepts.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::C => "c",
            Isa::Avx2 => "avx2",
            Isa::AvxVnni => "avxvnni",
            Isa::Avx512Vnni => "avx512vnni",
            Isa::Neon => "neon",
            Isa::DotProd => "dotprod",
            Isa::I8mm => "i8mm",
        }
    }
}

/// The kernels for one instruction set. The results are the same bits on every instruction set.
///
/// Float sums have a fixed order: element `i` goes to lane `i % 32` by fused multiply-add, then the
/// lanes are added pairwise, 16 + 16, 8 + 8, and so on. Products of weights in blocks are computed
/// in integers as far as the factors of the blocks allow.
///
/// # Panics
/// Every method panics if the lengths of its slices contradict the stated shapes.
pub struct Kernels {
    /// The instruction set.
    pub isa: Isa,
    i2_s_gemm: unsafe fn(&i2_s::Product<'_>, &mut [i32]),
    i2_s_rows: unsafe fn(&i2_s::Product<'_, &[u32]>, &mut [i32]),
    /// The methods for many tokens, the fastest first.
    many: Vec<ManyTokens>,
    i2_t_add: transposed::Add,
    /// The repacking kernel of I2_T, with the number of tokens from which it is faster.
    i2_t_repack: (usize, transposed::RepackColumns),
    t5_3_gemm: unsafe fn(&t5_3::Product<'_>, &mut [i32]),
    /// The repacking kernel of T5_3, if there is one, with the number of tokens from which it is
    /// faster.
    t5_3_repack: Option<(usize, RepackTiles)>,
    quantize_row: unsafe fn(&[f32], &mut [i8]) -> (f32, i32),
    dense_gemm: unsafe fn(DenseMatrix<'_>, &[f32], &mut FloatBuffer, &mut [f32]),
    wide_codes: RoundRow<WideGroup>,
    block_gemm: unsafe fn(DenseMatrix<'_>, &WideCodes, &mut BlockBuffers, &mut [f32]),
    narrow_codes: RoundRow<NarrowGroup>,
    narrow_gemm: unsafe fn(DenseMatrix<'_>, &NarrowCodes, &mut BlockBuffers, &mut [f32]),
    split_codes: unsafe fn(&[f32], SplitForm, &mut [SplitChunk], &mut [f32]),
    low_bit_gemm: unsafe fn(DenseMatrix<'_>, &SplitCodes, &mut LowBitBuffers, &mut [f32]),
    dense_row: unsafe fn(DenseMatrix<'_>, &mut [f32]),
    dot: unsafe fn(&[f32], &[f32]) -> f32,
    rms_norm: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
    relu2_mul: unsafe fn(&mut [f32], &[f32]),
    silu_mul: unsafe fn(&mut [f32], &[f32]),
    gelu_mul: unsafe fn(&mut [f32], &[f32]),
    softmax: unsafe fn(&mut [f32]),
    rope_neox: unsafe fn(&mut [f32], &[f32], &[f32]),
    rope_adjacent: unsafe fn(&mut [f32], &[f32], &[f32]),
    to_f16: unsafe fn(&[f32], &mut [u16]),
    attend_scores: unsafe fn(&[f32], Block<'_>, Visible, f32, &mut [f32]),
    attend_values: unsafe fn(&[f32], Block<'_>, Range<usize>, Visible, &mut [f32]),
    scan: Scan,
    refine_scan: RefineScan,
    known: Known,
    enclose: Enclose,
}

/// The signature of [`scan::scalar::scan`].
type Scan = unsafe fn(
    &[[u8; scan::CODES]],
    &[&[[u8; scan::BITS]]],
    &[scan::Query],
    scan::Precision,
    &mut [i32],
);
/// The signature of [`scan::scalar::refine`].
type RefineScan =
    unsafe fn(&[[u8; scan::BITS]], usize, &[u32], &scan::Query, scan::Precision, &mut [i32]);
/// The signature of [`scan::known`].
type Known = unsafe fn(&scan::Query, &scan::Anchors, usize, &mut [f32]);
/// The signature of [`scan::enclose`].
type Enclose = unsafe fn(
    &scan::Query,
    scan::Precision,
    usize,
    (&[i32], &[f32]),
    (scan::RowBounds<'_>, usize),
    [&mut [f32]; 2],
);
/// The signature of [`dense::blocks::codes`](crate::dense::blocks::codes).
type RoundRow<G> = unsafe fn(&[f32], &mut [G], &mut [f32], &mut [[f32; GROUPS]]);
/// The signature of [`t5_3::avx2::repack`].
type RepackTiles = unsafe fn(&t5_3::Matrix<'_>, Range<usize>, &mut Vec<u8>) -> Range<usize>;
/// The kernels of a method for many tokens, for matrices that [allow](crate::product::MAX_COLS) it.
struct ManyTokens {
    method: Method,
    /// Minimum number of rows for which the preparation pays.
    min_rows: usize,
    /// Number of tokens that are multiplied together.
    lanes: usize,
    /// Minimum number of tokens that are multiplied together if there are fewer than `lanes` left.
    min_rest: usize,
    i2_s: Many<ManyI2S>,
    /// The kernels of other layouts. Without them, these are repacked.
    t5_3: Option<Many<ManyT53>>,
    i2_t: Option<Many<ManyI2T>>,
}

/// A kernel, with the number of tokens from which it is faster than the one for few.
#[derive(Clone, Copy)]
struct Many<F> {
    min_tokens: usize,
    gemm: F,
}

type ManyI2S = unsafe fn(&i2_s::Product<'_>, &mut ManyBuffers, &mut [i32]);
type ManyT53 = unsafe fn(&t5_3::Product<'_>, &mut ManyBuffers, &mut [i32]);
type ManyI2T = unsafe fn(&transposed::Product<'_>, &mut ManyBuffers, &mut [i32]);

/// Builds the table of the kernels in these modules of `i2_s`, `t5_3`, `compiled` and `scan`.
macro_rules! table {
    ($isa:expr, $i2_s:ident, $t5_3:ident, $float:ident, $scan:ident) => {
        Kernels {
            isa: $isa,
            i2_s_gemm: i2_s::$i2_s::gemm,
            i2_s_rows: i2_s::$i2_s::rows,
            many: Vec::new(),
            i2_t_add: transposed::scalar::add,
            i2_t_repack: (12, transposed::repack_portable),
            t5_3_gemm: t5_3::$t5_3::gemm,
            t5_3_repack: None,
            quantize_row: compiled::$float::quantize_row,
            dense_gemm: compiled::$float::dense_gemm,
            wide_codes: compiled::$float::wide_codes,
            block_gemm: compiled::$float::block_gemm,
            narrow_codes: compiled::$float::narrow_codes,
            narrow_gemm: compiled::$float::narrow_gemm,
            split_codes: compiled::$float::split_codes,
            low_bit_gemm: compiled::$float::low_bit_gemm,
            dense_row: compiled::$float::dense_row,
            dot: compiled::$float::dot,
            rms_norm: compiled::$float::rms_norm,
            relu2_mul: compiled::$float::relu2_mul,
            silu_mul: compiled::$float::silu_mul,
            gelu_mul: compiled::$float::gelu_mul,
            softmax: compiled::$float::softmax,
            rope_neox: compiled::$float::rope_neox,
            rope_adjacent: compiled::$float::rope_adjacent,
            to_f16: compiled::$float::to_f16,
            attend_scores: compiled::$float::attend_scores,
            attend_values: compiled::$float::attend_values,
            scan: scan::$scan::scan,
            refine_scan: scan::$scan::refine,
            known: compiled::$float::known,
            enclose: compiled::$float::enclose,
        }
    };
}

/// Calls a kernel of the table.
macro_rules! call {
    ($($kernel:ident).+ ($($arg:expr),*)) => {
        // SAFETY: the only requirement of a kernel is the instruction set it is compiled for.
        // `detected`, the only function that creates such a `Kernels`, has detected it.
        unsafe { ($($kernel).+)($($arg),*) }
    };
}
use call;

/// The tables of the machine's instruction sets that pass the comparison with the scalar one,
/// lowest first.
fn tables() -> &'static [Kernels] {
    static TABLES: OnceLock<Vec<Kernels>> = OnceLock::new();
    TABLES.get_or_init(|| std::iter::once(scalar()).chain(passing(detected())).collect())
}

/// The tables whose results equal those of the scalar one.
pub fn passing(mut tables: Vec<Kernels>) -> Vec<Kernels> {
    let self_test = SelfTest::new();
    // The scalar kernels are slow, and every program that opens a model waits for the self-test.
    let scalar = LazyCell::new(|| self_test.results(&scalar()));
    tables.retain(|table| {
        let results = self_test.results(table);
        self_test::fingerprint(&results) == SCALAR_FINGERPRINT || results == *scalar
    });
    tables
}

/// The fingerprint of a table's results in the self-test.
pub fn fingerprint(table: &Kernels) -> u64 {
    self_test::fingerprint(&SelfTest::new().results(table))
}

/// The table for any processor.
fn scalar() -> Kernels {
    table!(Isa::Scalar, scalar, scalar, scalar, scalar)
}

/// The table of the C kernels for any processor: none in a build without them.
#[cfg(not(feature = "c-kernels"))]
fn portable() -> Vec<Kernels> {
    Vec::new()
}

/// The table of the C kernels for any processor.
#[cfg(feature = "c-kernels")]
fn portable() -> Vec<Kernels> {
    let many = vec![ManyTokens {
        method: Method::LookUp,
        min_rows: 32,
        lanes: 1,
        min_rest: 1,
        i2_s: Many {
            min_tokens: i2_s::c::MIN_TOKENS,
            gemm: |product, buffers, out| i2_s::c::lookup(product, &mut buffers.c, out),
        },
        t5_3: None,
        i2_t: None,
    }];
    vec![Kernels {
        many,
        quantize_row: crate::c::portable::quantize_row,
        ..table!(Isa::C, c, scalar, c, scalar)
    }]
}

/// The tables of the machine's instruction sets above the scalar one, lowest first.
#[cfg(target_arch = "x86_64")]
pub fn detected() -> Vec<Kernels> {
    let mut tables = portable();
    let avx2 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    if !avx2 {
        return tables;
    }
    // With AVX2 from about these numbers of tokens on look-up is faster (Zen 4, two threads, 6912 x
    // 2560): 16 tokens take 0.9 of the time of multiply-add with I2_S, 0.8 with I2_T, and 0.7 with T5_3.
    // With AVX-512 it is faster from 32 tokens on, if at all.
    let lookup = |min_tokens: [usize; 3], min_rest| ManyTokens {
        method: Method::LookUp,
        min_rows: 192,
        lanes: lookup::LANES,
        min_rest,
        i2_s: Many {
            min_tokens: min_tokens[0],
            gemm: |product, buffers, out| {
                // SAFETY: this is put into a table only after AVX2 has been detected.
                unsafe { lookup::gemm(product, &mut buffers.lookup, out) }
            },
        },
        t5_3: Some(Many {
            min_tokens: min_tokens[1],
            gemm: |product, buffers, out| {
                // SAFETY: as for `i2_s`.
                unsafe { lookup::gemm(product, &mut buffers.lookup, out) }
            },
        }),
        i2_t: Some(Many {
            min_tokens: min_tokens[2],
            gemm: |product, buffers, out| {
                // SAFETY: as for `i2_s`.
                unsafe { lookup::gemm(product, &mut buffers.lookup, out) }
            },
        }),
    };
    let lookup_avx2 = || lookup([14, 12, 14], 9);
    // From this number of tokens on, measured on Zen 5 with 1728 and 2560 columns.
    let i2_t_repack = (32, transposed::repack_avx2 as transposed::RepackColumns);
    tables.push(Kernels {
        many: vec![lookup_avx2()],
        i2_t_add: transposed::avx2::add,
        i2_t_repack,
        ..table!(Isa::Avx2, avx2, avx2, avx2, avx2)
    });
    if is_x86_feature_detected!("avxvnni") {
        tables.push(Kernels {
            many: vec![lookup_avx2()],
            i2_t_add: transposed::avx2::add,
            i2_t_repack,
            narrow_gemm: compiled::avx_vnni::narrow_gemm,
            low_bit_gemm: compiled::avx_vnni::low_bit_gemm,
            ..table!(Isa::AvxVnni, avx_vnni, avx2, avx2, avx2)
        });
    }
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni");
    if avx512 {
        let panels = ManyTokens {
            method: Method::Panels,
            // A whole panel of rows. With 256 rows panels were 1.1 times as fast as multiply-add
            // for 32 tokens, 1.25 times for 128, and 0.8 times for 16 (Emerald Rapids, one thread).
            min_rows: 32,
            lanes: 1,
            min_rest: 1,
            i2_s: Many {
                min_tokens: 32,
                gemm: |product, buffers, out| {
                    // SAFETY: this is put into a table only after AVX-512 VNNI has been detected.
                    unsafe { i2_s::panels::gemm(product, &mut buffers.panels, out) }
                },
            },
            t5_3: None,
            i2_t: None,
        };
        let table = Kernels {
            many: vec![panels, lookup([32; 3], 12)],
            i2_t_add: transposed::avx512_vnni::add,
            i2_t_repack,
            t5_3_repack: Some((128, t5_3::avx2::repack)),
            ..table!(Isa::Avx512Vnni, avx512_vnni, avx512, avx512, avx512)
        };
        tables.push(match Processor::this() {
            Processor::Zen4 => prefer_avx2(table),
            Processor::Amd | Processor::Other => table,
        });
    }
    tables
}

/// The table for AVX-512 with the kernels for AVX2 that are faster on a processor that halves registers
/// of 512 bits.
///
/// Zen 4: look-up read prompts of 2B4T 1.2 to 1.3 times as fast as panels. For one token matrices in F16 were
/// read 1.9 times as fast from memory, in BF16 1.4 times, and Q4_K and Q5_K 1.3 times; other types in
/// blocks were as fast. For several tokens floats and blocks were faster with AVX-512.
#[cfg(target_arch = "x86_64")]
fn prefer_avx2(mut table: Kernels) -> Kernels {
    table.many.sort_by_key(|many| many.method != Method::LookUp);
    Kernels {
        dense_gemm: |w, x, buffer, out| {
            let one = x.len() == w.cols();
            let gemm = if one { compiled::avx2::dense_gemm } else { compiled::avx512::dense_gemm };
            // SAFETY: this is put into a table only after AVX-512 has been detected, which includes
            // AVX2.
            unsafe { gemm(w, x, buffer, out) }
        },
        block_gemm: |w, x, buffers, out| {
            // Both have the codes in the same order.
            let one = x.tokens() == 1;
            let gemm = if one { compiled::avx2::block_gemm } else { compiled::avx512::block_gemm };
            // SAFETY: as for `dense_gemm`.
            unsafe { gemm(w, x, buffers, out) }
        },
        ..table
    }
}

/// The tables of the machine's instruction sets above the scalar one, lowest first.
#[cfg(target_arch = "aarch64")]
pub fn detected() -> Vec<Kernels> {
    use std::arch::is_aarch64_feature_detected;
    let mut tables = portable();
    if !is_aarch64_feature_detected!("neon") {
        return tables;
    }
    tables.push(table!(Isa::Neon, neon, scalar, neon, scalar));
    if !is_aarch64_feature_detected!("dotprod") {
        return tables;
    }
    tables.push(table!(Isa::DotProd, dotprod, scalar, neon, scalar));
    #[cfg(feature = "c-kernels")]
    if is_aarch64_feature_detected!("i8mm") {
        tables.push(table!(Isa::I8mm, i8mm, scalar, neon, scalar));
    }
    tables
}

/// The tables of the machine's instruction sets above the scalar one: none on this architecture.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub fn detected() -> Vec<Kernels> {
    portable()
}

/// The highest table, or the one named by `cap`.
pub fn choose(cap: Option<&str>) -> Result<&'static Kernels, Error> {
    let Some(cap) = cap else { return Ok(Kernels::best()) };
    let tables = tables();
    tables.iter().find(|table| table.isa.name() == cap).ok_or_else(|| {
        let available = tables.iter().map(|table| table.isa.name()).collect::<Vec<_>>();
        Error::MissingIsa { value: cap.to_owned(), available: available.join(", ") }
    })
}

impl Kernels {
    /// The kernels for the best instruction set of this machine, or for a lower one that the
    /// environment variable `TRILOBITE_ISA` names. An empty variable counts as unset. The first call
    /// decides for the whole process.
    ///
    /// # Errors
    /// The variable does not name an instruction set of this machine.
    pub fn detect() -> Result<&'static Kernels, Error> {
        static CHOSEN: OnceLock<Result<&'static Kernels, Error>> = OnceLock::new();
        CHOSEN
            .get_or_init(|| {
                let cap = std::env::var_os(ISA_VARIABLE).filter(|cap| !cap.is_empty());
                choose(cap.as_ref().map(|cap| cap.to_string_lossy()).as_deref())
            })
            .clone()
    }

    /// The kernels for the best instruction set of this machine, whatever the environment says.
    pub fn best() -> &'static Kernels {
        let tables = tables();
        &tables[tables.len() - 1]
    }

    /// The kernels for every instruction set of this machine, scalar first.
    pub fn available() -> Vec<&'static Kernels> {
        tables().iter().collect()
    }

    /// The instruction sets of this machine whose kernels do not compute what the scalar ones do. They
    /// are not [`available`](Kernels::available).
    pub fn rejected() -> Vec<Isa> {
        let passes = |isa: &Isa| tables().iter().any(|table| table.isa == *isa);
        detected().iter().map(|table| table.isa).filter(|isa| !passes(isa)).collect()
    }
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernels").field("isa", &self.isa).finish_non_exhaustive()
    }
}
