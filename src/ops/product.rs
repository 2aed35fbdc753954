//! Matrix products. fp32 products never use TF32. Only bf16 products can be autotuned.
//!
//! On a GPU with tensor cores, Burn's matrix product rounds fp32 factors to TF32, with 10 instead of 23 bits of
//! mantissa. The results of every layer then differ from the official values by about 1e-3.
//!
//! Burn's autotuning tries up to fourteen kernels for every new shape. Each kernel takes a second or more to compile.
//! This is worthwhile only for long bf16 runs.

use super::cpu;
use super::dtype::is_cpu_fp32;
use super::gelu::gelu;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
#[cfg(feature = "gpu")]
use burn::tensor::Shape;
use burn::tensor::{DType, Device, FloatDType, Tensor, module};
use std::sync::atomic::{AtomicBool, Ordering};

static AUTOTUNE: AtomicBool = AtomicBool::new(false);

/// Sets whether Burn autotunes bf16 matrix products on GPUs.
///
/// The setting applies to the whole process. The default is false.
pub fn autotune(on: bool) {
    AUTOTUNE.store(on, Ordering::Relaxed);
}

/// Returns the setting of [`autotune`].
pub fn is_autotuned() -> bool {
    AUTOTUNE.load(Ordering::Relaxed)
}

/// Returns whether Burn autotunes products of this type.
pub(super) fn is_tuned(factors: DType) -> bool {
    factors == DType::BF16 && is_autotuned()
}

/// Returns the matrix product `[.., m, n]` of `a` `[.., m, k]` and `b` `[.., k, n]`.
///
/// Both factors have the same leading axes and the same precision, fp32 or bf16. Sums are computed in fp32.
pub fn product<const R: usize>(a: Tensor<R>, b: Tensor<R>) -> Tensor<R> {
    if is_burns(&a) { a.matmul(b) } else { own(a, b) }
}

/// Returns `x weight + bias`, `[.., out]`, in the precision of the factors.
///
/// `x` is `[.., in]`, and `weight` is `[in, out]`.
pub fn linear<const R: usize>(x: Tensor<R>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<R> {
    if is_cpu_fp32(&x) {
        return cpu::linear(x, weight, bias);
    }
    if is_burns(&x) {
        return module::linear(x, weight, Some(bias));
    }
    let mut shape = x.dims();
    let [from, to] = weight.dims();
    let rows = shape.iter().take(R - 1).product();
    shape[R - 1] = to;
    let y: Tensor<2> = own(x.reshape([rows, from]), weight);
    // After the reshape, the addition is fused with the next operation.
    y.reshape(shape) + bias.unsqueeze()
}

/// Returns the GELU of [`linear`].
pub fn linear_gelu<const R: usize>(x: Tensor<R>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<R> {
    if is_cpu_fp32(&x) {
        return cpu::linear_gelu(x, weight, bias);
    }
    gelu(linear(x, weight, bias))
}

/// Returns `residual + linear(x)` in fp32.
pub fn linear_residual<const R: usize>(
    x: Tensor<R>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    residual: Tensor<R>,
) -> Tensor<R> {
    if is_cpu_fp32(&x) {
        return cpu::linear_residual(x, weight, bias, residual);
    }
    residual + wide_tensor(linear(x, weight, bias))
}

/// Returns `residual + scale * linear(x)` in fp32.
///
/// `x` is `[N, L, in]`. `scale` is `[N, 1, 1]` and gets no gradient.
pub fn linear_scaled(
    x: Tensor<3>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    residual: Tensor<3>,
    scale: Tensor<3>,
) -> Tensor<3> {
    if is_cpu_fp32(&x) {
        return cpu::linear_scaled(x, weight, bias, residual, scale);
    }
    residual + wide_tensor(linear(x, weight, bias)) * scale
}

fn wide_tensor<const R: usize>(x: Tensor<R>) -> Tensor<R> {
    if x.dtype() == DType::F32 { x } else { x.cast(FloatDType::F32) }
}

/// Returns whether products with this factor use Burn's `matmul` instead of our own kernel.
fn is_burns<const R: usize>(factor: &Tensor<R>) -> bool {
    is_tuned(factor.dtype()) || factor.device() == Device::flex()
}

/// Computes a matrix product without autotuning and without TF32.
pub(super) fn own<const R: usize>(a: Tensor<R>, b: Tensor<R>) -> Tensor<R> {
    assert_eq!(a.dtype(), b.dtype(), "both factors have the same type");
    assert_eq!(a.dims()[..R - 2], b.dims()[..R - 2], "factors agree in all axes but the last two");
    let y = <Dispatch as Product>::product(a.into_dispatch(), b.into_dispatch());
    Tensor::from_dispatch(y)
}

/// Returns the [`product`] of two tensors of the backend `B`.
pub(super) fn multiplied<B: Product>(lhs: FloatTensor<B>, rhs: FloatTensor<B>) -> FloatTensor<B> {
    if is_tuned(lhs.dtype()) { B::float_matmul(lhs, rhs) } else { B::product(lhs, rhs) }
}

/// A backend that computes matrix products without autotuning.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff, Fusion: cfg(feature = "gpu"))]
pub(super) trait Product: Backend {
    /// Returns the product of `lhs` `[.., m, k]` and `rhs` `[.., k, n]`.
    #[fusion(dtype = lhs, shape = shape_of(lhs, rhs))]
    fn product(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self>;
}

#[cfg(feature = "gpu")]
fn shape_of(lhs: &Shape, rhs: &Shape) -> Shape {
    let mut shape = lhs.clone();
    let last = shape.num_dims() - 1;
    shape[last] = rhs[last];
    shape
}

impl Product for burn::backend::Flex {
    fn product(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_matmul(lhs, rhs)
    }
}

impl<B: Product, C: CheckpointStrategy> Product for Autodiff<B, C> {
    fn product(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self> {
        let prepared = Factors.prepare::<C>([lhs.node(), rhs.node()]).compute_bound().stateful();
        match prepared {
            OpsKind::Tracked(mut step) => {
                // The gradient of one factor needs the other factor. So a factor is kept only if the other factor needs
                // a gradient.
                let kept = (
                    rhs.is_tracked().then(|| step.checkpoint(&lhs)),
                    lhs.is_tracked().then(|| step.checkpoint(&rhs)),
                );
                step.finish(kept, B::product(lhs.into_primitive(), rhs.into_primitive()))
            }
            OpsKind::UnTracked(step) => {
                step.finish(B::product(lhs.into_primitive(), rhs.into_primitive()))
            }
        }
    }
}

/// The backward pass of a product: `∂lhs = ∂y rhsᵀ`, `∂rhs = lhsᵀ ∂y`.
#[derive(Debug)]
struct Factors;

impl<B: Product> Backward<B, 2> for Factors {
    type State = (Option<NodeId>, Option<NodeId>);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let [to_lhs, to_rhs] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let mut kept = |id: Option<NodeId>| {
            id.map(|id| B::float_transpose(checkpointer.retrieve_node_output(id)))
        };
        let (lhs, rhs) = (kept(ops.state.0), kept(ops.state.1));
        if let (Some(node), Some(rhs)) = (to_lhs, rhs) {
            grads.register::<B>(node.id, B::product(grad.clone(), rhs));
        }
        if let (Some(node), Some(lhs)) = (to_rhs, lhs) {
            grads.register::<B>(node.id, B::product(lhs, grad));
        }
    }
}
