//! In which numbers a network computes: decided here, for every layer.
//!
//! With bf16 it is PyTorch's autocast: matrix products take and give bf16 (and sum in fp32), and what lies between two
//! products stays bf16; the residual stream, `LayerNorm`, softmax, GELU's inside and losses are fp32 (the backward pass of
//! softmax starts from its bf16 result, where autocast keeps it in fp32, too). Weights are fp32 and
//! cast where they are used, so their gradients, the optimizer and everything that is saved are fp32, too.

use crate::ops;
use crate::shape::Precision;
use burn::tensor::{FloatDType, Tensor};

impl Precision {
    /// As a product takes it.
    pub(super) fn narrow<const R: usize>(self, x: Tensor<R>) -> Tensor<R> {
        match self {
            Self::Fp32 => x,
            Self::Bf16 => x.cast(FloatDType::BF16),
        }
    }

    /// `x wᵀ + bias` as a product gives it, of any `x` `[.., in]` and `w` `[out, in]`.
    pub(super) fn linear<const R: usize>(
        self,
        x: Tensor<R>,
        weight: Tensor<2>,
        bias: Tensor<1>,
    ) -> Tensor<R> {
        ops::linear(self.narrow(x), self.narrow(weight).transpose(), self.narrow(bias))
    }

    /// As everything but products takes it.
    pub(super) fn wide<const R: usize>(self, x: Tensor<R>) -> Tensor<R> {
        match self {
            Self::Fp32 => x,
            Self::Bf16 => x.cast(FloatDType::F32),
        }
    }
}
