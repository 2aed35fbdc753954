//! Tests: all ways to run a pass give the same loss and gradients.

use super::{BackwardMode, Chain, mae_chain, vit_chain};
use crate::model::{self, Mae, Masks, Vit};
use crate::shape::{DecoderDims, EncoderDims, LossPatches, MaeLoss, TrainedBlocks};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

const N: usize = 3;
const CLASSES: usize = 5;
const WEIGHT: f64 = 0.3;

fn encoder() -> EncoderDims {
    EncoderDims {
        input_size: crate::shape::ImageSize::square(8),
        patch_size: 2,
        in_chans: 3,
        embed_dim: 16,
        depth: 3,
        num_heads: 2,
        mlp_dim: 24,
        norm_eps: 1e-6,
        precision: crate::shape::Precision::Fp32,
    }
}

/// Returns irregular numbers between -1 and 1.
fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i * 7919 % 2003) as f32 / 1001.0 - 1.0).collect()
}

fn imgs(device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(numbers(N * 3 * 8 * 8), [N, 3, 8, 8]), device)
}

/// Returns the number of gradient values in each section of the backward pass, the loss, and the gradients.
fn results<M: Module + 'static>(
    module: &M,
    chain: Chain<M>,
    mode: BackwardMode,
) -> (Vec<usize>, Tensor<1>, Vec<Tensor<1>>) {
    let mut sections = Vec::new();
    let mut grads: Vec<Option<Tensor<1>>> =
        model::trainable_names(module).iter().map(|_| None).collect();
    let loss = chain.forward(module, mode).backward(|section| {
        sections.push(section.iter().map(|(_, grad)| grad.dims()[0]).sum());
        for (place, grad) in section {
            assert!(grads[place].replace(grad).is_none(), "{place} is in two sections");
        }
    });
    (
        sections,
        loss,
        grads.into_iter().map(|grad| grad.expect("every parameter has a gradient")).collect(),
    )
}

/// Asserts that every [`BackwardMode`] gives the same bits as one backward pass.
///
/// `sections` is the expected number of sections for `BackwardMode::Sections(1)`.
fn assert_same<M: Module + 'static>(
    module: &M,
    loss: impl FnOnce(&M) -> Tensor<1>,
    chain: impl Fn() -> Chain<M>,
    sections: usize,
) {
    let replica = module.clone().train();
    let loss = loss(&replica);
    let mut found = loss.backward();
    let expected = model::grads(&replica, &mut found);
    let loss = loss.inner().into_data();
    let names = model::trainable_names(module);
    let trained: usize = expected.iter().map(|grad| grad.dims()[0]).sum();
    for mode in [
        BackwardMode::Whole,
        BackwardMode::Sections(1),
        BackwardMode::Sections(trained / 3),
        BackwardMode::Recomputed,
    ] {
        let (sizes, total, grads) = results(module, chain(), mode);
        assert_eq!(sizes.iter().sum::<usize>(), trained);
        match mode {
            BackwardMode::Whole => assert_eq!(sizes.len(), 1),
            BackwardMode::Sections(1) => assert_eq!(sizes.len(), sections),
            BackwardMode::Sections(values) => {
                let [full @ .., _] = &sizes[..] else { panic!("a pass has a section") };
                assert!(full.iter().all(|size| *size >= values), "{sizes:?}, not {values}");
                assert_eq!(full.is_empty(), sections == 1, "{sizes:?}");
            }
            BackwardMode::Recomputed => {
                assert!((sections..=sections + 1).contains(&sizes.len()));
            }
        }
        assert_eq!(total.into_data(), loss, "{mode:?}");
        for ((name, grad), expected) in names.iter().zip(grads).zip(&expected) {
            let values: Vec<f32> = grad.into_data().try_into_vec().unwrap();
            let expected: Vec<f32> = expected.clone().into_data().try_into_vec().unwrap();
            assert!(values.iter().any(|v| *v != 0.0), "{name} has no gradient");
            assert_eq!(values, expected, "{mode:?}: {name}");
        }
    }
}

#[test]
fn every_mode_of_a_mae_gives_the_same_loss_and_gradients() {
    let device = Device::flex();
    let masks = Masks::from_noise(&numbers(N * 16), 16, 0.75);
    let all = MaeLoss { patches: LossPatches::All, ..MaeLoss::masked(false) };
    let cases = [(MaeLoss::masked(false), false), (MaeLoss::masked(true), false), (all, true)];
    for (loss, encoder_mask_token) in cases {
        let shape =
            DecoderDims { embed_dim: 12, depth: 2, num_heads: 3, mlp_dim: 20, encoder_mask_token };
        let mae = model::init_mae(Mae::zeros(&encoder(), &shape, &device), 1);
        let chain = || mae_chain(&mae, imgs(&device), &masks, loss).weighted(WEIGHT);
        let whole = |mae: &Mae| {
            let Chain { stem, links, head, .. } = chain();
            head(mae, links.iter().fold(stem(mae), |x, link| link(mae, x)))
        };
        assert_same(&mae, whole, chain, 3 + 1 + 2 + 1);
        assert_close(&mae, mae_chain(&mae, imgs(&device), &masks, loss), |mae| {
            mae.forward(imgs(&device), &masks, loss).loss
        });
    }
}

/// Asserts that a chain has the loss and the gradients of `loss`, up to rounding.
fn assert_close(mae: &Mae, chain: Chain<Mae>, loss: impl Fn(&Mae) -> Tensor<1>) {
    let replica = mae.clone().train();
    let loss = loss(&replica);
    let mut expected = model::grads(&replica, &mut loss.backward());
    expected.push(loss.inner());
    let (_, loss, mut grads) = results(mae, chain, BackwardMode::Whole);
    grads.push(loss);
    for (grad, expected) in grads.into_iter().zip(expected) {
        let largest = expected.clone().abs().max().into_scalar::<f32>();
        let difference = (grad - expected).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-5 * largest, "{difference} of {largest}");
    }
}

#[test]
fn every_mode_of_a_vit_gives_the_same_loss_and_gradients() {
    let device = Device::flex();
    let factors: Vec<f32> = (0..N * 6).map(|i| if i % 4 == 1 { 0.0 } else { 1.25 }).collect();
    let factors = Tensor::<2>::from_data(TensorData::new(factors, [N, 6]), &device);
    let mean = |logits: Tensor<2>| logits.square().mean();
    let loss = |logits| mean(logits) * WEIGHT;
    for global_pool in [false, true] {
        let vit = model::init_vit(Vit::zeros(&encoder(), CLASSES, global_pool, &device), 1);
        let dropped = || vit_chain(&vit, imgs(&device), Some(&factors), mean).weighted(WEIGHT);
        let plain = |vit: &Vit| loss(vit.forward_drop_path(imgs(&device), &factors));
        assert_same(&vit, plain, dropped, 3 + 1);
        let last = |blocks, sections| (TrainedBlocks::Last(blocks), sections);
        let half = (TrainedBlocks::HalfOfLast, 1);
        for (trained, sections) in [last(0, 1), half, last(1, 1), last(2, 2), last(3, 4)] {
            let vit = vit.clone().freeze_below(trained);
            let chain = || vit_chain(&vit, imgs(&device), None, mean).weighted(WEIGHT);
            assert_same(&vit, |vit| loss(vit.forward(imgs(&device))), chain, sections);
        }
    }
}
