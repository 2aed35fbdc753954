//! Gradient checkpointing: the backward pass recomputes each block's activations, so that one block's at a time are kept.
//!
//! The forward pass records nothing and keeps what enters each block, `[N, L, D]`. Then it goes backwards in parts, each
//! recorded from an input that is a leaf: the last layers and the loss, the blocks from the last to the first, what lies
//! before them. The numbers are those of one pass through all, on the CPU to the bit: each part runs the same operations on
//! the same values, and its gradients start from those that the part behind it gave.

use super::block::Block;
use super::mae::Mae;
use super::mae::MaskRows;
use super::mae::without_class_token;
use super::masking::Masks;
use super::params::PartialGrads;
use super::vit::Vit;
use super::vit::branch_factors;
use burn::module::Module;
use burn::tensor::Tensor;

/// Runs [`Mae::forward`] and backward; gives its loss times `weight`, `[1]`, and the gradients of that.
///
/// `mae` is without autodiff, and so is what comes; the gradients are those of [`super::grads`].
pub fn mae_backward(
    mae: &Mae,
    imgs: Tensor<4>,
    masks: &Masks,
    norm_pix_loss: bool,
    weight: f64,
) -> (Tensor<1>, Vec<Tensor<1>>) {
    let rows = MaskRows::new(masks, &imgs.device());
    let block = |_: usize, block: &Block, x: Tensor<3>| block.forward(x);
    let bridge = |mae: &Mae, x: Tensor<3>| mae.decoder_tokens(mae.norm.forward(x), &rows);

    let still = unrecorded(mae);
    let x = still.encoder_tokens(imgs.clone(), &rows);
    let (encoder_inputs, encoded) = forward_blocks(&still.blocks, x, block);
    let x = bridge(&still, encoded.clone());
    let (decoder_inputs, decoded) = forward_blocks(&still.decoder_blocks, x, block);

    let mut grads = PartialGrads::default();
    let (loss, upstream) = part_backward(mae, "", decoded, &mut grads, |mae, x| {
        let pred = without_class_token(mae.predict(x));
        mae.score(pred, imgs.clone(), &rows, norm_pix_loss) * weight
    });
    let decoder = ("decoder_blocks", &mae.decoder_blocks[..], 0);
    let upstream = backward_blocks(decoder, decoder_inputs, upstream, &mut grads, block);
    let (_, upstream) =
        part_backward(mae, "", encoded, &mut grads, |mae, x| (bridge(mae, x) * upstream).sum());
    let encoder = ("blocks", &mae.blocks[..], 0);
    let upstream = backward_blocks(encoder, encoder_inputs, upstream, &mut grads, block);
    stem_backward(mae, &mut grads, |mae| (mae.encoder_tokens(imgs, &rows) * upstream).sum());
    (loss, grads.of_whole(mae))
}

/// Runs [`Vit::forward`] and backward, or with `factors` [`Vit::forward_drop_path`].
///
/// `loss` makes a scalar `[1]` of the logits `[N, C]`; that and its gradients come, as from [`mae_backward`].
pub fn vit_backward(
    vit: &Vit,
    imgs: Tensor<4>,
    factors: Option<&Tensor<2>>,
    loss: impl FnOnce(Tensor<2>) -> Tensor<1>,
) -> (Tensor<1>, Vec<Tensor<1>>) {
    let block = |i: usize, block: &Block, x: Tensor<3>| match factors {
        Some(factors) => {
            let [attn, mlp] = branch_factors(factors, i);
            block.forward_drop_path(x, attn, mlp)
        }
        None => block.forward(x),
    };
    let still = unrecorded(vit);
    let (inputs, encoded) = forward_blocks(&still.blocks, still.tokens(imgs.clone()), block);
    let mut grads = PartialGrads::default();
    let (loss, upstream) =
        part_backward(vit, "", encoded, &mut grads, |vit, x| loss(vit.classify(x)));
    let frozen = vit.frozen_blocks();
    let trained = ("blocks", &vit.blocks[..], frozen);
    let upstream = backward_blocks(trained, inputs, upstream, &mut grads, block);
    if frozen == 0 {
        stem_backward(vit, &mut grads, |vit| (vit.tokens(imgs) * upstream).sum());
    }
    (loss, grads.of_whole(vit))
}

/// Gives a replica whose forward pass records nothing for a backward pass.
///
/// It has autodiff all the same: without, the CPU takes other kernels (softmax, layer norm), which round differently.
fn unrecorded<M: Module>(module: &M) -> M {
    module.clone().no_grad().train()
}

/// Gives what enters each block, and what the last one gives, without autodiff.
fn forward_blocks(
    blocks: &[Block],
    x: Tensor<3>,
    forward: impl Fn(usize, &Block, Tensor<3>) -> Tensor<3>,
) -> (Vec<Tensor<3>>, Tensor<3>) {
    let mut inputs = Vec::with_capacity(blocks.len());
    let last = blocks.iter().enumerate().fold(x.inner(), |x, (i, block)| {
        inputs.push(x.clone());
        forward(i, block, x.autodiff()).inner()
    });
    (inputs, last)
}

/// Goes from the last block down to the one after `frozen`; from the gradient of what the last one gives to that of what
/// enters that one.
///
/// The blocks come with their path in the module tree.
fn backward_blocks(
    (path, blocks, frozen): (&str, &[Block], usize),
    mut inputs: Vec<Tensor<3>>,
    mut upstream: Tensor<3>,
    grads: &mut PartialGrads,
    forward: impl Fn(usize, &Block, Tensor<3>) -> Tensor<3>,
) -> Tensor<3> {
    while inputs.len() > frozen
        && let Some(input) = inputs.pop()
    {
        let i = inputs.len(); // of the block it entered
        let scalar = |block: &Block, x| (forward(i, block, x) * upstream).sum();
        (_, upstream) = part_backward(&blocks[i], &format!("{path}.{i}"), input, grads, scalar);
    }
    upstream
}

/// Gives what `scalar` makes of a part of the network and its input, and the gradient of the input.
///
/// The scalar `(output * upstream).sum()` has the gradients of the loss where `upstream` is its gradient by the output.
fn part_backward<M: Module>(
    part: &M,
    path: &str,
    input: Tensor<3>,
    grads: &mut PartialGrads,
    scalar: impl FnOnce(&M, Tensor<3>) -> Tensor<1>,
) -> (Tensor<1>, Tensor<3>) {
    let replica = part.clone().train();
    let input = input.autodiff().require_grad();
    let scalar = scalar(&replica, input.clone());
    let mut found = scalar.backward();
    grads.take(path, &replica, &mut found);
    let downstream = input.grad_remove(&mut found).expect("the part's output depends on its input");
    (scalar.inner(), downstream)
}

/// Like [`part_backward`] for the part that has the images for its input.
fn stem_backward<M: Module>(
    module: &M,
    grads: &mut PartialGrads,
    scalar: impl FnOnce(&M) -> Tensor<1>,
) {
    let replica = module.clone().train();
    let mut found = scalar(&replica).backward();
    grads.take("", &replica, &mut found);
}

#[cfg(test)]
mod tests {
    use super::mae_backward;
    use super::vit_backward;
    use crate::model;
    use crate::model::DecoderDims;
    use crate::model::EncoderDims;
    use crate::model::Mae;
    use crate::model::Masks;
    use crate::model::Vit;
    use burn::module::Module;
    use burn::tensor::Device;
    use burn::tensor::Tensor;
    use burn::tensor::TensorData;

    const N: usize = 3;
    const CLASSES: usize = 5;
    const WEIGHT: f64 = 0.3;

    fn encoder() -> EncoderDims {
        EncoderDims {
            input_size: 8,
            patch_size: 2,
            in_chans: 3,
            embed_dim: 16,
            depth: 3,
            num_heads: 2,
            mlp_dim: 24,
            norm_eps: 1e-6,
            precision: crate::model::Precision::Fp32,
        }
    }

    /// Numbers in -1..1 without a pattern.
    fn numbers(count: usize) -> Vec<f32> {
        (0..count).map(|i| (i * 7919 % 2003) as f32 / 1001.0 - 1.0).collect()
    }

    fn imgs(device: &Device) -> Tensor<4> {
        Tensor::from_data(TensorData::new(numbers(N * 3 * 8 * 8), [N, 3, 8, 8]), device)
    }

    /// Holds a loss and gradients of recomputed activations against one pass through all, to the bit.
    fn assert_same<M: Module>(
        module: &M,
        loss: impl FnOnce(&M) -> Tensor<1>,
        (recomputed, grads): (Tensor<1>, Vec<Tensor<1>>),
    ) {
        let replica = module.clone().train();
        let loss = loss(&replica);
        let mut found = loss.backward();
        let expected = model::grads(&replica, &mut found);
        assert_eq!(recomputed.into_data(), loss.inner().into_data());
        let names = model::trainable_names(module);
        assert_eq!(grads.len(), names.len());
        for ((name, grad), expected) in names.iter().zip(grads).zip(expected) {
            let values: Vec<f32> = grad.into_data().try_into_vec().unwrap();
            let expected: Vec<f32> = expected.into_data().try_into_vec().unwrap();
            assert!(values.iter().any(|v| *v != 0.0), "{name} has no gradient");
            assert_eq!(values, expected, "{name}");
        }
    }

    #[test]
    fn a_recomputing_mae_has_the_same_loss_and_gradients() {
        let device = Device::flex();
        let decoder = DecoderDims { embed_dim: 12, depth: 2, num_heads: 3, mlp_dim: 20 };
        let mae = model::init_mae(Mae::zeros(&encoder(), &decoder, &device), 1);
        let masks = Masks::from_noise(&numbers(N * 16), 16, 0.75);
        for norm_pix_loss in [false, true] {
            let recomputed = mae_backward(&mae, imgs(&device), &masks, norm_pix_loss, WEIGHT);
            let loss = |mae: &Mae| mae.forward(imgs(&device), &masks, norm_pix_loss).loss * WEIGHT;
            assert_same(&mae, loss, recomputed);
        }
    }

    #[test]
    fn a_recomputing_vit_has_the_same_loss_and_gradients() {
        let device = Device::flex();
        let factors: Vec<f32> = (0..N * 6).map(|i| if i % 4 == 1 { 0.0 } else { 1.25 }).collect();
        let factors = Tensor::<2>::from_data(TensorData::new(factors, [N, 6]), &device);
        let loss = |logits: Tensor<2>| logits.square().mean() * WEIGHT;
        for global_pool in [false, true] {
            let vit = model::init_vit(Vit::zeros(&encoder(), CLASSES, global_pool, &device), 1);
            let recomputed = vit_backward(&vit, imgs(&device), None, loss);
            assert_same(&vit, |vit| loss(vit.forward(imgs(&device))), recomputed);
            let recomputed = vit_backward(&vit, imgs(&device), Some(&factors), loss);
            let plain = |vit: &Vit| loss(vit.forward_drop_path(imgs(&device), &factors));
            assert_same(&vit, plain, recomputed);
            for trained_blocks in [0, 1, 2] {
                let vit = vit.clone().freeze_below(trained_blocks);
                let recomputed = vit_backward(&vit, imgs(&device), None, loss);
                assert_same(&vit, |vit| loss(vit.forward(imgs(&device))), recomputed);
            }
        }
    }
}
