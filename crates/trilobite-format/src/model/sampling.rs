//! The defaults of sampling in metadata.

use std::ops::RangeInclusive;

/// The usable values of each default of sampling that is a number. The key is that of
/// [`keys::generation`](crate::keys::generation).
pub const SAMPLING: [(&str, RangeInclusive<f32>); 6] = [
    ("temperature", 0.0..=f32::MAX),
    ("top_p", 0.0..=1.0),
    ("min_p", 0.0..=1.0),
    ("repetition_penalty", f32::MIN_POSITIVE..=f32::MAX),
    // Trilobite's own; transformers has no such setting.
    ("loop_penalty", 0.0..=f32::MAX),
    ("top_k", 0.0..=f32::MAX),
];
