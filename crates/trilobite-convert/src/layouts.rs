//! The layouts that the ternary weights of a model can have.

use trilobite_format::TensorType;
use trilobite_format::model::{Hyperparameters, Role};

use crate::model::{Data, Planned};
use crate::options::{HeadScan, Layout};

/// Size of ternary matrices, at two bits a weight, that exceeds the caches. From there on decoding
/// is bound by memory, so smaller types are faster.
const CACHE_SIZE: u64 = 64 << 20;

/// The layouts that the ternary weights of a model can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layouts {
    /// The layout that [`Layout::Auto`] stands for. It is `Auto` itself for a mixture of I2_S and
    /// I2_R.
    pub auto: Layout,
    /// All of them, that one first.
    pub possible: Vec<Layout>,
    /// Size of the ternary matrices at two bits a weight.
    pub bytes: u64,
    /// Whether a file gets a coarse copy of the head with [`HeadScan::Auto`] and another layout than
    /// [`Layout::I2S`], as an option that holds for all layouts.
    pub head_scan: HeadScan,
    /// Maximum context length of the model in tokens.
    pub context: u64,
    /// Whether the model gives embeddings only: it says how hidden states are pooled, and has no head.
    pub only_embeds: bool,
    squared_relu: bool,
}

impl Layouts {
    /// The layouts of a model with these planned tensors, which are not transposed.
    pub(crate) fn of(tensors: &[Planned<'_>], model: &Hyperparameters) -> Layouts {
        let ternary = || tensors.iter().filter(|tensor| tensor.data.is_ternary());
        let i2_s = |tensor: &Planned<'_>| TensorType::I2S.byte_len(&tensor.shape);
        let bytes = |tensor| i2_s(tensor).or_else(|| TensorType::I2R.byte_len(&tensor.shape));
        let bytes = ternary().filter_map(bytes).sum();
        let squared_relu = model.arch.squared_relu();
        let two_bits =
            if ternary().all(|tensor| i2_s(tensor).is_some()) { Layout::I2S } else { Layout::Auto };
        let auto = match (bytes < CACHE_SIZE, squared_relu) {
            (true, _) => two_bits,
            (false, true) => Layout::Sparse,
            (false, false) => Layout::T5_3,
        };
        let mut possible = vec![auto];
        for layout in [Layout::Sparse, Layout::T5_3, Layout::I2S] {
            let fits = match layout {
                Layout::Sparse => squared_relu,
                Layout::I2S => two_bits == layout,
                _ => true,
            };
            if layout != auto && fits {
                possible.push(layout);
            }
        }
        let scan = tensors.iter().any(|tensor| matches!(tensor.data, Data::Scan(_)));
        let head_scan = if scan { HeadScan::Always } else { HeadScan::None };
        let head = tensors.iter().any(|tensor| tensor.name == Role::Head.name(0));
        Layouts {
            auto,
            possible,
            bytes,
            head_scan,
            context: model.context,
            only_embeds: model.pooling.is_some() && !head,
            squared_relu,
        }
    }

    /// Why [`Layout::Auto`] stands for its layout.
    pub fn reason(&self) -> &'static str {
        match (self.bytes < CACHE_SIZE, self.squared_relu, self.auto) {
            (true, _, Layout::I2S) => "the ternary weights fit in the caches",
            (true, ..) => "the ternary weights fit in the caches, and not all fit I2_S",
            (false, true, _) => "squared ReLU, and the ternary weights exceed the caches",
            (false, false, _) => "the ternary weights exceed the caches",
        }
    }
}

#[cfg(test)]
mod tests {
    use trilobite_format::model::Architecture;

    use super::*;
    use crate::testing::{Tiny, run};
    use crate::trits::{Encoding, Ternary};
    use crate::{Checkpoint, Options, is_converted, layouts};

    fn of(rows: u64, cols: u64, arch: Architecture) -> Layouts {
        let ty = TensorType::T5_3;
        let ternary = Ternary {
            file: "",
            name: String::new(),
            rows: rows as usize,
            cols: cols as usize,
            encoding: Encoding::Gguf { ty, bytes: &[], factor: 1.0 },
            head_dim: None,
        };
        let (shape, data) = (vec![rows, cols], Data::Ternary(ternary));
        let tiny = Tiny::bitnet().checkpoint();
        let model = crate::write::plan(&tiny, &Options::default()).unwrap().model;
        let model = Hyperparameters { arch, ..model };
        Layouts::of(&[Planned { name: "x".to_owned(), ty, shape, data }], &model)
    }

    #[test]
    fn auto_depends_on_size_shape_and_activation() {
        use Architecture::{BitNetB158, Llama};
        use Layout::{Auto, I2S, Sparse, T5_3};
        for (rows, cols, arch, possible) in [
            (128, 64, BitNetB158, &[I2S, Sparse, T5_3][..]),
            (128, 64, Llama, &[I2S, T5_3]),
            (127, 64, Llama, &[Auto, T5_3]),
            (1 << 14, 1 << 14, BitNetB158, &[Sparse, T5_3, I2S]),
            (1 << 14, 1 << 14, Llama, &[T5_3, I2S]),
            ((1 << 14) + 1, 1 << 14, Llama, &[T5_3, I2S]),
            ((1 << 14) + 1, (1 << 14) + 1, BitNetB158, &[Sparse, T5_3]),
            ((1 << 14) + 1, (1 << 14) + 1, Llama, &[T5_3]),
        ] {
            let found = of(rows, cols, arch);
            assert_eq!(found.possible, possible, "{rows} x {cols}");
            assert_eq!(found.auto, possible[0]);
        }
        assert!(of(128, 64, Llama).reason().contains("fit in the caches"));
        assert!(of(1 << 14, 1 << 14, BitNetB158).reason().starts_with("squared ReLU"));
    }

    #[test]
    fn every_possible_layout_can_be_written_and_is_recognised() {
        assert_eq!(layouts(&Tiny::qwen2().checkpoint()).unwrap(), None);
        let checkpoint = Tiny::bitnet().checkpoint();
        let options = |layout| Options { layout, ..Options::default() };
        let found = layouts(&checkpoint).unwrap().unwrap();
        for &layout in &found.possible {
            assert!(!is_converted(&checkpoint, &options(layout)).unwrap());
            let (file, _) = run(&checkpoint, &options(layout)).unwrap();
            let file = Checkpoint::from_files(vec![("m.gguf".to_owned(), file.into())]).unwrap();
            assert_eq!(layouts(&file).unwrap().unwrap(), found);
            for &other in &found.possible {
                let same = is_converted(&file, &options(other)).unwrap();
                assert_eq!(same, layout == other, "{layout} {other}");
            }
        }
    }
}
