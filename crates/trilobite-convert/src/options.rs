//! What can be chosen, and what is reported.

use std::fmt;
use std::ops::ControlFlow;
use std::str::FromStr;

use trilobite_format::TensorType;

use crate::Error;

/// Gives the values of an option names and summaries.
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

            /// What the value does, in a line.
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

/// How to convert. The default keeps every weight exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The layout of ternary tensors. Other than `Auto` it is an error for a dense model.
    pub layout: Layout,
    /// The type of a dense model's matrices: that of the source without it. It is an error for a
    /// ternary model.
    pub ty: Option<Type>,
    /// The type of the language model head: of `output.weight`, or of `token_embd.weight` where
    /// that is the head too.
    pub head: Head,
    /// Whether a coarse copy of the head is added.
    pub head_scan: HeadScan,
    /// What to do with dense projections of a checkpoint that does not say that it is a BitNet
    /// model. `None` refuses them.
    pub quantize: Option<Quantize>,
}

/// The type of a dense model's matrices; norms and biases are F32 in any case. Rows that are no whole
/// blocks of the type are stored as F16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// 16-bit floats: rounds BF16 and F32; a weight beyond the range is an error.
    F16,
    /// BF16: rounds F16 and F32.
    Bf16,
    /// 8-bit integers in blocks of 32: rounds.
    Q8_0,
    /// 4-bit integers in blocks of 32: rounds a lot. The head, and the embedding where that is the
    /// head, are Q8_0; llama.cpp gives them more than four bits too (Q6_K).
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

    /// The type of the head, and of the embedding where that is the head.
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
    /// What decodes fastest. If the ternary matrices take at least 64 MiB at two bits a weight, so
    /// that no cache holds them: [`Sparse`](Layout::Sparse) for a model with squared ReLU and T5_3 for
    /// another. Below: I2_S where the shape allows it and I2_R where not.
    #[default]
    Auto,
    /// For models with squared ReLU, which makes many activations of the feed-forward network zero:
    /// up projections as I2_S or I2_R and down projections transposed as I2_R, so that the rows
    /// and columns that count can be read alone, and everything else as T5_3. Other models are an
    /// error.
    Sparse,
    /// I2_S only, so that bitnet.cpp can read the file; other shapes are an error.
    I2S,
    /// T5_3 for every shape: 1.67 bits a weight.
    T5_3,
}

/// The type of the language model head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Head {
    /// As the checkpoint has it.
    #[default]
    Source,
    /// 32-bit floats: exact.
    F32,
    /// 16-bit floats: rounds BF16 and F32; a weight beyond the range is an error.
    F16,
    /// BF16: rounds F16 and F32.
    Bf16,
    /// 8-bit integers in blocks of 32: rounds.
    Q8_0,
}

impl Head {
    pub(crate) fn tensor_type(self) -> Option<TensorType> {
        match self {
            Head::Source => None,
            Head::F32 => Some(TensorType::F32),
            Head::F16 => Some(TensorType::F16),
            Head::Bf16 => Some(TensorType::Bf16),
            Head::Q8_0 => Some(TensorType::Q8_0),
        }
    }
}

/// Whether the file gets a coarse copy of the head, from which greedy decoding and top-k sampling find
/// the rows that matter. bitnet.cpp refuses a file with one. A head that is ternary or Q8_0 never
/// has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeadScan {
    /// For a ternary model's head of at least 32,768 rows, unless the layout is [`Layout::I2S`].
    #[default]
    Auto,
    /// For a head of any size.
    Always,
    /// No copy.
    None,
}

/// How to make dense projections ternary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantize {
    /// BitNet b1.58's rule: divide by the mean magnitude of the tensor, round, clamp to -1..1. A
    /// tensor whose values are all -a, 0 or a for one number a is already ternary; it keeps
    /// exactly these values.
    Absmean,
}

/// How far a conversion is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// What is being done.
    pub stage: Stage,
    /// The tensor that was just worked on, by its name in the output.
    pub tensor: &'a str,
    /// Bytes of the output's tensors that are done in this stage.
    pub done: u64,
    /// Bytes of the output's tensors.
    pub total: u64,
}

/// The listener that hears nothing and lets the conversion go on.
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

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// `general.architecture` of the output.
    pub architecture: String,
    /// Totals by tensor type, in the order of the type numbers.
    pub types: Vec<TypeTotal>,
    /// Bits that a ternary weight takes, scales and padding included; `None` without any.
    pub ternary_bits_per_weight: Option<f64>,
    /// Bits that a weight of any kind takes.
    pub bits_per_weight: f64,
    /// Length of the file.
    pub file_bytes: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// What a user should know: what was dropped, rounded or filled in.
    pub notes: Vec<String>,
}

/// The tensors of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeTotal {
    /// The type.
    pub ty: TensorType,
    /// Number of tensors.
    pub tensors: u64,
    /// Number of weights in them.
    pub weights: u64,
    /// Bytes that they take.
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
        // The first is the default of the command line too.
        assert_eq!(Layout::ALL.first(), Some(&Layout::default()));
        assert_eq!(Head::ALL.first(), Some(&Head::default()));
        assert_eq!(HeadScan::ALL.first(), Some(&HeadScan::default()));
    }
}
