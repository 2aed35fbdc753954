//! Layer normalization.

use super::mlp::biased;
use super::rows::{PARTS, for_each_part, for_each_row, sum_over_cube, units};
use super::sums::Sums;
use super::{Factors, addresses, contiguous, empty};
use crate::ops::layer_norm::LayerNorm;
use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::ops::numeric::zeros_client;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

impl LayerNorm for CubeBackend {
    fn normalized_rows(x: CubeTensor, gamma: CubeTensor, beta: CubeTensor, eps: f64) -> CubeTensor {
        forward(&x, &gamma, &beta, eps, DType::F32)
    }

    fn normalized_rows_back(
        x: CubeTensor,
        gamma: CubeTensor,
        grad: CubeTensor,
        eps: f64,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let width = gamma.meta.num_elements();
        let zeros = zeros_client(x.client.clone(), x.device.clone(), x.shape(), DType::F32);
        let mut sums = Sums::new(&x, 3 * width);
        let grads = backward(&x, &gamma, eps, grad, zeros, None, &mut sums);
        let [to_gamma, to_beta, _] = sums.finish([width; 3]);
        (grads.stream, to_gamma, to_beta)
    }
}

/// Normalizes the rows of `x` `[.., D]` in fp32, scales and shifts them, and rounds the result to `dtype`.
pub(super) fn forward(
    x: &CubeTensor,
    gamma: &CubeTensor,
    beta: &CubeTensor,
    eps: f64,
    dtype: DType,
) -> CubeTensor {
    let [x, gamma, beta] = contiguous([x.clone(), gamma.clone(), beta.clone()]);
    let width = gamma.meta.num_elements();
    let rows = x.meta.num_elements() / width;
    let y = empty(&x, x.shape(), dtype);
    let units = units(width);
    let (count, dim) = for_each_row(&x, rows, units);
    // SAFETY: the kernel checks the row.
    unsafe {
        normalize::launch_unchecked(
            &x.client.clone(),
            count,
            dim,
            addresses(&[&x, &y]),
            x.into_buffer_arg(),
            gamma.into_buffer_arg(),
            beta.into_buffer_arg(),
            y.clone().into_buffer_arg(),
            rows,
            eps as f32,
            width,
            units,
            dtype_to_storage_type(dtype),
        );
    }
    y
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn normalize<E: Float>(
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    y: &mut [E],
    rows: usize,
    eps: f32,
    #[comptime] width: usize,
    #[comptime] units: usize,
    #[define(E)] _dtype: ElemType,
) {
    let mut shared = Shared::new_slice(units);
    let row = CUBE_POS;
    if row < rows {
        let start = row * width;
        let (mean, scale) = statistics(x, start, &mut shared, eps, width, units);
        let mut column = UNIT_POS as usize;
        while column < width {
            let normal = (x[start + column] - mean) * scale;
            y[start + column] = E::cast_from(normal * gamma[column] + beta[column]);
            column += units;
        }
    }
}

/// Returns the mean of a row, and the inverse of its standard deviation.
#[cube]
fn statistics(
    x: &[f32],
    start: usize,
    shared: &mut Shared<[f32]>,
    eps: f32,
    #[comptime] width: usize,
    #[comptime] units: usize,
) -> (f32, f32) {
    let mut sum = 0.0f32;
    let mut column = UNIT_POS as usize;
    while column < width {
        sum += x[start + column];
        column += units;
    }
    let count = width as f32;
    let mean = sum_over_cube(sum, shared, units) / count;
    let mut squares = 0.0f32;
    let mut column = UNIT_POS as usize;
    while column < width {
        let off = x[start + column] - mean;
        squares += off * off;
        column += units;
    }
    let variance = sum_over_cube(squares, shared, units) / count;
    (mean, 1.0f32 / (variance + eps).sqrt())
}

/// The results of [`after_product`].
pub(super) struct Joined {
    /// The residual stream, `[N, L, D]` in fp32.
    pub stream: CubeTensor,
    /// The normalized stream, in the type of the product.
    pub normed: CubeTensor,
}

/// Adds `product + bias` to `residual`, and normalizes the rows of the sum as [`forward`] does.
///
/// `factors` multiply `product + bias` of each image. `product + bias` is rounded to the type of `product`.
pub(super) fn after_product(
    product: CubeTensor,
    bias: &CubeTensor,
    residual: &CubeTensor,
    factors: Option<&Factors>,
    [gamma, beta]: [&CubeTensor; 2],
    eps: f64,
) -> Joined {
    let dtype = product.dtype;
    let (scaled, of_branch, branches, factors) = Factors::or(factors, bias);
    let [product, bias, residual, gamma, beta] =
        contiguous([product, bias.clone(), residual.clone(), gamma.clone(), beta.clone()]);
    let [n, tokens, width] = residual.shape().dims();
    let stream = empty(&residual, residual.shape(), DType::F32);
    let normed = empty(&residual, residual.shape(), dtype);
    let units = units(width);
    let (count, dim) = for_each_row(&residual, n * tokens, units);
    // SAFETY: the kernel checks rows and columns.
    unsafe {
        join::launch_unchecked(
            &residual.client.clone(),
            count,
            dim,
            addresses(&[&stream]),
            product.into_buffer_arg(),
            bias.into_buffer_arg(),
            residual.into_buffer_arg(),
            factors.into_buffer_arg(),
            gamma.into_buffer_arg(),
            beta.into_buffer_arg(),
            stream.clone().into_buffer_arg(),
            normed.clone().into_buffer_arg(),
            n * tokens,
            tokens,
            of_branch,
            branches,
            eps as f32,
            scaled,
            width,
            units,
            dtype_to_storage_type(dtype),
        );
    }
    Joined { stream, normed }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn join<E: Float>(
    product: &[E],
    bias: &[f32],
    residual: &[f32],
    factors: &[f32],
    gamma: &[f32],
    beta: &[f32],
    stream: &mut [f32],
    normed: &mut [E],
    rows: usize,
    tokens: usize,
    of_branch: usize,
    branches: usize,
    eps: f32,
    #[comptime] scaled: bool,
    #[comptime] width: usize,
    #[comptime] units: usize,
    #[define(E)] _dtype: ElemType,
) {
    let mut shared = Shared::new_slice(units);
    let columns = comptime!(width.div_ceil(units));
    let mut kept = Array::<f32>::new(columns);
    let row = CUBE_POS;
    if row < rows {
        let start = row * width;
        let mut sum = 0.0f32;
        #[unroll]
        for i in 0..columns {
            let column = UNIT_POS as usize + i * units;
            if column < width {
                let place = start + column;
                let mut value = f32::cast_from(biased::<E>(product[place], bias[column]));
                if comptime!(scaled) {
                    value *= factors[row / tokens * branches + of_branch];
                }
                kept[i] = residual[place] + value;
                stream[place] = kept[i];
                sum += kept[i];
            }
        }
        let count = width as f32;
        let mean = sum_over_cube(sum, &mut shared, units) / count;
        let mut squares = 0.0f32;
        #[unroll]
        for i in 0..columns {
            if UNIT_POS as usize + i * units < width {
                let off = kept[i] - mean;
                squares += off * off;
            }
        }
        let variance = sum_over_cube(squares, &mut shared, units) / count;
        let scale = 1.0f32 / (variance + eps).sqrt();
        #[unroll]
        for i in 0..columns {
            let column = UNIT_POS as usize + i * units;
            if column < width {
                let normal = (kept[i] - mean) * scale;
                normed[start + column] = E::cast_from(normal * gamma[column] + beta[column]);
            }
        }
    }
}

/// The results of [`backward`].
pub(super) struct Backward {
    /// The gradient of the residual stream before the normalization, `[.., D]` in fp32.
    pub stream: CubeTensor,
    /// `stream` times the factor of the image, in the precision of products.
    pub branch: CubeTensor,
}

/// Returns the gradient of `x`, plus `stream`, the gradient that reaches `x` past the normalization.
///
/// `grad` is the gradient of the output of [`forward`]. `factors` scale each image of `branch`. Writes three
/// column sums to `sums`: the gradients of gamma and beta, and the sum of `branch`.
pub(super) fn backward(
    x: &CubeTensor,
    gamma: &CubeTensor,
    eps: f64,
    grad: CubeTensor,
    stream: CubeTensor,
    factors: Option<&Factors>,
    sums: &mut Sums,
) -> Backward {
    let dtype = grad.dtype;
    let (scaled, of_branch, branches, factors) = Factors::or(factors, gamma);
    let [x, gamma, grad, stream] = contiguous([x.clone(), gamma.clone(), grad, stream]);
    let width = gamma.meta.num_elements();
    let rows = x.meta.num_elements() / width;
    // Only factors need the number of tokens of an image.
    let tokens = if scaled { x.shape()[1] } else { 1 };
    let to_x = empty(&x, x.shape(), DType::F32);
    let branch = empty(&x, x.shape(), dtype);
    let units = units(width);
    let (count, dim) = for_each_part(units);
    let (parts, pitch, offset) = sums.next(3 * width);
    // SAFETY: the kernel checks rows and columns.
    unsafe {
        normalize_back::launch_unchecked(
            &x.client.clone(),
            count,
            dim,
            addresses(&[&x, &parts]),
            x.clone().into_buffer_arg(),
            gamma.into_buffer_arg(),
            grad.into_buffer_arg(),
            stream.into_buffer_arg(),
            factors.into_buffer_arg(),
            to_x.clone().into_buffer_arg(),
            branch.clone().into_buffer_arg(),
            parts.into_buffer_arg(),
            rows,
            tokens,
            of_branch,
            branches,
            pitch,
            offset,
            eps as f32,
            scaled,
            width,
            units,
            dtype_to_storage_type(dtype),
        );
    }
    Backward { stream: to_x, branch }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn normalize_back<E: Float>(
    x: &[f32],
    gamma: &[f32],
    grad: &[E],
    stream: &[f32],
    factors: &[f32],
    to_x: &mut [f32],
    branch: &mut [E],
    parts: &mut [f32],
    rows: usize,
    tokens: usize,
    of_branch: usize,
    branches: usize,
    pitch: usize,
    offset: usize,
    eps: f32,
    #[comptime] scaled: bool,
    #[comptime] width: usize,
    #[comptime] units: usize,
    #[define(E)] _dtype: ElemType,
) {
    let mut shared = Shared::new_slice(units);
    let columns = comptime!(width.div_ceil(units));
    let mut to_gamma = Array::<f32>::new(columns);
    let mut to_beta = Array::<f32>::new(columns);
    let mut branch_sums = Array::<f32>::new(columns);
    #[unroll]
    for i in 0..columns {
        to_gamma[i] = 0.0f32;
        to_beta[i] = 0.0f32;
        branch_sums[i] = 0.0f32;
    }
    let mut row = CUBE_POS;
    while row < rows {
        let start = row * width;
        let (mean, scale) = statistics(x, start, &mut shared, eps, width, units);
        let mut sum = 0.0f32;
        let mut along = 0.0f32;
        #[unroll]
        for i in 0..columns {
            let column = UNIT_POS as usize + i * units;
            if column < width {
                let normal = (x[start + column] - mean) * scale;
                let upstream = f32::cast_from(grad[start + column]);
                to_gamma[i] += upstream * normal;
                to_beta[i] += upstream;
                let scaled_grad = upstream * gamma[column];
                sum += scaled_grad;
                along += scaled_grad * normal;
            }
        }
        let count = width as f32;
        let mean_grad = sum_over_cube(sum, &mut shared, units) / count;
        let mean_along = sum_over_cube(along, &mut shared, units) / count;
        #[unroll]
        for i in 0..columns {
            let column = UNIT_POS as usize + i * units;
            if column < width {
                let normal = (x[start + column] - mean) * scale;
                let scaled_grad = f32::cast_from(grad[start + column]) * gamma[column];
                let across = (scaled_grad - mean_grad - normal * mean_along) * scale;
                let total = across + stream[start + column];
                to_x[start + column] = total;
                let mut of_row = total;
                if comptime!(scaled) {
                    of_row *= factors[row / tokens * branches + of_branch];
                }
                let rounded = E::cast_from(of_row);
                branch[start + column] = rounded;
                branch_sums[i] += f32::cast_from(rounded);
            }
        }
        row += comptime!(PARTS);
    }
    #[unroll]
    for i in 0..columns {
        let column = UNIT_POS as usize + i * units;
        if column < width {
            let place = CUBE_POS * pitch + offset + column;
            parts[place] = to_gamma[i];
            parts[place + width] = to_beta[i];
            parts[place + 2 * width] = branch_sums[i];
        }
    }
}
