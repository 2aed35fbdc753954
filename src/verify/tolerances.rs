//! How far is too far.

use crate::shape::Precision;

/// The tolerances of a device and precision, and why they are what they are.
///
/// The cases are computed in float64. The official code itself, run in float32, is 1.3e-6 away in forward passes and
/// losses, 1e-6 in gradients (1.5e-5 where patches are flat) and 3e-7 in parameters after five updates.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Tolerances {
    /// What the networks compute in.
    pub precision: Precision,
    /// Forward passes, relative to the tensor's largest entry.
    pub forward: f64,
    /// Losses, likewise.
    pub loss: f64,
    /// Gradients, likewise.
    pub gradient: f64,
    /// Parameters after a few updates, absolute. Key biases may be off by the sum of the rates so far: softmax ignores
    /// them, so their gradient is rounding noise, which Adam scales up to the whole rate.
    pub parameter: f64,
    /// Learning rates, relative.
    pub schedule: f64,
    /// Position embeddings, absolute.
    pub pos_embed: f64,
}

impl Tolerances {
    /// float32 on the CPU.
    pub const CPU: Self = Self {
        precision: Precision::Fp32,
        forward: 1e-5,
        loss: 1e-5,
        gradient: 5e-5,
        parameter: 5e-6,
        schedule: 1e-9,
        pos_embed: 1e-6,
    };

    /// float32 on a GPU whose products are true float32: ten times the CPU's, as other orders of summation round
    /// otherwise. What is computed on the host keeps its tolerance.
    pub const GPU: Self = Self {
        forward: 10.0 * Self::CPU.forward,
        loss: 10.0 * Self::CPU.loss,
        gradient: 10.0 * Self::CPU.gradient,
        parameter: 10.0 * Self::CPU.parameter,
        ..Self::CPU
    };

    /// bf16 on any device: a number has 8 bits. On the CPU forward passes were seen up to 2.3e-2 away, losses 9e-4,
    /// gradients 2.9e-2.
    ///
    /// Parameters are held by their mean distance, as a share of the sum of the rates so far: Adam's first updates move
    /// each by the whole rate in the direction of its gradient, and of a gradient near 0 even the sign is noise.
    pub const BF16: Self = Self {
        precision: Precision::Bf16,
        forward: 3e-2,
        loss: 2e-3,
        gradient: 5e-2,
        parameter: 0.1,
        ..Self::CPU
    };
}
