//! Rounds four tensors in one launch.

use super::{addresses, contiguous, empty, for_each};
use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::frontend::Cast;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

/// Rounds fp32 tensors to `dtype`.
pub(super) fn narrow(tensors: [CubeTensor; 4], dtype: DType) -> [CubeTensor; 4] {
    let [a, b, c, d] = contiguous(tensors);
    let narrow = [&a, &b, &c, &d].map(|tensor| empty(tensor, tensor.shape(), dtype));
    let [len_a, len_b, len_c, len_d] = [&a, &b, &c, &d].map(|x| x.meta.num_elements());
    let (count, dim) = for_each(&a, len_a + len_b + len_c + len_d);
    let [to_a, to_b, to_c, to_d] = narrow.clone();
    // SAFETY: the kernel checks the places.
    unsafe {
        round_all::launch_unchecked(
            &a.client.clone(),
            count,
            dim,
            addresses(&[&a, &b, &c, &d]),
            a.into_buffer_arg(),
            b.into_buffer_arg(),
            c.into_buffer_arg(),
            d.into_buffer_arg(),
            to_a.into_buffer_arg(),
            to_b.into_buffer_arg(),
            to_c.into_buffer_arg(),
            to_d.into_buffer_arg(),
            len_a,
            len_b,
            len_c,
            len_d,
            dtype_to_storage_type(dtype),
        );
    }
    narrow
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn round_all<E: Float>(
    a: &[f32],
    b: &[f32],
    c: &[f32],
    d: &[f32],
    to_a: &mut [E],
    to_b: &mut [E],
    to_c: &mut [E],
    to_d: &mut [E],
    len_a: usize,
    len_b: usize,
    len_c: usize,
    len_d: usize,
    #[define(E)] _dtype: ElemType,
) {
    let mut place = ABSOLUTE_POS;
    if place < len_a {
        to_a[place] = E::cast_from(a[place]);
    } else {
        place -= len_a;
        if place < len_b {
            to_b[place] = E::cast_from(b[place]);
        } else {
            place -= len_b;
            if place < len_c {
                to_c[place] = E::cast_from(c[place]);
            } else {
                place -= len_c;
                if place < len_d {
                    to_d[place] = E::cast_from(d[place]);
                }
            }
        }
    }
}
