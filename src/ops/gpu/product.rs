//! The matrix product on GPUs.

use crate::ops::product::{Product, is_tuned};
use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::matmul::{MatmulStrategy, init_matmul_output, matmul};
use burn_cubecl::ops::permute;
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
        untuned(&lhs, &rhs, &out);
        out
    }
}

/// Writes the product of `lhs` `[.., m, k]` and `rhs` `[.., k, n]` to `out`, which may be fp32 for narrow factors.
///
/// The kernel is tuned if the recipe allows it.
pub(super) fn multiply(lhs: CubeTensor, rhs: CubeTensor, out: &CubeTensor) {
    if is_tuned(lhs.dtype) {
        matmul(lhs, rhs, Some(out.clone()), MatmulStrategy::Autotune, out.dtype)
            .unwrap_or_else(|error| panic!("cannot multiply matrices: {error:?}"));
    } else {
        untuned(&lhs, &rhs, out);
    }
}

/// Exchanges the last two axes, without a copy.
pub(super) fn transposed(x: CubeTensor) -> CubeTensor {
    let rank = x.rank();
    let mut axes: Vec<usize> = (0..rank).collect();
    axes.swap(rank - 2, rank - 1);
    permute(x, &axes)
}

fn untuned(lhs: &CubeTensor, rhs: &CubeTensor, out: &CubeTensor) {
    let mut refused = Vec::new();
    for kernel in kernels(lhs.dtype) {
        match launch(&kernel, lhs.clone(), rhs.clone(), out) {
            Ok(()) => return,
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

/// Returns the kernels to try for factors of this type, best first.
///
/// fp32 products do not use tensor cores, which round to TF32.
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
    let [factor, result] = [lhs.dtype, out.dtype].map(dtype_to_storage_type);
    let elems = MatmulGlobalElems { lhs: factor, rhs: factor, out: result };
    launch_ref(
        strategy,
        &out.client,
        InputBinding::new(lhs.binding(), factor),
        InputBinding::new(rhs.binding(), factor),
        out.clone().binding(),
        &mut MatmulElems::from_globals(&elems),
    )
}
