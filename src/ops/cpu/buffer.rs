//! Slices of Burn's CPU tensors.

use super::matrix::Matrix;
use burn::backend::Flex;
use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Shape, TensorData};

/// A tensor of the CPU backend.
pub(super) type Values = FloatTensor<Flex>;

/// Copies a tensor unless its values are already in order.
pub(super) fn in_order(x: Values) -> Values {
    if x.is_contiguous() { x } else { x.to_contiguous() }
}

/// Returns the values of a tensor from [`in_order`].
pub(super) fn values(x: &Values) -> &[f32] {
    x.as_slice().expect("the values are fp32 and in order")
}

pub(super) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Values {
    Values::from_data(TensorData::new(values, shape.into()))
}

/// Returns the size of the last axis.
pub(super) fn width(x: &Values) -> usize {
    let shape = x.shape();
    shape[shape.num_dims() - 1]
}

/// Returns a matrix that may be transposed. [`matrix`] reads it without a copy.
pub(super) fn any_order(w: Values) -> Values {
    if w.layout().has_positive_strides() { w } else { w.to_contiguous() }
}

/// Views a tensor of two axes from [`any_order`].
pub(super) fn matrix(w: &Values) -> Matrix<'_> {
    let (shape, strides) = (w.shape(), w.layout().strides());
    let strides = [strides[0], strides[1]].map(isize::unsigned_abs);
    Matrix::strided(&w.storage::<f32>()[w.layout().start_offset()..], [shape[0], shape[1]], strides)
}

/// Returns `count` values to write. All of them must be written.
pub(super) fn unwritten(count: usize) -> Vec<f32> {
    vec![0.0; count]
}
