//! GELU with the error function, for bf16 and fp16 on the CPU. The backward pass needs only the input.

use super::dtype::{narrow_as, wide};
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::Tensor;
use std::f64::consts::FRAC_1_SQRT_2;

const FRAC_1_SQRT_2PI: f64 = 0.398_942_280_401_432_7;

/// Returns the GELU of `x`. Computes in fp32, and returns the type of `x`.
pub(super) fn gelu<const R: usize>(x: Tensor<R>) -> Tensor<R> {
    Tensor::from_dispatch(<Dispatch as Gelu>::gelu_by_erf(x.into_dispatch()))
}

/// A backend that computes GELU as one operation.
#[backend_extension(Flex, Autodiff)]
pub(super) trait Gelu: Backend {
    fn gelu_by_erf(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let dtype = x.dtype();
        let x = wide::<Self>(x);
        narrow_as::<Self>(Self::float_mul(x.clone(), normal_cdf::<Self>(x)), dtype)
    }
}

impl Gelu for burn::backend::Flex {}

/// Returns the cumulative normal distribution Φ(x).
fn normal_cdf<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let erf = B::float_erf(B::float_mul_scalar(x, FRAC_1_SQRT_2.into()));
    B::float_mul_scalar(B::float_add_scalar(erf, 1.0.into()), 0.5.into())
}

impl<B: Gelu, C: CheckpointStrategy> Gelu for Autodiff<B, C> {
    fn gelu_by_erf(x: FloatTensor<Self>) -> FloatTensor<Self> {
        match Slope.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let x = x.into_primitive();
                step.finish(x.clone(), B::gelu_by_erf(x))
            }
            OpsKind::UnTracked(step) => step.finish(B::gelu_by_erf(x.into_primitive())),
        }
    }
}

/// The backward pass of GELU: `∂x = (Φ(x) + x φ(x)) ∂y`.
#[derive(Debug)]
struct Slope;

impl<B: Gelu> Backward<B, 1> for Slope {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let x = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| {
            let dtype = x.dtype();
            let (x, grad) = (wide::<B>(x), wide::<B>(grad));
            let halved = B::float_mul_scalar(B::float_mul(x.clone(), x.clone()), (-0.5).into());
            let density = B::float_mul_scalar(B::float_exp(halved), FRAC_1_SQRT_2PI.into());
            let slope = B::float_add(normal_cdf::<B>(x.clone()), B::float_mul(x, density));
            narrow_as::<B>(B::float_mul(slope, grad), dtype)
        });
    }
}
