//! The tolerances of `mae verify`.

use crate::shape::Precision;

/// The tolerances for one kind of device and one precision.
///
/// The expected numbers were computed in float64. In float32, the official code differs from them by 1.3e-6 in losses
/// and outputs, and by 1e-6 in gradients.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Tolerances {
    /// Precision of the networks.
    pub precision: Precision,
    /// Tolerance of network outputs, relative to the tensor's largest expected value.
    pub forward: f64,
    /// Relative tolerance of losses.
    pub loss: f64,
    /// Tolerance of gradients, relative to the tensor's largest expected value.
    pub gradient: f64,
    /// Absolute tolerance of parameters after a few updates. For bf16 and fp16, see [`Self::BF16`].
    ///
    /// Key biases have a larger tolerance, because the gradient of a key bias is only rounding noise.
    pub parameter: f64,
    /// Relative tolerance of learning rates.
    pub schedule: f64,
    /// Absolute tolerance of position embeddings.
    pub pos_embed: f64,
    /// Tolerance of resized position embeddings, relative to the largest expected value.
    ///
    /// This number is multiplied by the number of patches per side of the original grid. The reason: this program
    /// computes coordinates in float64, but torch in float32. The rounding error of float32 grows with the coordinate,
    /// and depends on the processor (fused multiply-add). For 465 pairs of grids from 7 to 48 patches per side, torch
    /// in float32 differs from torch in float64 by up to 1.8e-7 times the patches per side.
    pub pos_embed_resize: f64,
}

impl Tolerances {
    /// Tolerances for float32 on the CPU.
    pub const CPU: Self = Self {
        precision: Precision::Fp32,
        forward: 1e-5,
        loss: 1e-5,
        gradient: 5e-5,
        parameter: 5e-6,
        schedule: 1e-9,
        pos_embed: 1e-6,
        pos_embed_resize: 2.5e-7,
    };

    /// Tolerances for float32 on a GPU without TF32: ten times those of [`Self::CPU`].
    ///
    /// A GPU adds numbers in a different order than the CPU.
    pub const GPU: Self = Self {
        forward: 10.0 * Self::CPU.forward,
        loss: 10.0 * Self::CPU.loss,
        gradient: 10.0 * Self::CPU.gradient,
        parameter: 10.0 * Self::CPU.parameter,
        ..Self::CPU
    };

    /// Tolerances for fp16 on any device. fp16 has 11 significant bits, 3 more than bf16.
    ///
    /// `mae verify` uses no loss scaling.
    pub const FP16: Self = Self {
        precision: Precision::Fp16,
        forward: 5e-3,
        loss: 5e-4,
        gradient: 1e-2,
        parameter: 0.1,
        ..Self::CPU
    };

    /// Tolerances for bf16 on any device. bf16 has 8 significant bits.
    ///
    /// On the CPU, forward passes differed by up to 2.3e-2, losses by up to 9e-4 and gradients by up to 2.9e-2.
    ///
    /// For parameters, the tolerance limits the mean difference, relative to the sum of the learning rates so far.
    /// Adam's first updates move a parameter by the full learning rate in the direction of its gradient. The sign of a
    /// gradient near 0 is noise. So in a tensor of fewer than 20 values, one value may move in the wrong direction
    /// without a failure.
    pub const BF16: Self = Self {
        precision: Precision::Bf16,
        forward: 3e-2,
        loss: 2e-3,
        gradient: 5e-2,
        parameter: 0.1,
        ..Self::CPU
    };
}
