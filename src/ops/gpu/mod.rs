//! Kernels for GPUs, and a transformer block made of few launches.
//!
//! Burn launches one kernel for each operation that it cannot fuse. At small batches, a step then waits for the host.
//! Here, one kernel computes a whole LayerNorm, softmax or GELU, forward or backward, together with the additions and
//! casts around it. Column sums, such as gradients of biases, add a fixed number of partial sums in a fixed order, so
//! equal inputs give equal bits.

#![expect(
    unsafe_code,
    reason = "kernels check their places themselves, so that they need no check of every access"
)]
#![expect(clippy::used_underscore_binding, reason = "`#[define]` uses the argument with the type")]

mod block;
mod casts;
mod heads;
mod mlp;
mod norm;
mod optimizer;
mod product;
mod rows;
mod softmax;
mod sums;

use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::{AddressType, CubeCount, CubeDim};

/// Allocates a tensor in row-major order on the device of `like`, with any content.
///
/// On CUDA, Burn pads short rows of most tensors. The kernels here write rows without padding.
fn empty(like: &CubeTensor, shape: impl Into<Shape>, dtype: DType) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape.into(), dtype)
}

/// Returns the tensors in row-major order. Copies only those in another order.
fn contiguous<const N: usize>(tensors: [CubeTensor; N]) -> [CubeTensor; N] {
    tensors.map(into_contiguous)
}

/// Returns the width of an index that reaches every element of the tensors.
fn addresses(tensors: &[&CubeTensor]) -> AddressType {
    let widths = tensors.iter().map(|tensor| tensor.required_address_type());
    widths.max().unwrap_or_default()
}

/// Returns the size of a launch with one unit for each of `count` elements.
fn for_each(like: &CubeTensor, count: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new(&like.client, count);
    (cubecl::calculate_cube_count_elemwise(&like.client, count, dim), dim)
}

/// The factors of one branch of a block, one for each image: stochastic depth.
struct Factors {
    /// The factors of all branches of a network, `[N, branches]`.
    all: CubeTensor,
    /// The column of this branch.
    column: usize,
}

impl Factors {
    /// Returns whether there are factors, their column, the length of a row in memory, and the tensor.
    ///
    /// Without factors, the tensor is `other`.
    fn or(factors: Option<&Self>, other: &CubeTensor) -> (bool, usize, usize, CubeTensor) {
        match factors {
            Some(Self { all, column }) => {
                // A copy would cost a launch for each use.
                let all = if all.meta.strides()[1] == 1 {
                    all.clone()
                } else {
                    into_contiguous(all.clone())
                };
                (true, *column, all.meta.strides()[0], all)
            }
            None => (false, 0, 0, other.clone()),
        }
    }
}
