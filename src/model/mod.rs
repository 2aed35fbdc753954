//! The networks: MAE for pre-training, ViT for classification, the linear probe's head.
//!
//! The networks are built from plain dimensions: [`EncoderDims`](crate::shape::EncoderDims) and
//! [`DecoderDims`](crate::shape::DecoderDims). They do not depend on files or recipes. Field names are the official parameter
//! names. So a parameter's path in the module tree, for example `blocks.0.attn.qkv.weight`, is its name in a checkpoint.
//!
//! Axes in comments: `N` batch, `L` patches, `K` kept patches, `D` width, `H` heads, `P` values in a patch
//! (`patch_size² * in_chans`), `C` classes. In the shape of images, `[N, C, H, W]` means batch, channels, height, width.
//!
//! A forward pass draws no random numbers. It receives mask noise and drop-path factors as arguments.

mod block;
mod block_mask;
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
pub use masking::Masks;
pub use params::{
    NamedParam, PartialGrads, apply, device, grads, named, present, trainable_names, update,
};
pub use passes::{BackwardMode, Chain, Forward, mae_chain, vit_chain};
pub use patches::{PatchEmbed, patchify, unpatchify};
pub use pos_embed::{resize_pos_embed, sincos_pos_embed};
pub use probe::{BN_EPS, BN_MOMENTUM, ProbeHead, official_probe_name};
pub use vit::{Vit, soft_cross_entropy};
