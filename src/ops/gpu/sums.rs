//! Column sums, such as gradients of biases: kernels write partial sums, and one launch adds them up.

use super::rows::{PARTS, for_each_part, units};
use super::{Factors, addresses, contiguous, empty, for_each};
use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::DType;
use burn_cubecl::kernel::slice;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

/// Partial sums of several kernels side by side, `[PARTS, total]` in fp32.
pub(super) struct Sums {
    parts: CubeTensor,
    /// Number of reserved columns.
    reserved: usize,
}

impl Sums {
    /// Allocates room for `total` sums on the device of `like`.
    pub(super) fn new(like: &CubeTensor, total: usize) -> Self {
        Self { parts: empty(like, [PARTS, total], DType::F32), reserved: 0 }
    }

    /// Reserves the next `width` columns. Returns all partial sums, the length of their rows, and the first column.
    pub(super) fn next(&mut self, width: usize) -> (CubeTensor, usize, usize) {
        let offset = self.reserved;
        self.reserved += width;
        (self.parts.clone(), self.parts.shape()[1], offset)
    }

    /// Adds up the partial sums, and splits the result into vectors of these widths.
    pub(super) fn finish<const N: usize>(self, widths: [usize; N]) -> [CubeTensor; N] {
        let total = self.parts.shape()[1];
        assert_eq!(widths.iter().sum::<usize>(), total, "every sum has a vector");
        assert_eq!(self.reserved, total, "every sum is written");
        let sums = empty(&self.parts, [total], DType::F32);
        let (count, dim) = for_each(&self.parts, total);
        // SAFETY: the kernel checks the column.
        unsafe {
            add_parts::launch_unchecked(
                &sums.client,
                count,
                dim,
                addresses(&[&self.parts]),
                self.parts.into_buffer_arg(),
                sums.clone().into_buffer_arg(),
                total,
            );
        }
        let mut start = 0;
        widths.map(|width| {
            let part = start..start + width;
            start += width;
            slice(sums.clone(), &[part])
        })
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn add_parts(parts: &[f32], sums: &mut [f32], total: usize) {
    let column = ABSOLUTE_POS;
    if column < total {
        let mut sum = 0.0f32;
        for part in 0..comptime!(PARTS) {
            sum += parts[part * total + column];
        }
        sums[column] = sum;
    }
}

/// Rounds `x`, times the factor of each image, to `dtype`. Writes the column sums to `sums`.
///
/// `x` is `[N, L, D]` in fp32.
pub(super) fn rounded(
    x: &CubeTensor,
    factors: Option<&Factors>,
    dtype: DType,
    sums: &mut Sums,
) -> CubeTensor {
    let (scaled, of_branch, branches, factors) = Factors::or(factors, x);
    let [x] = contiguous([x.clone()]);
    let [n, tokens, width] = x.shape().dims();
    let y = empty(&x, x.shape(), dtype);
    let units = units(width);
    let (count, dim) = for_each_part(units);
    let (parts, pitch, offset) = sums.next(width);
    // SAFETY: the kernel checks rows and columns.
    unsafe {
        round::launch_unchecked(
            &x.client.clone(),
            count,
            dim,
            addresses(&[&x, &parts]),
            x.into_buffer_arg(),
            factors.into_buffer_arg(),
            y.clone().into_buffer_arg(),
            parts.into_buffer_arg(),
            n * tokens,
            tokens,
            of_branch,
            branches,
            pitch,
            offset,
            scaled,
            width,
            units,
            dtype_to_storage_type(dtype),
        );
    }
    y
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn round<E: Float>(
    x: &[f32],
    factors: &[f32],
    y: &mut [E],
    parts: &mut [f32],
    rows: usize,
    tokens: usize,
    of_branch: usize,
    branches: usize,
    pitch: usize,
    offset: usize,
    #[comptime] scaled: bool,
    #[comptime] width: usize,
    #[comptime] units: usize,
    #[define(E)] _dtype: ElemType,
) {
    let mut column = UNIT_POS as usize;
    while column < width {
        let mut sum = 0.0f32;
        let mut row = CUBE_POS;
        while row < rows {
            let mut value = x[row * width + column];
            if comptime!(scaled) {
                value *= factors[row / tokens * branches + of_branch];
            }
            let rounded = E::cast_from(value);
            y[row * width + column] = rounded;
            sum += f32::cast_from(rounded);
            row += comptime!(PARTS);
        }
        parts[CUBE_POS * pitch + offset + column] = sum;
        column += units;
    }
}
