//! What a model is: the schema that writers and readers of files share, and what each projection has
//! to be.

mod architecture;
mod hyperparameters;
mod keys;
mod notes;
mod projections;
mod rope;
mod special;
#[cfg(test)]
mod tests;
mod window;

pub use architecture::Architecture;
pub use hyperparameters::{Fault, Hyperparameters, limits};
pub use notes::{mixture_note, zeros_note};
pub use projections::{DENSE_PROJECTIONS, Projections, Storage, is_projection};
pub use rope::{ROPE_FACTORS, ROPE_FREQS, Rope, Scaling, Yarn, check_divisors};
pub use special::{special_id, stray_ids};
pub use window::Window;
