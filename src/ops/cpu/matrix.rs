//! Multiplies matrices in slices, with the crate `gemm`.

use super::blocks::{column_blocks, each};
use std::sync::atomic::{AtomicPtr, Ordering};

/// A slice viewed as a matrix. Entry `(i, j)` is at index `i * row + j * column`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row: usize,
    column: usize,
}

impl<'a> Matrix<'a> {
    /// Views `values` as a matrix with the given size and strides.
    ///
    /// Panics if an entry is outside of `values`.
    pub(super) fn strided(
        values: &'a [f32],
        [rows, columns]: [usize; 2],
        [row, column]: [usize; 2],
    ) -> Self {
        let last = rows.saturating_sub(1) * row + columns.saturating_sub(1) * column;
        assert!(rows * columns == 0 || last < values.len(), "all entries are in the slice");
        Self { values, rows, columns, row, column }
    }

    /// Views `values` as a row-major matrix with this number of columns.
    pub(super) fn of(values: &'a [f32], columns: usize) -> Self {
        Self::strided(values, [values.len() / columns.max(1), columns], [columns, 1])
    }

    pub(super) fn transposed(self) -> Self {
        let Self { values, rows, columns, row, column } = self;
        Self { values, rows: columns, columns: rows, row: column, column: row }
    }
}

/// Whether a matrix product replaces the values of its output, or is added to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Write {
    Overwrite,
    Add,
}

/// Writes the product of `a` and `b` into `y`, or adds it to `y`.
///
/// `stride` is the distance between two rows of `y`.
pub(super) fn multiply(y: &mut [f32], stride: usize, a: Matrix<'_>, b: Matrix<'_>, write: Write) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!(k, b.rows, "the inner sizes agree");
    if m * n * k == 0 {
        assert!(write == Write::Add || m * n == 0, "an empty sum is not written");
        return;
    }
    assert!(n <= stride && (m - 1) * stride + n <= y.len(), "the product fits into the output");
    let y = AtomicPtr::new(y.as_mut_ptr());
    each(column_blocks([m, k, n]), |columns| {
        #[expect(unsafe_code, reason = "the crate `gemm` takes raw pointers")]
        // SAFETY: `Matrix::strided` keeps all entries of `a` and `b` inside their slices. The assertion above keeps the
        // entries of `y` inside its slice. `y` is borrowed mutably until all blocks are done, and no two blocks share a
        // column. So nothing else reads or writes these entries of `y`. The strides fit into `isize`, because slices
        // do.
        unsafe {
            gemm::gemm(
                m,
                columns.len(),
                k,
                y.load(Ordering::Relaxed).add(columns.start),
                1,
                stride as isize,
                write == Write::Add,
                a.values.as_ptr(),
                a.column as isize,
                a.row as isize,
                b.values.as_ptr().add(columns.start * b.column),
                b.column as isize,
                b.row as isize,
                1.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    });
}
