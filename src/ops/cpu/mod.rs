//! fp32 operations on the CPU, each with its own backward pass.
//!
//! Each operation replaces several of Burn's operations, with the same result up to rounding. Burn reads and writes
//! memory at each of its operations. The operations here do all steps in one pass, and are vectorized.

#![expect(clippy::inline_always, reason = "a kernel is compiled once for each instruction set")]
#![expect(
    clippy::needless_range_loop,
    reason = "one index for several arrays is easier to vectorize"
)]

mod attention;
mod autodiff;
mod blocks;
mod buffer;
mod layer_norm;
mod linear;
mod matrix;
mod simd;
mod small;
#[cfg(test)]
mod tests;
mod update;

use buffer::Values;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;

use super::AdamWStep;

/// Returns `x w + bias`, `[.., out]`. `x` is `[.., in]`, and `w` is `[in, out]`.
pub(super) fn linear<const R: usize>(x: Tensor<R>, w: Tensor<2>, bias: Tensor<1>) -> Tensor<R> {
    let (x, w, bias) = (x.into_dispatch(), w.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Fused>::linear(x, w, bias))
}

/// Returns `gelu(x w + bias)`, with the shapes of [`linear()`].
pub(super) fn linear_gelu<const R: usize>(
    x: Tensor<R>,
    w: Tensor<2>,
    bias: Tensor<1>,
) -> Tensor<R> {
    let (x, w, bias) = (x.into_dispatch(), w.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Fused>::linear_gelu(x, w, bias))
}

/// Returns `residual + x w + bias`, with the shapes of [`linear()`].
pub(super) fn linear_residual<const R: usize>(
    x: Tensor<R>,
    w: Tensor<2>,
    bias: Tensor<1>,
    residual: Tensor<R>,
) -> Tensor<R> {
    let (x, w, bias) = (x.into_dispatch(), w.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Fused>::linear_residual(
        x,
        w,
        bias,
        residual.into_dispatch(),
    ))
}

/// Returns `residual + scale (x w + bias)`. `scale` has one value per image.
pub(super) fn linear_scaled(
    x: Tensor<3>,
    w: Tensor<2>,
    bias: Tensor<1>,
    residual: Tensor<3>,
    scale: Tensor<3>,
) -> Tensor<3> {
    let (x, w, bias) = (x.into_dispatch(), w.into_dispatch(), bias.into_dispatch());
    let (residual, scale) = (residual.into_dispatch(), scale.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Fused>::linear_scaled(x, w, bias, residual, scale))
}

/// Normalizes each row of `x` `[.., D]`, multiplies by `gamma`, and adds `beta`.
pub(super) fn layer_norm<const R: usize>(
    x: Tensor<R>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    eps: f64,
) -> Tensor<R> {
    let (x, gamma, beta) = (x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Fused>::normalize(x, gamma, beta, eps))
}

/// Returns the multi-head attention `softmax(q kᵀ / √d) v`, `[N, L, D]`.
///
/// `qkv` is `[N, L, 3 D]`. `d` is the width of one head.
pub(super) fn attention(qkv: Tensor<3>, heads: usize) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as Fused>::attend(qkv.into_dispatch(), heads))
}

/// Returns parameter and moments after an AdamW step.
pub(super) fn adamw(
    param: Tensor<1>,
    grad: Tensor<1>,
    [m, v]: [Tensor<1>; 2],
    step: AdamWStep,
) -> [Tensor<1>; 3] {
    let (param, grad) = (param.into_dispatch(), grad.into_dispatch());
    let (param, m, v) =
        <Dispatch as Updates>::adamw(param, grad, m.into_dispatch(), v.into_dispatch(), step);
    [param, m, v].map(Tensor::from_dispatch)
}

/// Returns the sum of squares of `x`, `[1]`.
pub(super) fn sum_of_squares(x: Tensor<1>) -> Tensor<1> {
    Tensor::from_dispatch(<Dispatch as Updates>::sum_of_squares(x.into_dispatch()))
}

/// Optimizer operations, without backward pass.
#[backend_extension(Flex)]
trait Updates: Backend {
    fn adamw(
        param: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        m: FloatTensor<Self>,
        v: FloatTensor<Self>,
        step: AdamWStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    fn sum_of_squares(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl Updates for Flex {
    fn adamw(
        param: Values,
        grad: Values,
        m: Values,
        v: Values,
        step: AdamWStep,
    ) -> (Values, Values, Values) {
        update::adamw(param, grad, [m, v], step).into()
    }

    fn sum_of_squares(x: Values) -> Values {
        update::sum_of_squares(x)
    }
}

/// Model operations, with and without backward pass.
#[backend_extension(Flex, Autodiff)]
trait Fused: Backend {
    fn linear(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    fn linear_gelu(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    fn linear_residual(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    fn linear_scaled(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        scale: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    fn normalize(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self>;

    fn attend(qkv: FloatTensor<Self>, heads: usize) -> FloatTensor<Self>;
}

impl Fused for Flex {
    fn linear(x: Values, w: Values, bias: Values) -> Values {
        linear::linear(x, w, bias)
    }

    fn linear_gelu(x: Values, w: Values, bias: Values) -> Values {
        linear::linear_gelu(x, w, bias)
    }

    fn linear_residual(x: Values, w: Values, bias: Values, residual: Values) -> Values {
        linear::linear_residual(x, w, bias, residual)
    }

    fn linear_scaled(
        x: Values,
        w: Values,
        bias: Values,
        residual: Values,
        scale: Values,
    ) -> Values {
        linear::linear_scaled(x, w, bias, residual, scale)
    }

    fn normalize(x: Values, gamma: Values, beta: Values, eps: f64) -> Values {
        layer_norm::layer_norm(x, gamma, beta, eps).0
    }

    fn attend(qkv: Values, heads: usize) -> Values {
        attention::attention(qkv, heads).0
    }
}
