//! RandAugment (arXiv 1909.13719) as in timm 0.3.2, with the pixels of Pillow.
//!
//! A policy chooses operations ([`op::Op`]), drops half of them, and applies the others in order, each with its own magnitude.
//! The pixels equal Pillow's to the level. Operations are look-up tables (`levels.rs`), blends (`blend.rs`) or affine maps
//! (`affine.rs`).

pub(in crate::data) mod affine;
pub(super) mod blend;
mod choice;
mod levels;
pub(in crate::data) mod op;
pub(in crate::data) mod policy;
pub(in crate::data) mod rgb;
