//! The schema of models: architectures, hyperparameters, tensors, and the storage of each
//! projection. Readers and writers of files share it.

mod architecture;
mod experts;
mod fault;
mod hyperparameters;
pub mod limits;
mod notes;
mod pooling;
mod prefixed;
mod projections;
mod rope;
mod sampling;
mod scales;
mod special;
mod template;
mod tensors;
#[cfg(test)]
mod tests;
mod token_kind;
mod window;
mod words;

pub use architecture::Architecture;
pub use experts::Experts;
pub use fault::Fault;
pub use hyperparameters::Hyperparameters;
pub use notes::{mixture_note, zeros_note};
pub use pooling::{Pooling, UnknownPooling};
pub use projections::{Projections, Storage, is_projection};
pub use rope::{Rope, Scaling, Yarn, check_divisors};
pub use sampling::SAMPLING;
pub use scales::Scales;
pub use special::{special_id, stray_ids};
pub use template::{BITNET_TEMPLATE, template_instead};
pub use tensors::{HeadScanPart, Presence, Role, Tensor, scale_name, tensors};
pub use token_kind::TokenKind;
pub use window::Window;
pub use words::{END_OF_TURN, GPT_2, Words};
