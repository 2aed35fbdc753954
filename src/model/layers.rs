//! The two layers everything is made of, with the official layout: weights `[out, in]`.

use crate::ops;
use crate::shape::Precision;
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

/// `y = x Wᵀ + b`, the weight stored `[out, in]` as PyTorch stores it.
#[derive(Module, Debug)]
pub struct Linear {
    pub weight: Param<Tensor<2>>,
    pub bias: Param<Tensor<1>>,
    #[module(skip)]
    precision: Precision,
}

impl Linear {
    /// Allocates zeros; [`super::init_mae`] and [`super::init_vit`] give the values.
    pub fn zeros(d_in: usize, d_out: usize, precision: Precision, device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::zeros([d_out, d_in], device)),
            bias: Param::from_tensor(Tensor::zeros([d_out], device)),
            precision,
        }
    }

    /// Maps `[.., in]` to fp32 `[.., out]`.
    pub fn forward<const R: usize>(&self, x: Tensor<R>) -> Tensor<R> {
        self.precision.wide(self.forward_narrow(x))
    }

    /// Maps `[.., in]` to `[.., out]` in the numbers of products: for the product that follows.
    pub(super) fn forward_narrow<const R: usize>(&self, x: Tensor<R>) -> Tensor<R> {
        self.precision.linear(x, self.weight.val(), self.bias.val())
    }
}

/// Layer normalization over the last axis, with the biased variance, in fp32.
#[derive(Module, Debug)]
pub struct LayerNorm {
    pub weight: Param<Tensor<1>>,
    pub bias: Param<Tensor<1>>,
    #[module(skip)]
    eps: f64,
}

impl LayerNorm {
    /// Allocates ones and zeros, the official initial values.
    pub fn new(width: usize, eps: f64, device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::ones([width], device)),
            bias: Param::from_tensor(Tensor::zeros([width], device)),
            eps,
        }
    }

    /// Normalizes each row of `[.., D]`.
    pub fn forward<const R: usize>(&self, x: Tensor<R>) -> Tensor<R> {
        ops::layer_norm(x, self.weight.val(), self.bias.val(), self.eps)
    }
}
