//! The softmax of attention, which keeps nothing for the backward pass but its result, and that as the product takes it.
//!
//! Composed, it keeps an fp32 tensor of the scores' shape, twice as large as the bf16 one that the next product keeps anyway.

use super::is_cpu_fp32;
use super::narrow_as;
use super::wide;
use burn::backend::Autodiff;
use burn::backend::Backend;
use burn::backend::Dispatch;
use burn::backend::TensorMetadata;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::Backward;
use burn::backend::autodiff::ops::Ops;
use burn::backend::autodiff::ops::OpsKind;
use burn::backend::autodiff::ops::unary;
use burn::backend::backend_extension;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Tensor;
use burn::tensor::activation;

/// The softmax over the last axis of `[.., L]`, computed in fp32; of the numbers that `x` is of.
pub fn softmax<const R: usize>(x: Tensor<R>) -> Tensor<R> {
    if is_cpu_fp32(&x) {
        return activation::softmax(x, R - 1);
    }
    own(x)
}

pub(super) fn own<const R: usize>(x: Tensor<R>) -> Tensor<R> {
    Tensor::from_dispatch(<Dispatch as Softmax>::softmax_of_rows(x.into_dispatch()))
}

/// Backends with the softmax.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff, Fusion: cfg(feature = "gpu"))]
pub(super) trait Softmax: Backend {
    /// The softmax over the last axis.
    #[fusion(default)]
    fn softmax_of_rows(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (dtype, last) = (x.dtype(), x.rank() - 1);
        narrow_as::<Self>(Self::softmax(wide::<Self>(x), last), dtype)
    }
}

impl Softmax for burn::backend::Flex {}
#[cfg(feature = "gpu")]
impl Softmax for burn_cubecl::CubeBackend {}

impl<B: Softmax, C: CheckpointStrategy> Softmax for Autodiff<B, C> {
    fn softmax_of_rows(x: FloatTensor<Self>) -> FloatTensor<Self> {
        match Rows.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let y = B::softmax_of_rows(x.into_primitive());
                step.finish(y.clone(), y)
            }
            OpsKind::UnTracked(step) => step.finish(B::softmax_of_rows(x.into_primitive())),
        }
    }
}

/// The backward pass: `∂x = y (∂y - Σ y ∂y)`.
#[derive(Debug)]
struct Rows;

impl<B: Softmax> Backward<B, 1> for Rows {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let y = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| {
            let (dtype, last) = (y.dtype(), y.rank() - 1);
            let (y, grad) = (wide::<B>(y), wide::<B>(grad));
            let shared = B::float_sum_dim(B::float_mul(y.clone(), grad.clone()), last);
            narrow_as::<B>(B::float_mul(y, B::float_sub(grad, shared)), dtype)
        });
    }
}
