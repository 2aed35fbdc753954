//! Tests of the cost estimates, against the official models and sums by hand.

use super::super::sizes::ModelSize;
use super::*;

fn model(size: ModelSize) -> ModelPlan {
    let encoder = size.encoder();
    ModelPlan {
        patch_size: encoder.patch_size,
        embed_dim: encoder.embed_dim,
        depth: encoder.depth,
        num_heads: encoder.num_heads,
        mlp_ratio: 4.0,
        norm_eps: 1e-6,
        decoder_embed_dim: 512,
        decoder_depth: 8,
        decoder_num_heads: 16,
        encoder_mask_token: false,
    }
}

#[test]
fn parameter_counts_match_the_official_models() {
    for (size, mae, classifier) in [
        (ModelSize::Base, 111_907_840, 86_567_656),
        (ModelSize::Large, 329_541_888, 304_326_632),
        (ModelSize::Huge, 657_074_508, 632_045_800),
    ] {
        let model = model(size);
        let dims = Dims { model: &model, input_size: 224.into(), in_chans: 3 };
        assert_eq!(dims.mae_params(), mae);
        assert_eq!(dims.classifier_params(1000), classifier);
    }
}

#[test]
fn flops_match_published_figures() {
    let model = model(ModelSize::Base);
    let dims = Dims { model: &model, input_size: 224.into(), in_chans: 3 };
    // 12 encoder blocks with 50 tokens, 8 decoder blocks with 197, the patch embedding, and the decoder's two
    // projections.
    let encoder =
        12.0 * (24.0 * 50.0 * 589_824.0 + 4.0 * 2_500.0 * 768.0) + 2.0 * 196.0 * 589_824.0;
    let decoder = 8.0 * (24.0 * 197.0 * 262_144.0 + 4.0 * 38_809.0 * 512.0)
        + 2.0 * 50.0 * 768.0 * 512.0
        + 2.0 * 197.0 * 512.0 * 768.0;
    assert!((dims.mae_flops(49) - (encoder + decoder)).abs() < 1.0);
    // The last block computes 9 of its 12 products of [tokens, 512] and [512, 512] only for removed patches.
    let unneeded = 2.0 * 50.0 * (9.0 * 262_144.0 + 512.0 * 768.0);
    assert!((dims.unneeded_flops(49) - unneeded).abs() < 1.0);
    // The published figure for ViT-B/16 is 17.6 G multiply-adds with attention.
    assert!((dims.classifier_flops(1000) / 2e9 - 17.56).abs() < 0.1);
}

#[test]
fn with_recomputing_only_one_block_keeps_more_than_its_input() {
    let model = model(ModelSize::Base);
    let dims = Dims { model: &model, input_size: 224.into(), in_chans: 3 };
    let stacks = [dims.encoder_stack(49), dims.decoder_stack()];
    let bytes = |recompute, precision| dims.activations(&stacks, recompute, precision);
    // Per token of a block: 2 D values in fp32 and 14 D in bf16 (2 H = 8 D). Then the attention maps.
    let encoder = 50.0 * (4.0 * 2.0 + 2.0 * 14.0) * 768.0 + 2.0 * 12.0 * 2_500.0;
    let decoder = 197.0 * (4.0 * 2.0 + 2.0 * 14.0) * 512.0 + 2.0 * 16.0 * 38_809.0;
    let in_fp32 = 197.0 * 4.0 * 16.0 * 512.0 + 4.0 * 16.0 * 38_809.0;
    let inputs = 4.0 * (12.0 * 50.0 * 768.0 + 8.0 * 197.0 * 512.0);
    let all = 12.0 * encoder + 8.0 * decoder + in_fp32;
    assert!((bytes(false, Precision::Bf16) - all).abs() < 1.0);
    assert!((bytes(true, Precision::Bf16) - (inputs + decoder + in_fp32)).abs() < 1.0);
    assert!((bytes(true, Precision::Fp32) - (inputs + 2.0 * in_fp32)).abs() < 1.0);
}
