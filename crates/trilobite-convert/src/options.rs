//! The options and the report of a conversion.

use std::fmt;
use std::ops::ControlFlow;
use std::str::FromStr;

use trilobite_format::TensorType;

use crate::Error;

/// Implements names and summaries for the values of an option.
macro_rules! choices {
    ($option:ident, $what:literal, $($value:ident: $name:literal, $summary:literal;)+) => {
        impl $option {
            /// All values.
            pub const ALL: &'static [Self] = &[$(Self::$value),+];

            /// The name of the value.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$value => $name),+
                }
            }

            /// A one-line description of the value.
            pub fn summary(self) -> &'static str {
                match self {
                    $(Self::$value => $summary),+
                }
            }
        }

        impl fmt::Display for $option {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl FromStr for $option {
            type Err = Error;

            fn from_str(name: &str) -> Result<Self, Error> {
                Self::ALL.iter().copied().find(|value| value.name() == name).ok_or_else(|| {
                    let known: Vec<_> = Self::ALL.iter().map(|value| value.name()).collect();
                    let (found, known) = (name.to_owned(), known.join(", "));
                    Error::Choice { what: $what, found, known }
                })
            }
        }
    };
}

choices! {
    Layout, "layout of ternary weights",
    Auto: "auto",
        "From 64 MiB of I2_S on `sparse` with squared ReLU, else `t5_3`; below I2_S or I2_R by shape";
    Sparse: "sparse",
        "For squared ReLU: up as I2_S, down transposed as I2_R, so that decoding reads only the \
         neurons that count, and everything else as T5_3";
    I2S: "i2_s", "Two bits a weight, the layout of bitnet.cpp";
    T5_3: "t5_3", "Five bits for three weights, whatever the shape: a sixth smaller";
}

choices! {
    Type, "type of dense matrices",
    F16: "f16", "16-bit floats";
    Bf16: "bf16", "16-bit floats with 8 significant bits";
    Q8_0: "q8_0", "8-bit integers in blocks of 32";
    Q4_0: "q4_0", "4-bit integers in blocks of 32, the head Q8_0";
}

choices! {
    Head, "type of the head",
    Auto: "auto", "As the type of the matrices says, or as the checkpoint has it";
    Source: "source", "As the checkpoint has it";
    F32: "f32", "32-bit floats";
    F16: "f16", "16-bit floats";
    Bf16: "bf16", "16-bit floats with 8 significant bits";
    Q8_0: "q8_0", "8-bit integers in blocks of 32";
}

choices! {
    HeadScan, "choice of a coarse head",
    Auto: "auto", "For 32,768 tokens and more, but not with the layout i2_s";
    Always: "always", "Always";
    None: "none", "Never";
}

choices! {
    Quantize, "way to quantise",
    Absmean: "absmean", "Round each matrix to its mean absolute value, as BitNet b1.58 does";
}

/// The options of a conversion. The default preserves every weight exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The layout of ternary tensors. A dense model accepts only `Auto`.
    pub layout: Layout,
    /// The type of the matrices of a dense model; `None` keeps that of the source. A ternary model
    /// accepts only `None`.
    pub ty: Option<Type>,
    /// The type of the language model head: of `output.weight`, or of `token_embd.weight` if that
    /// serves as the head.
    pub head: Head,
    /// Whether to add a coarse copy of the head.
    pub head_scan: HeadScan,
    /// How to quantise dense projections of a checkpoint that is not declared a BitNet model. With
    /// `None` they stay dense; they are an error if the architecture is BitNet's.
    pub quantize: Option<Quantize>,
}

/// The type of the matrices of a dense model. Norms and biases are always F32. A matrix whose rows
/// are not whole blocks of the type is stored as F16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// 16-bit floats: rounds BF16 and F32. A weight outside the range is an error.
    F16,
    /// BF16: rounds F16 and F32.
    Bf16,
    /// 8-bit integers in blocks of 32: rounds.
    Q8_0,
    /// 4-bit integers in blocks of 32: rounds coarsely. The head, or the embedding that serves as
    /// the head, becomes Q8_0; llama.cpp also gives them more than four bits (Q6_K).
    Q4_0,
}

impl Type {
    pub(crate) fn tensor_type(self) -> TensorType {
        match self {
            Type::F16 => TensorType::F16,
            Type::Bf16 => TensorType::Bf16,
            Type::Q8_0 => TensorType::Q8_0,
            Type::Q4_0 => TensorType::Q4_0,
        }
    }

    /// The type of the head, or of the embedding that serves as the head.
    pub(crate) fn of_head(self) -> TensorType {
        match self {
            Type::Q4_0 => TensorType::Q8_0,
            _ => self.tensor_type(),
        }
    }
}

/// The layout of ternary tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// The fastest to decode. If the ternary matrices take at least 64 MiB at two bits a weight,
    /// and so exceed the caches: [`Sparse`](Layout::Sparse) for a model with squared ReLU, and T5_3
    /// for others. For smaller models: I2_S if the shape allows it, otherwise I2_R.
    #[default]
    Auto,
    /// For models with squared ReLU, which makes many activations of the feed-forward network zero.
    /// Up projections are I2_S or I2_R and down projections are transposed as I2_R, so that single
    /// rows and columns can be read; all others are T5_3. An error for other models.
    Sparse,
    /// I2_S only, which bitnet.cpp reads. A shape that it cannot hold is an error.
    I2S,
    /// T5_3 for every shape: 1.67 bits a weight.
    T5_3,
}

/// The type of the language model head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Head {
    /// [`Type`] says it if one is chosen. Otherwise the type in the checkpoint.
    #[default]
    Auto,
    /// The type in the checkpoint.
    Source,
    /// 32-bit floats: exact.
    F32,
    /// 16-bit floats: rounds BF16 and F32. A weight outside the range is an error.
    F16,
    /// BF16: rounds F16 and F32.
    Bf16,
    /// 8-bit integers in blocks of 32: rounds.
    Q8_0,
}

impl Head {
    pub(crate) fn tensor_type(self) -> Option<TensorType> {
        match self {
            Head::Auto | Head::Source => None,
            Head::F32 => Some(TensorType::F32),
            Head::F16 => Some(TensorType::F16),
            Head::Bf16 => Some(TensorType::Bf16),
            Head::Q8_0 => Some(TensorType::Q8_0),
        }
    }
}

/// Whether the file has a coarse copy of the head, from which greedy decoding, top-k, top-p and min-p
/// sampling find the rows with the largest logits. bitnet.cpp rejects a file with one. A ternary or
/// Q8_0 head never has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeadScan {
    /// For heads of ternary models with at least 32,768 rows, unless the layout is [`Layout::I2S`].
    #[default]
    Auto,
    /// For heads of any size.
    Always,
    /// No copy.
    None,
}

/// How to make dense projections ternary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantize {
    /// The rule of BitNet b1.58: divide by the mean magnitude of the tensor, round, clamp to -1..1.
    /// A tensor whose values are all -a, 0 or a for one number a is already ternary and keeps these
    /// values exactly.
    Absmean,
}

/// The progress of a conversion.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The current stage.
    pub stage: Stage,
    /// The output name of the tensor last worked on.
    pub tensor: &'a str,
    /// Bytes of the output's tensors completed in this stage.
    pub done: u64,
    /// Total bytes of the output's tensors.
    pub total: u64,
}

/// A progress listener that does nothing and lets the conversion continue.
pub fn ignore_progress(_: Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// The stages of a conversion, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Tensors are converted and written.
    Write,
    /// The written file is read back and compared with the source.
    Verify,
}

/// The result of a conversion.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// `general.architecture` of the output.
    pub architecture: String,
    /// Totals by tensor type, in the order of the type numbers.
    pub types: Vec<TypeTotal>,
    /// Bits per ternary weight, including scales and padding. `None` if there are no ternary
    /// weights.
    pub ternary_bits_per_weight: Option<f64>,
    /// Bits per weight over all tensors.
    pub bits_per_weight: f64,
    /// Length of the file.
    pub file_bytes: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// Notes for the user: tensors dropped, weights rounded, values filled in.
    pub notes: Vec<String>,
}

/// Totals of the tensors of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeTotal {
    /// The type.
    pub ty: TensorType,
    /// Number of tensors.
    pub tensors: u64,
    /// Number of weights in them.
    pub weights: u64,
    /// Size of their data in bytes.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_what_its_name_means_and_no_other_name_means_one() {
        fn check<T>(all: &[T])
        where
            T: Copy + PartialEq + fmt::Debug + fmt::Display + FromStr<Err = Error>,
        {
            assert!(!all.is_empty());
            for value in all {
                assert_eq!(value.to_string().parse::<T>().unwrap(), *value);
                assert!(value.to_string().to_uppercase().parse::<T>().is_err());
            }
        }
        check(Layout::ALL);
        check(Type::ALL);
        check(Head::ALL);
        check(HeadScan::ALL);
        check(Quantize::ALL);
        let error = "i2s".parse::<Layout>().unwrap_err().to_string();
        let expected =
            "there is no layout of ternary weights \"i2s\"; there are auto, sparse, i2_s, t5_3";
        assert_eq!(error, expected);
        // The first value is also the default of the command line.
        assert_eq!(Layout::ALL.first(), Some(&Layout::default()));
        assert_eq!(Head::ALL.first(), Some(&Head::default()));
        assert_eq!(HeadScan::ALL.first(), Some(&HeadScan::default()));
    }
}
