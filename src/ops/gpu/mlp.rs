//! What follows a matrix product: bias and GELU, or bias and residual connection.

use super::rows::{PARTS, for_each_part, units};
use super::sums::Sums;
use super::{Factors, addresses, contiguous, empty, for_each};
use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

/// Returns `residual + product + bias`, `[N, L, D]` in fp32.
///
/// `product + bias` is rounded to the type of `product`. `factors` scale `product + bias` of each image.
pub(super) fn residual(
    product: CubeTensor,
    bias: &CubeTensor,
    residual: &CubeTensor,
    factors: Option<&Factors>,
) -> CubeTensor {
    let dtype = product.dtype;
    let (scaled, of_branch, branches, factors) = Factors::or(factors, bias);
    let [product, bias, residual] = contiguous([product, bias.clone(), residual.clone()]);
    let [_, tokens, width] = residual.shape().dims();
    let y = empty(&residual, residual.shape(), DType::F32);
    let total = residual.meta.num_elements();
    let (count, dim) = for_each(&residual, total);
    // SAFETY: the kernel checks the place.
    unsafe {
        add::launch_unchecked(
            &residual.client.clone(),
            count,
            dim,
            addresses(&[&y]),
            product.into_buffer_arg(),
            bias.into_buffer_arg(),
            residual.into_buffer_arg(),
            factors.into_buffer_arg(),
            y.clone().into_buffer_arg(),
            total,
            tokens * width,
            width,
            of_branch,
            branches,
            scaled,
            dtype_to_storage_type(dtype),
        );
    }
    y
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn add<E: Float>(
    product: &[E],
    bias: &[f32],
    residual: &[f32],
    factors: &[f32],
    y: &mut [f32],
    total: usize,
    sample: usize,
    width: usize,
    of_branch: usize,
    branches: usize,
    #[comptime] scaled: bool,
    #[define(E)] _dtype: ElemType,
) {
    let place = ABSOLUTE_POS;
    if place < total {
        let mut value = f32::cast_from(biased::<E>(product[place], bias[place % width]));
        if comptime!(scaled) {
            value *= factors[place / sample * branches + of_branch];
        }
        y[place] = residual[place] + value;
    }
}

/// Returns `product + bias`, rounded to the type of `product`.
#[cube]
pub(super) fn biased<E: Float>(product: E, bias: f32) -> E {
    // PyTorch's autocast rounds the bias, too.
    let rounded = E::cast_from(bias);
    E::cast_from(f32::cast_from(product) + f32::cast_from(rounded))
}

/// Returns the GELU of `product + bias`, computed in fp32, in the type of `product`.
pub(super) fn gelu(product: &CubeTensor, bias: &CubeTensor) -> CubeTensor {
    let dtype = product.dtype;
    let [product, bias] = contiguous([product.clone(), bias.clone()]);
    let y = empty(&product, product.shape(), dtype);
    let total = product.meta.num_elements();
    let (count, dim) = for_each(&product, total);
    // SAFETY: the kernel checks the place.
    unsafe {
        activate::launch_unchecked(
            &product.client.clone(),
            count,
            dim,
            addresses(&[&y]),
            product.into_buffer_arg(),
            bias.clone().into_buffer_arg(),
            y.clone().into_buffer_arg(),
            total,
            bias.meta.num_elements(),
            dtype_to_storage_type(dtype),
        );
    }
    y
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn activate<E: Float>(
    product: &[E],
    bias: &[f32],
    y: &mut [E],
    total: usize,
    width: usize,
    #[define(E)] _dtype: ElemType,
) {
    let place = ABSOLUTE_POS;
    if place < total {
        let x = f32::cast_from(biased::<E>(product[place], bias[place % width]));
        y[place] = E::cast_from(x * normal_cdf(x));
    }
}

/// Returns Φ(x), the cumulative normal distribution.
#[cube]
fn normal_cdf(x: f32) -> f32 {
    let scaled = x * 0.707_106_77f32;
    0.5f32 * (Erf::erf(scaled) + 1.0f32)
}

/// Returns the gradient of `product` from the gradient of [`gelu`]'s output, and writes its column sums to `sums`.
pub(super) fn gelu_back(
    product: &CubeTensor,
    bias: &CubeTensor,
    grad: CubeTensor,
    sums: &mut Sums,
) -> CubeTensor {
    let dtype = product.dtype;
    let [product, bias, grad] = contiguous([product.clone(), bias.clone(), grad]);
    let width = bias.meta.num_elements();
    let rows = product.meta.num_elements() / width;
    let to_product = empty(&product, product.shape(), dtype);
    let units = units(width);
    let (count, dim) = for_each_part(units);
    let (parts, pitch, offset) = sums.next(width);
    // SAFETY: the kernel checks rows and columns.
    unsafe {
        activate_back::launch_unchecked(
            &product.client.clone(),
            count,
            dim,
            addresses(&[&product, &parts]),
            product.into_buffer_arg(),
            bias.into_buffer_arg(),
            grad.into_buffer_arg(),
            to_product.clone().into_buffer_arg(),
            parts.into_buffer_arg(),
            rows,
            pitch,
            offset,
            width,
            units,
            dtype_to_storage_type(dtype),
        );
    }
    to_product
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn activate_back<E: Float>(
    product: &[E],
    bias: &[f32],
    grad: &[E],
    to_product: &mut [E],
    parts: &mut [f32],
    rows: usize,
    pitch: usize,
    offset: usize,
    #[comptime] width: usize,
    #[comptime] units: usize,
    #[define(E)] _dtype: ElemType,
) {
    let mut column = UNIT_POS as usize;
    while column < width {
        let mut sum = 0.0f32;
        let mut row = CUBE_POS;
        while row < rows {
            let place = row * width + column;
            let x = f32::cast_from(biased::<E>(product[place], bias[column]));
            let density = 0.398_942_3f32 * (x * x * -0.5f32).exp();
            let slope = normal_cdf(x) + x * density;
            let rounded = E::cast_from(slope * f32::cast_from(grad[place]));
            to_product[place] = rounded;
            sum += f32::cast_from(rounded);
            row += comptime!(PARTS);
        }
        parts[CUBE_POS * pitch + offset + column] = sum;
        column += units;
    }
}
