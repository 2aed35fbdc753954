//! Products of small matrices. This code is faster than `gemm` if both factors fit into the cache.

use pulp::{Arch, Simd, WithSimd};

/// The number of columns of the right factor must be a multiple of this number.
pub(super) const WIDTH: usize = 16;

/// The left factor of a product, `[m, k]`: a slice, and the distance between two rows (or columns) in this slice.
#[derive(Debug, Clone, Copy)]
pub(super) enum Left<'a> {
    /// The slice stores the matrix row by row.
    Rows(&'a [f32], usize),
    /// The slice stores the matrix column by column.
    Columns(&'a [f32], usize),
}

/// The product `c = a b`. `a` is `[m, k]`, and `b` is `[k, n]`.
#[derive(Debug)]
pub(super) struct SmallProduct<'a> {
    pub m: usize,
    pub k: usize,
    pub n: usize,
    pub a: Left<'a>,
    /// The slice of `b`, and the distance between two rows.
    pub b: (&'a [f32], usize),
    /// The slice of `c`, and the distance between two rows.
    pub c: (&'a mut [f32], usize),
}

impl SmallProduct<'_> {
    pub(super) fn run(self) {
        assert!(self.n.is_multiple_of(WIDTH) && self.k > 0, "whole vectors, and something to add");
        Arch::new().dispatch(self);
    }
}

/// Computes as many columns as `$vectors` SIMD vectors have lanes.
macro_rules! strip {
    ($S:ident, $simd:ident, $product:ident, $column:ident, $vectors:literal, $most:literal: $($rows:literal)*) => {{
        let (mut row, mut pieces) = (0, $product.m.div_ceil($most));
        while row < $product.m {
            let rows = ($product.m - row).div_ceil(pieces);
            match rows {
                $($rows => tile::<$S, $rows, $vectors>($simd, &mut $product, row, $column),)*
                _ => unreachable!("a tile has at most {} rows", $most),
            }
            row += rows;
            pieces -= 1;
        }
        $column += $vectors * $S::F32_LANES;
    }};
}

impl WithSimd for SmallProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let mut column = 0;
        while column < self.n {
            let vectors = (self.n - column) / S::F32_LANES;
            if S::REGISTER_COUNT >= 32 {
                match vectors {
                    1 => {
                        strip!(S, simd, self, column, 1, 16: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
                    }
                    2 => strip!(S, simd, self, column, 2, 12: 1 2 3 4 5 6 7 8 9 10 11 12),
                    3 => strip!(S, simd, self, column, 3, 8: 1 2 3 4 5 6 7 8),
                    4 | 6 | 8 => strip!(S, simd, self, column, 4, 6: 1 2 3 4 5 6),
                    _ => strip!(S, simd, self, column, 5, 5: 1 2 3 4 5),
                }
            } else if vectors == 1 {
                strip!(S, simd, self, column, 1, 12: 1 2 3 4 5 6 7 8 9 10 11 12);
            } else {
                strip!(S, simd, self, column, 2, 6: 1 2 3 4 5 6);
            }
        }
    }
}

/// Computes `ROWS` rows of as many columns as `VECTORS` SIMD vectors have lanes.
#[inline(always)]
fn tile<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    product: &mut SmallProduct<'_>,
    row: usize,
    column: usize,
) {
    let (k, columns) = (product.k, column..column + VECTORS * S::F32_LANES);
    let (b, stride) = product.b;
    let b = b.chunks(stride).take(k).map(|row| &row[columns.clone()]);
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    match product.a {
        Left::Rows(a, stride) => {
            let mut rows = [&a[..0]; ROWS];
            for (i, slot) in rows.iter_mut().enumerate() {
                *slot = &a[(row + i) * stride..][..k];
            }
            for (k, b) in b.enumerate() {
                add_products(simd, &mut sums, |i| rows[i][k], b);
            }
        }
        Left::Columns(a, stride) => {
            for (a, b) in a.chunks(stride).zip(b) {
                let a = &a[row..row + ROWS];
                add_products(simd, &mut sums, |i| a[i], b);
            }
        }
    }
    let (c, stride) = &mut product.c;
    for (i, sums) in sums.iter().enumerate() {
        let c = &mut c[(row + i) * *stride..][columns.clone()];
        S::as_mut_simd_f32s(c).0.copy_from_slice(sums);
    }
}

#[inline(always)]
fn add_products<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    sums: &mut [[S::f32s; VECTORS]; ROWS],
    a: impl Fn(usize) -> f32,
    b: &[f32],
) {
    let b = S::as_simd_f32s(b).0;
    for i in 0..ROWS {
        let a = simd.splat_f32s(a(i));
        for j in 0..VECTORS {
            sums[i][j] = simd.mul_add_f32s(a, b[j], sums[i][j]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Left, SmallProduct};

    #[test]
    fn products_of_all_sizes_are_exact_for_integers() {
        let number = |i: usize| (i * 7919 % 13) as f32 - 6.0;
        for (m, k, n) in [(1, 1, 16), (5, 7, 16), (17, 3, 32), (13, 4, 80), (65, 2, 144)] {
            let (a_stride, b_stride, c_stride) = (k + 2, n + 3, n + 5);
            let a: Vec<f32> = (0..m * a_stride).map(number).collect();
            let turned: Vec<f32> =
                (0..k * (m + 1)).map(|i| number(i % (m + 1) * a_stride + i / (m + 1))).collect();
            let b: Vec<f32> = (0..k * b_stride).map(number).collect();
            for left in [Left::Rows(&a, a_stride), Left::Columns(&turned, m + 1)] {
                let mut c = vec![0.5; m * c_stride];
                SmallProduct { m, k, n, a: left, b: (&b, b_stride), c: (&mut c, c_stride) }.run();
                for (i, c) in c.iter().enumerate() {
                    let (row, column) = (i / c_stride, i % c_stride);
                    let term = |k: usize| a[row * a_stride + k] * b[k * b_stride + column];
                    let sum = if column < n { (0..k).map(term).sum() } else { 0.5 };
                    assert!((c - sum).abs() < 1e-6, "{m} {k} {n}: {c}, expected {sum}");
                }
            }
        }
    }
}
