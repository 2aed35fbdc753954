//! Softmax of attention scores.

use super::rows::{for_each_row, max_over_cube, sum_over_cube, units};
use super::{addresses, contiguous, empty};
use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

/// Returns the softmax of `scale * scores` over the last axis, computed in fp32, in the type of `scores`.
pub(super) fn forward(scores: CubeTensor, scale: f64) -> CubeTensor {
    let [scores] = contiguous([scores]);
    let dtype = scores.dtype;
    let width = scores.shape()[scores.rank() - 1];
    let rows = scores.meta.num_elements() / width;
    let y = empty(&scores, scores.shape(), dtype);
    let units = units(width);
    let (count, dim) = for_each_row(&scores, rows, units);
    // SAFETY: the kernel checks the row.
    unsafe {
        soften::launch_unchecked(
            &scores.client.clone(),
            count,
            dim,
            addresses(&[&scores]),
            scores.into_buffer_arg(),
            y.clone().into_buffer_arg(),
            rows,
            scale as f32,
            width,
            units,
            dtype_to_storage_type(dtype),
        );
    }
    y
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn soften<E: Float>(
    scores: &[E],
    y: &mut [E],
    rows: usize,
    scale: f32,
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
        // Every unit has a column or the first column, so the maximum is one of the row's values.
        let mut largest = f32::cast_from(scores[start]) * scale;
        #[unroll]
        for i in 0..columns {
            let column = UNIT_POS as usize + i * units;
            if column < width {
                let value = f32::cast_from(scores[start + column]) * scale;
                kept[i] = value;
                largest = max(largest, value);
            }
        }
        let largest = max_over_cube(largest, &mut shared, units);
        let mut sum = 0.0f32;
        #[unroll]
        for i in 0..columns {
            let column = UNIT_POS as usize + i * units;
            if column < width {
                let value = (kept[i] - largest).exp();
                kept[i] = value;
                sum += value;
            }
        }
        let sum = sum_over_cube(sum, &mut shared, units);
        #[unroll]
        for i in 0..columns {
            let column = UNIT_POS as usize + i * units;
            if column < width {
                y[start + column] = E::cast_from(kept[i] / sum);
            }
        }
    }
}

/// Returns the gradient of `scores` from [`forward`]'s output `y` and its gradient.
pub(super) fn backward(y: &CubeTensor, grad: CubeTensor, scale: f64) -> CubeTensor {
    let [y, grad] = contiguous([y.clone(), grad]);
    let dtype = y.dtype;
    let width = y.shape()[y.rank() - 1];
    let rows = y.meta.num_elements() / width;
    let to_scores = empty(&y, y.shape(), dtype);
    let units = units(width);
    let (count, dim) = for_each_row(&y, rows, units);
    // SAFETY: the kernel checks the row.
    unsafe {
        soften_back::launch_unchecked(
            &y.client.clone(),
            count,
            dim,
            addresses(&[&y]),
            y.into_buffer_arg(),
            grad.into_buffer_arg(),
            to_scores.clone().into_buffer_arg(),
            rows,
            scale as f32,
            width,
            units,
            dtype_to_storage_type(dtype),
        );
    }
    to_scores
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn soften_back<E: Float>(
    y: &[E],
    grad: &[E],
    to_scores: &mut [E],
    rows: usize,
    scale: f32,
    #[comptime] width: usize,
    #[comptime] units: usize,
    #[define(E)] _dtype: ElemType,
) {
    let mut shared = Shared::new_slice(units);
    let row = CUBE_POS;
    if row < rows {
        let start = row * width;
        let mut sum = 0.0f32;
        let mut column = UNIT_POS as usize;
        while column < width {
            sum += f32::cast_from(y[start + column]) * f32::cast_from(grad[start + column]);
            column += units;
        }
        let sum = sum_over_cube(sum, &mut shared, units);
        let mut column = UNIT_POS as usize;
        while column < width {
            let off = f32::cast_from(grad[start + column]) - sum;
            let value = f32::cast_from(y[start + column]) * off * scale;
            to_scores[start + column] = E::cast_from(value);
            column += units;
        }
    }
}
