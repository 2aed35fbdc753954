//! The linear layer and the layer normalization of all networks.

use crate::ops;
use crate::shape::Precision;
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

/// A linear layer, `y = x Wᵀ + b`. The weight is `[out, in]`, as in PyTorch.
#[derive(Module, Debug)]
pub struct Linear {
    pub weight: Param<Tensor<2>>,
    pub bias: Param<Tensor<1>>,
    #[module(skip)]
    pub(super) precision: Precision,
}

impl Linear {
    /// Creates a layer with zero weights.
    pub fn zeros(d_in: usize, d_out: usize, precision: Precision, device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::zeros([d_out, d_in], device)),
            bias: Param::from_tensor(Tensor::zeros([d_out], device)),
            precision,
        }
    }

    /// Applies the layer to `[.., in]`. Returns fp32 `[.., out]`.
    pub fn forward<const R: usize>(&self, x: Tensor<R>) -> Tensor<R> {
        self.precision.wide(self.forward_narrow(x))
    }

    /// Does the same as [`Linear::forward`], but in bf16 and fp16, the result keeps this precision.
    pub(super) fn forward_narrow<const R: usize>(&self, x: Tensor<R>) -> Tensor<R> {
        self.precision.linear(x, self.weight.val(), self.bias.val())
    }

    /// Returns the GELU of [`Linear::forward_narrow`].
    pub(super) fn forward_gelu<const R: usize>(&self, x: Tensor<R>) -> Tensor<R> {
        self.precision.linear_gelu(x, self.weight.val(), self.bias.val())
    }

    /// Returns `residual + forward(x)`.
    pub(super) fn forward_residual<const R: usize>(
        &self,
        x: Tensor<R>,
        residual: Tensor<R>,
    ) -> Tensor<R> {
        self.precision.linear_residual(x, self.weight.val(), self.bias.val(), residual)
    }

    /// Returns `residual + scale * forward(x)`. `scale` is `[N, 1, 1]`.
    pub(super) fn forward_scaled(
        &self,
        x: Tensor<3>,
        residual: Tensor<3>,
        scale: Tensor<3>,
    ) -> Tensor<3> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        self.precision.linear_scaled(x, weight, bias, residual, scale)
    }
}

/// Layer normalization over the last axis, in fp32, with the biased variance.
#[derive(Module, Debug)]
pub struct LayerNorm {
    pub weight: Param<Tensor<1>>,
    pub bias: Param<Tensor<1>>,
    #[module(skip)]
    pub(super) eps: f64,
}

impl LayerNorm {
    /// Creates a layer with weight 1 and bias 0.
    pub fn new(width: usize, eps: f64, device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::ones([width], device)),
            bias: Param::from_tensor(Tensor::zeros([width], device)),
            eps,
        }
    }

    /// Normalizes the last axis of `[.., D]`, and then applies weight and bias.
    pub fn forward<const R: usize>(&self, x: Tensor<R>) -> Tensor<R> {
        ops::layer_norm(x, self.weight.val(), self.bias.val(), self.eps)
    }
}
