//! The tolerances of `mae verify`.

use crate::shape::Precision;

/// The tolerances for a kind of device and a precision.
///
/// The expected numbers were computed in float64. The official code in float32 differs from them by 1.3e-6 in forward
/// passes and losses, 1e-6 in gradients (1.5e-5 for flat patches) and 3e-7 in parameters after five updates.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Tolerances {
    /// The precision of the networks.
    pub precision: Precision,
    /// Forward passes, relative to the tensor's largest entry.
    pub forward: f64,
    /// Losses, relative.
    pub loss: f64,
    /// Gradients, relative to the tensor's largest entry.
    pub gradient: f64,
    /// Parameters after a few updates, absolute.
    ///
    /// Key biases may differ by the sum of the learning rates so far. Softmax ignores them, so their gradient is rounding
    /// noise, and Adam scales it up to a full step.
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

    /// float32 on a GPU with full float32 products: ten times the tolerances of the CPU.
    ///
    /// A GPU adds in a different order, so it rounds differently. Values computed on the host keep their tolerance.
    pub const GPU: Self = Self {
        forward: 10.0 * Self::CPU.forward,
        loss: 10.0 * Self::CPU.loss,
        gradient: 10.0 * Self::CPU.gradient,
        parameter: 10.0 * Self::CPU.parameter,
        ..Self::CPU
    };

    /// bf16 on any device, with 8 significant bits.
    ///
    /// On the CPU, forward passes differed by up to 2.3e-2, losses by 9e-4 and gradients by 2.9e-2. For parameters the limit
    /// is on the mean difference, as a share of the sum of the learning rates so far. Adam's first updates move a parameter
    /// by the full learning rate in the direction of its gradient, and the sign of a gradient near 0 is noise.
    pub const BF16: Self = Self {
        precision: Precision::Bf16,
        forward: 3e-2,
        loss: 2e-3,
        gradient: 5e-2,
        parameter: 0.1,
        ..Self::CPU
    };
}
