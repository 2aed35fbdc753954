//! The linear probe's head: `BatchNorm` without affine parameters, then a linear layer.

use super::layers::Linear;
use crate::shape::Precision;
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

/// Epsilon of the `BatchNorm` in a linear probe, from the official code.
pub const BN_EPS: f64 = 1e-6;
/// Weight of a new batch in the running statistics, as in PyTorch.
pub const BN_MOMENTUM: f64 = 0.1;

/// Head of a linear probe: `BatchNorm`, then a linear layer.
///
/// Checkpoints store the running statistics of `BatchNorm`, which have no gradient.
#[derive(Module, Debug)]
pub struct ProbeHead {
    pub running_mean: Param<Tensor<1>>,
    pub running_var: Param<Tensor<1>>,
    pub head: Linear,
}

impl ProbeHead {
    /// Creates a head with zero weights.
    pub fn zeros(width: usize, classes: usize, precision: Precision, device: &Device) -> Self {
        let untrained = |t: Tensor<1>| Param::from_tensor(t).set_require_grad(false);
        Self {
            running_mean: untrained(Tensor::zeros([width], device)),
            running_var: untrained(Tensor::ones([width], device)),
            head: Linear::zeros(width, classes, precision, device),
        }
    }

    /// Returns the logits `[N, C]` of features `[N, D]`, for evaluation.
    ///
    /// `BatchNorm` uses the running statistics.
    pub fn forward(&self, features: Tensor<2>) -> Tensor<2> {
        let mean = self.running_mean.val().unsqueeze::<2>();
        let scale = (self.running_var.val() + BN_EPS).sqrt().unsqueeze::<2>();
        self.head.forward((features - mean) / scale)
    }

    /// Returns the logits `[N, C]` of features `[N, D]`, for training.
    ///
    /// `BatchNorm` uses the mean and variance of the micro-batch.
    pub fn forward_train(&self, features: Tensor<2>) -> Tensor<2> {
        let (mean, var) = batch_statistics(features.clone());
        self.head.forward((features - mean) / (var + BN_EPS).sqrt())
    }

    /// Returns the mean `[D]` and the unbiased variance `[D]` of features `[N, D]`.
    ///
    /// Running statistics use the unbiased variance, as in PyTorch.
    pub fn statistics(features: Tensor<2>) -> [Tensor<1>; 2] {
        let n = features.dims()[0] as f64;
        let (mean, var) = batch_statistics(features);
        let unbiased = var * (n / (n - 1.0).max(1.0));
        [mean.squeeze_dim(0), unbiased.squeeze_dim(0)]
    }

    /// Updates the running statistics with the mean and variance from [`ProbeHead::statistics`].
    #[must_use]
    pub fn observe(mut self, [mean, var]: [Tensor<1>; 2]) -> Self {
        let step = |old: Tensor<1>, new| old * (1.0 - BN_MOMENTUM) + new * BN_MOMENTUM;
        self.running_mean = self.running_mean.map(|old| step(old, mean));
        self.running_var = self.running_var.map(|old| step(old, var));
        self
    }
}

/// Returns the mean `[1, D]` and the biased variance `[1, D]` over the batch.
fn batch_statistics(features: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    let mean = features.clone().mean_dim(0);
    let var = (features - mean.clone()).square().mean_dim(0);
    (mean, var)
}

/// Pairs of a tensor name in [`ProbeHead`] and its official name.
const OFFICIAL_NAMES: [(&str, &str); 4] = [
    ("running_mean", "head.0.running_mean"),
    ("running_var", "head.0.running_var"),
    ("head.weight", "head.1.weight"),
    ("head.bias", "head.1.bias"),
];

/// Returns the official name of a tensor of [`ProbeHead`].
pub fn official_probe_name(name: &str) -> &str {
    OFFICIAL_NAMES.iter().find(|(own, _)| *own == name).map_or(name, |(_, official)| official)
}
