//! From a plan's numbers to the network's.

use crate::model::{self, DecoderDims, EncoderDims, Precision};
use crate::recipe::{self, ModelPlan, Plan};

/// The encoder's dimensions.
pub(super) fn encoder(plan: &Plan) -> EncoderDims {
    let network = &plan.model;
    EncoderDims {
        input_size: plan.data.input_size,
        patch_size: network.patch_size,
        in_chans: plan.data.in_chans,
        embed_dim: network.embed_dim,
        depth: network.depth,
        num_heads: network.num_heads,
        mlp_dim: model::mlp_dim(network.embed_dim, network.mlp_ratio),
        norm_eps: network.norm_eps,
        precision: match plan.runtime.precision {
            recipe::Precision::Fp32 => Precision::Fp32,
            recipe::Precision::Bf16 => Precision::Bf16,
        },
    }
}

/// The decoder's dimensions.
pub(super) fn decoder(plan: &ModelPlan) -> DecoderDims {
    DecoderDims {
        embed_dim: plan.decoder_embed_dim,
        depth: plan.decoder_depth,
        num_heads: plan.decoder_num_heads,
        mlp_dim: model::mlp_dim(plan.decoder_embed_dim, plan.mlp_ratio),
    }
}
