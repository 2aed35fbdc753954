//! The official random initialisation of parameters, computed on the CPU.
//!
//! The random numbers depend only on the seed and the parameter's name. So a new layer does not change other layers.

use super::mae::Mae;
use super::params::apply;
use super::probe::ProbeHead;
use super::vit::Vit;
use crate::random::{Key, NO_STAGE, Purpose};
use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

enum Init {
    /// Keeps the current values, such as zeros.
    Keep,
    /// Normal distribution with mean 0 and this standard deviation.
    Normal(f64),
    /// Uniform distribution between `-bound` and `bound`.
    Uniform(f64),
}

/// Initialises a masked autoencoder as the official code does.
///
/// - Linear layers and the patch embedding: Xavier uniform.
/// - Class token and mask token: normal with a standard deviation of 0.02.
/// - Bias of the patch embedding: uniform in ±1/sqrt(`fan_in`), PyTorch's default.
/// - Other biases: zero.
pub fn init_mae(mae: Mae, seed: u64) -> Mae {
    initialise(mae, seed, |name, shape, fan_in| match name {
        "cls_token" | "mask_token" | "encoder_mask_token" => Init::Normal(0.02),
        "patch_embed.proj.bias" => Init::Uniform(fan_in.powf(-0.5)),
        _ if name.ends_with(".weight") && shape.len() >= 2 => {
            Init::Uniform((6.0 / (fan_in + shape[0] as f64)).sqrt())
        }
        _ => Init::Keep,
    })
}

/// Initialises a classifier from scratch, as timm 0.3.2 does.
///
/// - Linear layers, class token and position embeddings: normal with a standard deviation of 0.02.
/// - Patch embedding: uniform in ±1/sqrt(`fan_in`), PyTorch's default.
/// - Biases of linear layers: zero.
pub fn init_vit(vit: Vit, seed: u64) -> Vit {
    initialise(vit, seed, |name, shape, fan_in| match name {
        "cls_token" | "pos_embed" => Init::Normal(0.02),
        "patch_embed.proj.weight" | "patch_embed.proj.bias" => Init::Uniform(fan_in.powf(-0.5)),
        _ if name.ends_with(".weight") && shape.len() == 2 => Init::Normal(0.02),
        _ => Init::Keep,
    })
}

/// Initialises only the classification head, for a pre-trained encoder.
///
/// The weight is normal with a standard deviation of 2e-5. The bias is zero.
pub fn init_head(vit: Vit, seed: u64) -> Vit {
    initialise(vit, seed, |name, _, _| match name {
        "head.weight" => Init::Normal(2e-5),
        _ => Init::Keep,
    })
}

/// Initialises the head of a linear probe.
///
/// The weight is normal with a standard deviation of 0.01. The bias is zero.
pub fn init_probe_head(head: ProbeHead, seed: u64) -> ProbeHead {
    initialise(head, seed, |name, _, _| match name {
        "head.weight" => Init::Normal(0.01),
        _ => Init::Keep,
    })
}

/// Initialises all parameters. `rule` returns the distribution for a name, a shape and a fan-in.
///
/// A bias has the same fan-in as the weight of its layer.
fn initialise<M: Module>(module: M, seed: u64, rule: impl Fn(&str, &[usize], f64) -> Init) -> M {
    let key = Key { seed, stage: NO_STAGE, epoch: 0 };
    let mut fan_in = 1.0; // the module tree visits a layer's weight before its bias
    apply(module, |name, shape, values| {
        if name.ends_with(".weight") {
            fan_in = shape[1..].iter().product::<usize>() as f64;
        }
        let mut rng = key.rng(stream_of(name), Purpose::Init);
        let count = shape.iter().product();
        let drawn: Vec<f32> = match rule(name, shape, fan_in) {
            Init::Keep => return None,
            Init::Normal(std) => (0..count)
                .map(|_| {
                    let x: f64 = StandardNormal.sample(&mut rng);
                    (x * std) as f32
                })
                .collect(),
            Init::Uniform(bound) => {
                (0..count).map(|_| rng.random_range(-bound..=bound) as f32).collect()
            }
        };
        Some(Tensor::from_data(TensorData::new(drawn, [count]), &values.device()))
    })
}

/// Returns the FNV-1a hash of a parameter's name. If this hash changed, all initial weights would change.
fn stream_of(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
