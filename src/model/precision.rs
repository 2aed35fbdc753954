//! Arithmetic of every layer in fp32, bf16 or fp16.
//!
//! bf16 and fp16 follow PyTorch's autocast. Matrix products have narrow inputs and outputs and sum in fp32. Values between
//! two products stay narrow. The residual stream, `LayerNorm`, softmax, the inside of GELU and losses are fp32. One
//! difference from autocast: the backward pass of softmax uses the narrow result of softmax, not the fp32 result. The
//! training loop scales the loss in fp16.
//!
//! Weights stay fp32, and each use casts them. So gradients, optimizer state and checkpoints are fp32.

use crate::ops;
use crate::shape::Precision;
#[cfg(feature = "gpu")]
use burn::tensor::DType;
use burn::tensor::{FloatDType, Tensor};

impl Precision {
    /// Returns the type of the inputs of matrix products.
    #[cfg(feature = "gpu")]
    pub(super) fn dtype(self) -> DType {
        match self {
            Self::Fp32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::Fp16 => DType::F16,
        }
    }

    /// Casts an input of a matrix product to this precision.
    pub(super) fn narrow<const R: usize>(self, x: Tensor<R>) -> Tensor<R> {
        match self {
            Self::Fp32 => x,
            Self::Bf16 => x.cast(FloatDType::BF16),
            Self::Fp16 => x.cast(FloatDType::F16),
        }
    }

    /// Returns `x wᵀ + bias` in this precision. `w` is `[out, in]`.
    pub(super) fn linear<const R: usize>(
        self,
        x: Tensor<R>,
        weight: Tensor<2>,
        bias: Tensor<1>,
    ) -> Tensor<R> {
        ops::linear(self.narrow(x), self.narrow(weight).transpose(), self.narrow(bias))
    }

    /// Returns the GELU of `x wᵀ + bias`, in this precision.
    pub(super) fn linear_gelu<const R: usize>(
        self,
        x: Tensor<R>,
        weight: Tensor<2>,
        bias: Tensor<1>,
    ) -> Tensor<R> {
        ops::linear_gelu(self.narrow(x), self.narrow(weight).transpose(), self.narrow(bias))
    }

    /// Returns `residual + x wᵀ + bias` in fp32.
    pub(super) fn linear_residual<const R: usize>(
        self,
        x: Tensor<R>,
        weight: Tensor<2>,
        bias: Tensor<1>,
        residual: Tensor<R>,
    ) -> Tensor<R> {
        let weight = self.narrow(weight).transpose();
        ops::linear_residual(self.narrow(x), weight, self.narrow(bias), residual)
    }

    /// Returns `residual + scale * linear(x)` in fp32. `scale` is `[N, 1, 1]`.
    pub(super) fn linear_scaled(
        self,
        x: Tensor<3>,
        weight: Tensor<2>,
        bias: Tensor<1>,
        residual: Tensor<3>,
        scale: Tensor<3>,
    ) -> Tensor<3> {
        let weight = self.narrow(weight).transpose();
        ops::linear_scaled(self.narrow(x), weight, self.narrow(bias), residual, scale)
    }

    /// Casts a tensor to fp32. All operations except matrix products use fp32.
    pub(super) fn wide<const R: usize>(self, x: Tensor<R>) -> Tensor<R> {
        match self {
            Self::Fp32 => x,
            Self::Bf16 | Self::Fp16 => x.cast(FloatDType::F32),
        }
    }
}
