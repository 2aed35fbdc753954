//! The matrix product on GPUs, without autotuning.

use super::product::Product;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::matmul::init_matmul_output;
use burn_cubecl::tensor::CubeTensor;
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems, MatmulSetupError};
use cubek::matmul::launch::launch_ref;
use cubek::matmul::multi_level;
use cubek::matmul::routine::BlueprintStrategy;
use cubek::matmul::strategy::Strategy;
use cubek::std::InputBinding;

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
            "cannot multiply {lhs:?} and {rhs:?} in {:?}: no kernel fits: {}",
            out.dtype,
            refused.join("; ")
        );
    }
}

/// Returns the kernels to try for this type, best first.
///
/// Tensor cores would round fp32 to TF32, so fp32 products do not use them.
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
