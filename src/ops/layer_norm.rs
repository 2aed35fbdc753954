//! Layer normalization. The backward pass keeps only the input; Burn's backward pass keeps two tensors.

use super::cpu;
use super::dtype::is_cpu_fp32;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::ModuleOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor};

/// Normalizes each row of `x` `[.., D]`, multiplies by `gamma`, and adds `beta`.
///
/// `gamma` and `beta` are `[D]`. All tensors are fp32. The variance is biased.
pub fn layer_norm<const R: usize>(
    x: Tensor<R>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    eps: f64,
) -> Tensor<R> {
    if is_cpu_fp32(&x) {
        return cpu::layer_norm(x, gamma, beta, eps);
    }
    own(x, gamma, beta, eps)
}

/// Computes layer normalization with the backward pass of this module.
pub(super) fn own<const R: usize>(
    x: Tensor<R>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    eps: f64,
) -> Tensor<R> {
    let (x, gamma, beta) = (x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch());
    Tensor::from_dispatch(<Dispatch as LayerNorm>::normalized_rows(x, gamma, beta, eps))
}

/// A backend that computes layer normalization as one operation.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff, Fusion: cfg(feature = "gpu"))]
pub(super) trait LayerNorm: Backend {
    /// Normalizes each row of `x`, multiplies by `gamma`, and adds `beta`.
    #[fusion(dtype = x, shape = x)]
    fn normalized_rows(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self>;

    /// Returns the gradients of `x`, `gamma` and `beta` from `grad`, the gradient of the output.
    #[fusion(meta = |x, gamma, _grad, _eps| (x.clone(), gamma.clone(), gamma.clone()))]
    fn normalized_rows_back(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl LayerNorm for burn::backend::Flex {
    fn normalized_rows(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        Self::layer_norm(x, gamma, Some(beta), eps)
    }

    fn normalized_rows_back(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        gradients::<Self>(x, gamma, grad, eps)
    }
}

impl<B: LayerNorm, C: CheckpointStrategy> LayerNorm for Autodiff<B, C> {
    fn normalized_rows(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        let parents = [x.node(), gamma.node(), beta.node()];
        let (x, gamma, beta) = (x.into_primitive(), gamma.into_primitive(), beta.into_primitive());
        match Rows.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let y = B::normalized_rows(x.clone(), gamma.clone(), beta, eps);
                step.finish((x, gamma, eps), y)
            }
            OpsKind::UnTracked(step) => step.finish(B::normalized_rows(x, gamma, beta, eps)),
        }
    }

    fn normalized_rows_back(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        // The second derivative: composed, so that autodiff knows it.
        gradients::<Self>(x, gamma, grad, eps)
    }
}

/// The backward pass of layer normalization.
#[derive(Debug)]
struct Rows;

impl<B: LayerNorm> Backward<B, 3> for Rows {
    type State = (FloatTensor<B>, FloatTensor<B>, f64);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, gamma, eps) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let (to_x, to_gamma, to_beta) = B::normalized_rows_back(x, gamma, grad, eps);
        for (parent, grad) in ops.parents.into_iter().zip([to_x, to_gamma, to_beta]) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

/// Returns the gradients of `x`, `gamma` and `beta`, composed of Burn's operations.
///
/// `n` are the normalized rows, `σ` is their standard deviation before the normalization, and `g = γ ∂y`:
///
/// - `∂x = (g - mean g - n mean(g n)) / σ`
/// - `∂γ = Σ n ∂y`
/// - `∂β = Σ ∂y`
fn gradients<B: Backend>(
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    grad: FloatTensor<B>,
    eps: f64,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let last = x.rank() - 1;
    let mean = |x: FloatTensor<B>| B::float_mean_dim(x, last);
    let centred = B::float_sub(x.clone(), mean(x));
    let variance = mean(B::float_mul(centred.clone(), centred.clone()));
    let sigma = B::float_sqrt(B::float_add_scalar(variance, eps.into()));
    let n = B::float_div(centred, sigma.clone());
    let mut row = vec![1; last];
    row.push(gamma.shape()[0]);
    let g = B::float_mul(grad.clone(), B::float_reshape(gamma, Shape::from(row)));
    let along = B::float_mul(n.clone(), mean(B::float_mul(g.clone(), n.clone())));
    let across = B::float_sub(B::float_sub(g.clone(), mean(g)), along);
    let to_x = B::float_div(across, sigma);
    (to_x, sum_of_rows::<B>(B::float_mul(grad.clone(), n)), sum_of_rows::<B>(grad))
}

/// Sums `[.., D]` over all axes except the last. Returns `[D]`.
fn sum_of_rows<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let shape = x.shape();
    let width = shape[shape.num_dims() - 1];
    let rows = shape.num_elements() / width;
    let x = B::float_reshape(x, Shape::from([rows, width]));
    B::float_reshape(B::float_sum_dim(x, 0), Shape::from([width]))
}
