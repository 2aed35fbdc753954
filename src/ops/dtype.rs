//! Casts between fp32 and the precision of matrix products.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, Device, FloatDType, Tensor};

/// Returns whether a tensor is fp32 and on the CPU.
pub(super) fn is_cpu_fp32<const R: usize>(x: &Tensor<R>) -> bool {
    x.dtype() == DType::F32 && x.device() == Device::flex()
}

/// Casts to fp32.
pub(super) fn wide<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    if x.dtype() == DType::F32 { x } else { B::float_cast(x, FloatDType::F32) }
}

/// Casts an fp32 tensor to `dtype`.
pub(super) fn narrow_as<B: Backend>(x: FloatTensor<B>, dtype: DType) -> FloatTensor<B> {
    if dtype == DType::F32 { x } else { B::float_cast(x, dtype.into()) }
}

/// Returns whether `x` is on a GPU.
pub fn is_gpu<const R: usize>(x: &Tensor<R>) -> bool {
    x.device() != Device::flex()
}
