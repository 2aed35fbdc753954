//! The dimensions of a plan's networks.

use super::plan::{ModelPlan, Plan};
use crate::shape::{self, DecoderDims, EncoderDims};

impl Plan {
    /// Returns the dimensions of the encoder.
    pub fn encoder_dims(&self) -> EncoderDims {
        let network = &self.model;
        EncoderDims {
            input_size: self.data.input_size,
            patch_size: network.patch_size,
            in_chans: self.data.in_chans,
            embed_dim: network.embed_dim,
            depth: network.depth,
            num_heads: network.num_heads,
            mlp_dim: shape::mlp_dim(network.embed_dim, network.mlp_ratio),
            norm_eps: network.norm_eps,
            precision: self.runtime.precision,
        }
    }
}

impl ModelPlan {
    /// Returns the dimensions of the decoder.
    pub fn decoder_dims(&self) -> DecoderDims {
        DecoderDims {
            embed_dim: self.decoder_embed_dim,
            depth: self.decoder_depth,
            num_heads: self.decoder_num_heads,
            mlp_dim: shape::mlp_dim(self.decoder_embed_dim, self.mlp_ratio),
            encoder_mask_token: self.encoder_mask_token,
        }
    }
}
