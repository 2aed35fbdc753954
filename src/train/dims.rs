//! From a plan's numbers to the network's.

use crate::model;
use crate::model::DecoderDims;
use crate::model::EncoderDims;
use crate::recipe::DataPlan;
use crate::recipe::ModelPlan;

/// The encoder's dimensions.
pub(super) fn encoder(plan: &ModelPlan, data: &DataPlan) -> EncoderDims {
    EncoderDims {
        input_size: data.input_size,
        patch_size: plan.patch_size,
        in_chans: data.in_chans,
        embed_dim: plan.embed_dim,
        depth: plan.depth,
        num_heads: plan.num_heads,
        mlp_dim: model::mlp_dim(plan.embed_dim, plan.mlp_ratio),
        norm_eps: plan.norm_eps,
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
