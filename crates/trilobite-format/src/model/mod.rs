//! What models are made of: their architectures, and what each projection has to be.

mod arch;
mod notes;
mod projections;
#[cfg(test)]
mod tests;

pub use arch::Arch;
pub use notes::{mixture_note, zeros_note};
pub use projections::{DENSE_PROJECTIONS, Projections, Storage, is_projection};
