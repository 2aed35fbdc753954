//! The networks: MAE for pre-training, ViT for classification, and the head of the linear probe.
//!
//! The networks are built from [`EncoderDims`](crate::shape::EncoderDims) and
//! [`DecoderDims`](crate::shape::DecoderDims). They do not depend on files or recipes. Field names are the official
//! parameter names. So the path `blocks.0.attn.qkv.weight` in the module tree is also a name in checkpoints.
//!
//! Axes in comments: `N` batch, `L` patches, `K` kept patches, `D` width, `H` heads, `C` classes. `P` is the number of
//! values in a patch, `patch_size² * in_chans`. The shape of images is `[N, C, H, W]`: batch, channels, height, width.
//!
//! A forward pass draws no random numbers. Its arguments include mask noise and drop-path factors.

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
