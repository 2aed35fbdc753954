//! The official initial values, drawn on the host from the counter-based generator.
//!
//! Each parameter has its own stream, named by (seed, parameter name): adding a layer changes no other's values.

use super::mae::Mae;
use super::params::apply;
use super::probe::ProbeHead;
use super::vit::Vit;
use crate::random::{Key, NO_STAGE, Purpose};
use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

/// How a parameter starts.
enum Init {
    /// As allocated: zeros, ones, or the fixed table.
    Keep,
    /// Normal with this standard deviation.
    Normal(f64),
    /// Uniform in ± this bound.
    Uniform(f64),
}

/// Initialises a MAE: Xavier-uniform linear layers and patch embedding (on its flattened matrix),
/// zero biases, tokens normal with 0.02; the patch embedding's bias keeps the convolution's
/// default, uniform in ±1/sqrt(`fan_in`) (official code, observed).
pub fn init_mae(mae: Mae, seed: u64) -> Mae {
    initialise(mae, seed, |name, shape, fan_in| match name {
        "cls_token" | "mask_token" => Init::Normal(0.02),
        "patch_embed.proj.bias" => Init::Uniform(fan_in.powf(-0.5)),
        _ if name.ends_with(".weight") && shape.len() >= 2 => {
            Init::Uniform((6.0 / (fan_in + shape[0] as f64)).sqrt())
        }
        _ => Init::Keep,
    })
}

/// Initialises a classifier that starts from nothing, as timm 0.3.2 does: linear layers, class
/// token and position embeddings normal with 0.02, zero biases, the patch embedding uniform in
/// ±1/sqrt(`fan_in`) (the convolution's default).
pub fn init_vit(vit: Vit, seed: u64) -> Vit {
    initialise(vit, seed, |name, shape, fan_in| match name {
        "cls_token" | "pos_embed" => Init::Normal(0.02),
        "patch_embed.proj.weight" | "patch_embed.proj.bias" => Init::Uniform(fan_in.powf(-0.5)),
        _ if name.ends_with(".weight") && shape.len() == 2 => Init::Normal(0.02),
        _ => Init::Keep,
    })
}

/// Gives a classifier that took a pre-trained encoder a fresh head: normal with 2e-5, zero bias.
pub fn init_head(vit: Vit, seed: u64) -> Vit {
    initialise(vit, seed, |name, _, _| match name {
        "head.weight" => Init::Normal(2e-5),
        _ => Init::Keep,
    })
}

/// Initialises the linear probe's head: normal with 0.01, zero bias.
pub fn init_probe_head(head: ProbeHead, seed: u64) -> ProbeHead {
    initialise(head, seed, |name, _, _| match name {
        "head.weight" => Init::Normal(0.01),
        _ => Init::Keep,
    })
}

/// Draws what `rule` says of each parameter's name, shape and fan-in (a bias has its weight's).
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

/// A number made of a parameter's name (FNV-1a), stable over versions.
fn stream_of(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
