//! RandAugment (arXiv 1909.13719) as in timm 0.3.2, with pixel values equal to Pillow's.
//!
//! A policy chooses operations ([`op::Op`]), skips each operation with probability 0.5, and applies the others in
//! order. Each operation has its own magnitude. The operations are look-up tables (`levels.rs`), blends (`blend.rs`) or
//! affine transforms (`affine.rs`).

pub(in crate::data) mod affine;
pub(super) mod blend;
mod choice;
mod levels;
pub(in crate::data) mod op;
pub(in crate::data) mod policy;
pub(in crate::data) mod rgb;
