//! Moves values between `[N, L, parts * D]` and one matrix for each head, `[parts, N * heads, L, head]`.

use super::mlp::biased;
use super::rows::{PARTS, for_each_part, units};
use super::sums::Sums;
use super::{addresses, contiguous, empty, for_each};
use burn::backend::cubecl::dtype_to_storage_type;
use burn_cubecl::kernel::slice;
use burn_cubecl::ops::reshape;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

/// The sizes of a multi-head attention.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    pub n: usize,
    pub tokens: usize,
    #[expect(clippy::struct_field_names, reason = "the number of heads")]
    pub heads: usize,
    /// Width of a head.
    pub head: usize,
}

impl Heads {
    /// Adds `bias` to `x` `[N, L, parts * D]`, and returns each part as matrices `[N * heads, L, head]`.
    pub(super) fn split<const PARTS: usize>(
        self,
        x: CubeTensor,
        bias: Option<&CubeTensor>,
    ) -> [CubeTensor; PARTS] {
        let dtype = x.dtype;
        let bias = bias.cloned();
        let has_bias = bias.is_some();
        let [x] = contiguous([x]);
        let [bias] = contiguous([bias.unwrap_or_else(|| x.clone())]);
        let y = empty(&x, [PARTS, self.n * self.heads, self.tokens, self.head], dtype);
        let total = y.meta.num_elements();
        let (count, dim) = for_each(&x, total);
        let bias = bias.into_buffer_arg();
        // SAFETY: the kernel checks the place. Without a bias, it does not read `bias`.
        unsafe {
            split::launch_unchecked(
                &y.client,
                count,
                dim,
                addresses(&[&y]),
                x.into_buffer_arg(),
                bias,
                y.clone().into_buffer_arg(),
                total,
                self.n * self.heads,
                self.tokens,
                self.heads,
                self.head,
                PARTS,
                has_bias,
                dtype_to_storage_type(dtype),
            );
        }
        self.parts(&y)
    }

    /// Allocates `[N * heads, L, head]`.
    pub(super) fn matrix(self, like: &CubeTensor) -> CubeTensor {
        empty(like, [self.n * self.heads, self.tokens, self.head], like.dtype)
    }

    /// Returns the parts of `matrices` as `[N * heads, L, head]`. Copies a part that does not start at an aligned address.
    fn parts<const PARTS: usize>(self, matrices: &CubeTensor) -> [CubeTensor; PARTS] {
        let matrix = [self.n * self.heads, self.tokens, self.head];
        std::array::from_fn(|part| {
            let whole = |size| 0..size;
            let ranges = [part..part + 1, whole(matrix[0]), whole(matrix[1]), whole(matrix[2])];
            reshape(slice(matrices.clone(), &ranges), matrix.into())
        })
    }

    /// Returns `y` `[N * heads, L, head]` as `[N, L, D]`.
    pub(super) fn merge(self, y: CubeTensor) -> CubeTensor {
        let [y] = contiguous([y]);
        let x = empty(&y, [self.n, self.tokens, self.heads * self.head], y.dtype);
        let total = x.meta.num_elements();
        let (count, dim) = for_each(&x, total);
        // SAFETY: the kernel checks the place.
        unsafe {
            merge::launch_unchecked(
                &x.client,
                count,
                dim,
                addresses(&[&x]),
                y.into_buffer_arg(),
                x.clone().into_buffer_arg(),
                total,
                self.tokens,
                self.heads,
                self.head,
                dtype_to_storage_type(x.dtype),
            );
        }
        x
    }

    /// Joins three tensors `[N * heads, L, head]` to `[N, L, 3 D]`, and writes the column sums to `sums`.
    pub(super) fn merge_parts(self, parts: [CubeTensor; 3], sums: &mut Sums) -> CubeTensor {
        let [first, second, third] = contiguous(parts);
        let width = 3 * self.heads * self.head;
        let x = empty(&first, [self.n, self.tokens, width], first.dtype);
        let units = units(width);
        let (count, dim) = for_each_part(units);
        let (sums, pitch, offset) = sums.next(width);
        // SAFETY: the kernel checks rows and columns.
        unsafe {
            merge_back::launch_unchecked(
                &x.client,
                count,
                dim,
                addresses(&[&x, &sums]),
                first.into_buffer_arg(),
                second.into_buffer_arg(),
                third.into_buffer_arg(),
                x.clone().into_buffer_arg(),
                sums.into_buffer_arg(),
                self.n * self.tokens,
                self.tokens,
                self.heads,
                self.head,
                pitch,
                offset,
                width,
                units,
                dtype_to_storage_type(x.dtype),
            );
        }
        x
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn split<E: Float>(
    x: &[E],
    bias: &[f32],
    y: &mut [E],
    total: usize,
    matrices: usize,
    tokens: usize,
    heads: usize,
    head: usize,
    #[comptime] parts: usize,
    #[comptime] has_bias: bool,
    #[define(E)] _dtype: ElemType,
) {
    let place = ABSOLUTE_POS;
    if place < total {
        let within = place % head;
        let row = place / head;
        let token = row % tokens;
        let matrix = row / tokens % matrices;
        let part = row / tokens / matrices;
        let column = (part * heads + matrix % heads) * head + within;
        let from = (matrix / heads * tokens + token) * (comptime!(parts) * heads * head) + column;
        if comptime!(has_bias) {
            y[place] = biased::<E>(x[from], bias[column]);
        } else {
            y[place] = x[from];
        }
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn merge<E: Float>(
    y: &[E],
    x: &mut [E],
    total: usize,
    tokens: usize,
    heads: usize,
    head: usize,
    #[define(E)] _dtype: ElemType,
) {
    let place = ABSOLUTE_POS;
    if place < total {
        let width = heads * head;
        let column = place % width;
        let row = place / width;
        let matrix = row / tokens * heads + column / head;
        x[place] = y[(matrix * tokens + row % tokens) * head + column % head];
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn merge_back<E: Float>(
    first: &[E],
    second: &[E],
    third: &[E],
    x: &mut [E],
    sums: &mut [f32],
    rows: usize,
    tokens: usize,
    heads: usize,
    head: usize,
    pitch: usize,
    offset: usize,
    #[comptime] width: usize,
    #[comptime] units: usize,
    #[define(E)] _dtype: ElemType,
) {
    let mut column = UNIT_POS as usize;
    while column < width {
        let mut sum = 0.0f32;
        let part = column / (heads * head);
        let of_head = column / head % heads;
        let mut row = CUBE_POS;
        while row < rows {
            let matrix = row / tokens * heads + of_head;
            let place = (matrix * tokens + row % tokens) * head + column % head;
            let mut value = first[place];
            if part == 1 {
                value = second[place];
            } else if part == 2 {
                value = third[place];
            }
            x[row * width + column] = value;
            sum += f32::cast_from(value);
            row += comptime!(PARTS);
        }
        sums[CUBE_POS * pitch + offset + column] = sum;
        column += units;
    }
}
