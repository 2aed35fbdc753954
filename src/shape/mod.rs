//! Types and rules that several modules share: dimensions, precision and stages.
//!
//! This module depends on no other module.

mod adamw;
mod dims;
mod image_size;
mod mae_loss;
mod masking;
mod precision;
mod stage;
mod targets;
mod trained_blocks;

/// Maximum number of classes in a data set or a recipe.
///
/// Without this limit, one invalid label could allocate a huge classification head.
pub const MAX_CLASSES: usize = 1_000_000;

pub use adamw::{PRETRAIN_BETAS, has_no_decay};
pub use dims::{DecoderDims, EncoderDims, len_keep, mlp_dim};
pub use image_size::ImageSize;
pub use mae_loss::{LossPatches, MaeLoss};
pub use masking::{MaskKind, Masking};
pub use precision::Precision;
pub use stage::StageKind;
pub use targets::{mixed_targets, soft_targets};
pub use trained_blocks::TrainedBlocks;
