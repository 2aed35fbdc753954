//! How far is too far.

/// The tolerances of a device and precision, and why they are what they are.
///
/// The cases are computed in float64. The official code itself, run in float32, is 1.3e-6 away in forward passes and
/// losses, 1e-6 in gradients (1.5e-5 where patches are flat) and 3e-7 in parameters after five updates.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Tolerances {
    /// Forward passes and losses, relative to the tensor's largest entry.
    pub forward: f64,
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
    pub const CPU: Self =
        Self { forward: 1e-5, gradient: 5e-5, parameter: 5e-6, schedule: 1e-9, pos_embed: 1e-6 };

    /// float32 on a GPU whose products are true float32: ten times the CPU's, as other orders of summation round
    /// otherwise. What is computed on the host keeps its tolerance.
    pub const GPU: Self = Self {
        forward: 10.0 * Self::CPU.forward,
        gradient: 10.0 * Self::CPU.gradient,
        parameter: 10.0 * Self::CPU.parameter,
        ..Self::CPU
    };
}
