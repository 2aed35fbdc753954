//! From a plan's numbers to the network's.

use crate::model::DecoderDims;
use crate::model::EncoderDims;
use crate::recipe::DataPlan;
use crate::recipe::ModelPlan;

/// The encoder's dimensions.
pub(super) fn encoder(model: &ModelPlan, data: &DataPlan) -> EncoderDims {
    EncoderDims {
        input_size: data.input_size,
        patch_size: model.patch_size,
        in_chans: data.in_chans,
        embed_dim: model.embed_dim,
        depth: model.depth,
        num_heads: model.num_heads,
        mlp_dim: (model.embed_dim as f64 * model.mlp_ratio) as usize,
        norm_eps: model.norm_eps,
    }
}

/// The decoder's dimensions.
pub(super) fn decoder(model: &ModelPlan) -> DecoderDims {
    DecoderDims {
        embed_dim: model.decoder_embed_dim,
        depth: model.decoder_depth,
        num_heads: model.decoder_num_heads,
        mlp_dim: (model.decoder_embed_dim as f64 * model.mlp_ratio) as usize,
    }
}
