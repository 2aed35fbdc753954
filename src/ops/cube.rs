//! The product on GPUs, by kernels that the shape and the card decide, never tuned.

use burn::backend::Autodiff;
use burn::backend::Backend;
use burn::backend::Dispatch;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::Backward;
use burn::backend::autodiff::ops::Ops;
use burn::backend::autodiff::ops::OpsKind;
use burn::backend::backend_extension;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::tensor::FloatTensor;
use burn::tensor::DType;
use burn::tensor::Shape;
use burn::tensor::Tensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::matmul::init_matmul_output;
use burn_cubecl::tensor::CubeTensor;
use cubek::matmul::definition::MatmulElems;
use cubek::matmul::definition::MatmulGlobalElems;
use cubek::matmul::definition::MatmulSetupError;
use cubek::matmul::launch::launch_ref;
use cubek::matmul::multi_level;
use cubek::matmul::routine::BlueprintStrategy;
use cubek::matmul::strategy::Strategy;
use cubek::std::InputBinding;

/// `a b`, as [`super::product`] has it, of tensors on a GPU.
pub(super) fn on_gpu<const R: usize>(a: Tensor<R>, b: Tensor<R>) -> Tensor<R> {
    assert_eq!(a.dtype(), b.dtype(), "both factors are of the same numbers");
    assert_eq!(a.dims()[..R - 2], b.dims()[..R - 2], "factors agree in all axes but the last two");
    let y = <Dispatch as Product>::product(a.into_dispatch(), b.into_dispatch());
    Tensor::from_dispatch(y)
}

/// Backends with the product.
#[backend_extension(Cube, Autodiff, Fusion)]
pub(super) trait Product: Backend {
    /// `lhs rhs`, of `[.., m, k]` and `[.., k, n]`.
    #[fusion(dtype = lhs, shape = shape_of(lhs, rhs))]
    fn product(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self>;
}

fn shape_of(lhs: &Shape, rhs: &Shape) -> Shape {
    let mut shape = lhs.clone();
    let last = shape.num_dims() - 1;
    shape[last] = rhs[last];
    shape
}

impl Product for CubeBackend {
    fn product(lhs: CubeTensor, rhs: CubeTensor) -> CubeTensor {
        let out = init_matmul_output(&lhs, &rhs, lhs.dtype);
        let mut refused = Vec::new();
        for kernel in kernels(lhs.dtype) {
            match launch(&kernel, lhs.clone(), rhs.clone(), &out) {
                Ok(()) => return out,
                Err(error) => refused.push(format!("{kernel}: {error:?}")),
            }
        }
        let (lhs, rhs) = (lhs.meta.shape(), rhs.meta.shape());
        panic!(
            "no kernel multiplies {lhs:?} and {rhs:?} in {:?}: {}",
            out.dtype,
            refused.join("; ")
        );
    }
}

/// Kernels, best first: tensor cores, but for fp32, which they round to TF32; the units for fp32; and one for any matrices.
///
/// One that does not fit the shapes or the card says so when it is launched, and the next one is tried. What a driver refuses
/// later ends the run, as everywhere.
fn kernels(factors: DType) -> impl Iterator<Item = Strategy> {
    let tensor_cores = multi_level::Strategy::SimpleCyclicCmma(BlueprintStrategy::default());
    let units = multi_level::Strategy::SimpleUnit(BlueprintStrategy::default());
    let tensor_cores = (factors != DType::F32).then_some(tensor_cores);
    let kernels = [tensor_cores, Some(units), Some(multi_level::Strategy::Naive)];
    kernels.into_iter().flatten().map(Strategy::from)
}

fn launch(
    strategy: &Strategy,
    lhs: CubeTensor,
    rhs: CubeTensor,
    out: &CubeTensor,
) -> Result<(), MatmulSetupError> {
    let elem = dtype_to_storage_type(out.dtype);
    let elems = MatmulGlobalElems { lhs: elem, rhs: elem, out: elem };
    launch_ref(
        strategy,
        &out.client,
        InputBinding::new(lhs.binding(), elem),
        InputBinding::new(rhs.binding(), elem),
        out.clone().binding(),
        &mut MatmulElems::from_globals(&elems),
    )
}

impl<B: Product, C: CheckpointStrategy> Product for Autodiff<B, C> {
    fn product(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self> {
        let prepared = Factors.prepare::<C>([lhs.node(), rhs.node()]).compute_bound().stateful();
        match prepared {
            OpsKind::Tracked(mut step) => {
                // A factor is kept only where the other one wants a gradient.
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

/// The backward pass: `∂lhs = ∂y rhsᵀ`, `∂rhs = lhsᵀ ∂y`.
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
