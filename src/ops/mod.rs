//! Operations of our own, with their own backward pass, beside the plain composition that they equal.
//!
//! On GPUs alone: the CPU computes the plain composition.

#[cfg(feature = "gpu")]
mod cube;
mod product;

pub use product::autotune;
pub use product::linear;
pub use product::product;
