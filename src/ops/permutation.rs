//! Rows in another order. The backward pass uses the inverse permutation.
//!
//! Burn's backward pass of `select` adds the rows to zeros, because an index may occur twice. On a GPU, one unit per
//! column does this for all rows, one after another.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::{Int, Tensor};

/// Returns the rows of `x` `[R, D]` in the order `order`, `[R]`.
///
/// `order` is a permutation of the rows, and `inverse` is its inverse permutation.
pub fn permuted(x: Tensor<2>, order: &Tensor<1, Int>, inverse: &Tensor<1, Int>) -> Tensor<2> {
    let [order, inverse] = [order, inverse].map(|rows| rows.clone().into_dispatch());
    let y = <Dispatch as Permutation>::permuted_rows(x.into_dispatch(), order, inverse);
    Tensor::from_dispatch(y)
}

/// A backend that permutes rows as one operation.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff, Fusion: cfg(feature = "gpu"))]
pub(super) trait Permutation: Backend {
    #[fusion(default)]
    fn permuted_rows(
        x: FloatTensor<Self>,
        order: IntTensor<Self>,
        inverse: IntTensor<Self>,
    ) -> FloatTensor<Self> {
        drop(inverse);
        Self::float_select(x, 0, order)
    }
}

impl Permutation for burn::backend::Flex {}
#[cfg(feature = "gpu")]
impl Permutation for burn_cubecl::CubeBackend {}

impl<B: Permutation, C: CheckpointStrategy> Permutation for Autodiff<B, C> {
    fn permuted_rows(
        x: FloatTensor<Self>,
        order: IntTensor<Self>,
        inverse: IntTensor<Self>,
    ) -> FloatTensor<Self> {
        match Rows.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let y = B::permuted_rows(x.into_primitive(), order, inverse.clone());
                step.finish(inverse, y)
            }
            OpsKind::UnTracked(step) => {
                step.finish(B::permuted_rows(x.into_primitive(), order, inverse))
            }
        }
    }
}

/// The backward pass of a permutation: the gradient's rows in the inverse order.
#[derive(Debug)]
struct Rows;

impl<B: Permutation> Backward<B, 1> for Rows {
    type State = IntTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let inverse = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| B::float_select(grad, 0, inverse));
    }
}

#[cfg(test)]
mod tests {
    use super::permuted;
    use burn::tensor::{Device, Int, Tensor};

    #[test]
    fn rows_and_their_gradients_are_those_of_select() {
        let device = Device::flex().autodiff();
        let x =
            Tensor::<2>::from_data([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], &device).require_grad();
        let order = Tensor::<1, Int>::from_data([2, 0, 1], &device);
        let inverse = Tensor::<1, Int>::from_data([1, 2, 0], &device);
        let weights = Tensor::<2>::from_data([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]], &device);
        let results = |y: Tensor<2>| {
            let grads = (y.clone() * weights.clone()).sum().backward();
            [y.inner().into_data(), x.grad(&grads).unwrap().into_data()]
        };
        let own = results(permuted(x.clone(), &order, &inverse));
        assert_eq!(own, results(x.clone().select(0, order)));
        own[1].assert_eq(&[[2.0f32, 20.0], [3.0, 30.0], [1.0, 10.0]].into(), true);
    }
}
