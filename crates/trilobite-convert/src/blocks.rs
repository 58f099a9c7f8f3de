//! The types of quantised blocks.

use trilobite_format::TensorType;
use trilobite_kernels::DenseType;

/// The kernels' type of quantised blocks that are copied unchanged.
pub(crate) fn blocks(ty: TensorType) -> Option<DenseType> {
    match ty {
        TensorType::Q4_0 => Some(DenseType::Q4_0),
        TensorType::Q4_1 => Some(DenseType::Q4_1),
        TensorType::Q5_0 => Some(DenseType::Q5_0),
        TensorType::Q5_1 => Some(DenseType::Q5_1),
        TensorType::Q8_0 => Some(DenseType::Q8_0),
        TensorType::Q4K => Some(DenseType::Q4K),
        TensorType::Q5K => Some(DenseType::Q5K),
        TensorType::Q6K => Some(DenseType::Q6K),
        TensorType::Tq1_0 => Some(DenseType::TQ1_0),
        TensorType::Tq2_0 => Some(DenseType::TQ2_0),
        TensorType::Q1_0 => Some(DenseType::Q1_0),
        TensorType::Q2_0 => Some(DenseType::Q2_0),
        TensorType::Pq2_0 => Some(DenseType::PQ2_0),
        TensorType::Ptq1_0 => Some(DenseType::PTQ1_0),
        _ => None,
    }
}
