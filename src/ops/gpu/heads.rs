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
        let y = self.matrices(&x, PARTS);
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

    /// Allocates `[parts, N * heads, L, head]`.
    pub(super) fn matrices(self, like: &CubeTensor, parts: usize) -> CubeTensor {
        empty(like, [parts, self.n * self.heads, self.tokens, self.head], like.dtype)
    }

    /// Returns views `[N * heads, L, head]` of the parts of `matrices`.
    pub(super) fn parts<const PARTS: usize>(self, matrices: &CubeTensor) -> [CubeTensor; PARTS] {
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

    /// Returns `[parts, N * heads, L, head]` as `[N, L, parts * D]`, and writes its column sums to `sums`.
    pub(super) fn merge_parts(self, matrices: CubeTensor, sums: &mut Sums) -> CubeTensor {
        let [matrices] = contiguous([matrices]);
        let width = matrices.meta.num_elements() / (self.n * self.tokens);
        let x = empty(&matrices, [self.n, self.tokens, width], matrices.dtype);
        let units = units(width);
        let (count, dim) = for_each_part(units);
        let (parts, pitch, offset) = sums.next(width);
        // SAFETY: the kernel checks rows and columns.
        unsafe {
            merge_back::launch_unchecked(
                &x.client,
                count,
                dim,
                addresses(&[&x, &parts]),
                matrices.into_buffer_arg(),
                x.clone().into_buffer_arg(),
                parts.into_buffer_arg(),
                self.n * self.tokens,
                self.n * self.heads,
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
    matrices: &[E],
    x: &mut [E],
    parts: &mut [f32],
    rows: usize,
    count: usize,
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
            let matrix = part * count + row / tokens * heads + of_head;
            let value = matrices[(matrix * tokens + row % tokens) * head + column % head];
            x[row * width + column] = value;
            sum += f32::cast_from(value);
            row += comptime!(PARTS);
        }
        parts[CUBE_POS * pitch + offset + column] = sum;
        column += units;
    }
}
