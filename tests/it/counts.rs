//! Compares the parameter counts that `plan` prints with the networks that train.

use burn::module::Module;
use burn::tensor::Device;
use mae::model::{Mae, Vit};
use mae::recipe::{Dims, ModelPlan};
use mae::shape::{EncoderDims, Precision};

#[test]
fn planned_parameters_are_allocated_parameters() {
    let mut plan = ModelPlan {
        patch_size: 4,
        embed_dim: 24,
        depth: 3,
        num_heads: 2,
        mlp_ratio: 3.0,
        norm_eps: 1e-6,
        decoder_embed_dim: 16,
        decoder_depth: 2,
        decoder_num_heads: 4,
        encoder_mask_token: false,
    };
    let encoder = EncoderDims {
        input_size: 20.into(),
        patch_size: 4,
        in_chans: 2,
        embed_dim: 24,
        depth: 3,
        num_heads: 2,
        mlp_dim: 72,
        norm_eps: 1e-6,
        precision: Precision::Fp32,
    };
    let device = Device::flex();
    for encoder_mask_token in [true, false] {
        plan.encoder_mask_token = encoder_mask_token;
        let dims = Dims { model: &plan, input_size: 20.into(), in_chans: 2 };
        let mae = Mae::zeros(&encoder, &plan.decoder_dims(), &device);
        assert_eq!(mae.num_params() as u64, dims.mae_params());
    }
    let dims = Dims { model: &plan, input_size: 20.into(), in_chans: 2 };
    for global_pool in [false, true] {
        let vit = Vit::zeros(&encoder, 7, global_pool, &device);
        assert_eq!(vit.num_params() as u64, dims.classifier_params(7));
    }
}
