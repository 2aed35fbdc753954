//! The networks: MAE for pre-training, ViT for classification, the linear probe's head.
//!
//! Built from plain numbers ([`EncoderDims`], [`DecoderDims`]); knows nothing of files or recipes.
//! Field names are the official parameter names, so the path of a parameter in the module tree
//! (`blocks.0.attn.qkv.weight`) is its name in a checkpoint, and no table of renames exists.
//!
//! Axes, as comments write them: `N` batch, `L` patches, `K` kept patches, `D` width, `H` heads,
//! `P` values in a patch (`patch_size² * in_chans`), `C` classes.
//!
//! Randomness comes in as numbers (noise for masks, factors for drop-path): a forward pass is a
//! function of its arguments.

mod block;
mod init;
mod layers;
mod mae;
mod masking;
mod params;
mod passes;
mod patches;
mod pos_embed;
mod precision;
mod probe;
mod vit;

pub use block::{Block, drop_path_rates};
pub use init::{init_head, init_mae, init_probe_head, init_vit};
pub use layers::{LayerNorm, Linear};
pub use mae::Mae;
pub use masking::{Masks, len_keep};
pub use params::{
    NamedParam, PartialGrads, apply, device, grads, named, present, trainable_names, update,
};
pub use passes::{Chain, Forward, Pass, mae_chain, vit_chain};
pub use patches::{PatchEmbed, patchify, unpatchify};
pub use pos_embed::{resize_pos_embed, sincos_pos_embed};
pub use precision::Precision;
pub use probe::{BN_EPS, BN_MOMENTUM, ProbeHead};
pub use vit::Vit;

/// Dimensions of the encoder, plain numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderDims {
    /// Side of the square image, in pixels.
    pub input_size: usize,
    pub patch_size: usize,
    pub in_chans: usize,
    pub embed_dim: usize,
    pub depth: usize,
    pub num_heads: usize,
    /// Width of the hidden layer of a block's MLP.
    pub mlp_dim: usize,
    /// Epsilon beside the variance in every `LayerNorm`; the official code has 1e-6.
    pub norm_eps: f64,
    /// Of products and activations.
    pub precision: Precision,
}

impl EncoderDims {
    /// Patches on a side of the image.
    pub fn grid(&self) -> usize {
        self.input_size / self.patch_size
    }

    /// `L`, patches in an image.
    pub fn num_patches(&self) -> usize {
        self.grid() * self.grid()
    }

    /// `P`, values in a patch.
    pub fn patch_values(&self) -> usize {
        self.patch_size * self.patch_size * self.in_chans
    }
}

/// Width of an MLP's hidden layer: `int(width * mlp_ratio)`, as the official code counts.
///
/// A ratio that was made of two widths, as 120 / 44, gives its 120 back.
pub fn mlp_dim(width: usize, mlp_ratio: f64) -> usize {
    (width as f64 * mlp_ratio + 1e-6) as usize
}

/// Dimensions of MAE's decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderDims {
    pub embed_dim: usize,
    pub depth: usize,
    pub num_heads: usize,
    pub mlp_dim: usize,
}
