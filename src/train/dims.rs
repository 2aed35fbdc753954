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
        mlp_dim: mlp_dim(model.embed_dim, model.mlp_ratio),
        norm_eps: model.norm_eps,
    }
}

/// The decoder's dimensions.
pub(super) fn decoder(model: &ModelPlan) -> DecoderDims {
    DecoderDims {
        embed_dim: model.decoder_embed_dim,
        depth: model.decoder_depth,
        num_heads: model.decoder_num_heads,
        mlp_dim: mlp_dim(model.decoder_embed_dim, model.mlp_ratio),
    }
}

/// `int(width * mlp_ratio)`, as the official code counts; a ratio like 120 / 44 must give its 120 back.
fn mlp_dim(width: usize, mlp_ratio: f64) -> usize {
    (width as f64 * mlp_ratio + 1e-6) as usize
}
