//! What a model is: the schema that writers and readers of files share.

mod architecture;
mod hyperparameters;
mod keys;
mod rope;
mod special;
#[cfg(test)]
mod tests;
mod window;

pub use architecture::Architecture;
pub use hyperparameters::{Fault, Hyperparameters, limits};
pub use rope::{ROPE_FACTORS, ROPE_FREQS, Rope, Scaling, Yarn, check_divisors};
pub use special::{special_id, stray_ids};
pub use window::Window;
