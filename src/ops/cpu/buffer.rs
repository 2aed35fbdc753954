//! Slices of the tensors of Burn's CPU backend, and reuse of freed tensor memory.

use super::matrix::Matrix;
use burn::backend::Flex;
use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Shape, TensorData};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A tensor of Burn's CPU backend.
pub(super) type Values = FloatTensor<Flex>;

/// Returns `x` as a contiguous tensor. Copies only if `x` is not contiguous.
pub(super) fn in_order(x: Values) -> Values {
    if x.is_contiguous() { x } else { x.to_contiguous() }
}

/// Returns the values of a contiguous fp32 tensor.
pub(super) fn values(x: &Values) -> &[f32] {
    x.as_slice().expect("the values are fp32 and in order")
}

pub(super) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Values {
    Values::from_data(TensorData::new(values, shape.into()))
}

/// Returns the length of the last axis.
pub(super) fn width(x: &Values) -> usize {
    let shape = x.shape();
    shape[shape.num_dims() - 1]
}

/// Returns `w` in a memory layout that [`matrix`] can read. A transposed matrix needs no copy.
pub(super) fn any_order(w: Values) -> Values {
    if w.layout().has_positive_strides() { w } else { w.to_contiguous() }
}

/// Returns a view of a 2-D tensor. Call [`any_order`] first.
pub(super) fn matrix(w: &Values) -> Matrix<'_> {
    let (shape, strides) = (w.shape(), w.layout().strides());
    let strides = [strides[0], strides[1]].map(isize::unsigned_abs);
    Matrix::strided(&w.storage::<f32>()[w.layout().start_offset()..], [shape[0], shape[1]], strides)
}

/// Size of the smallest buffer that is kept for reuse, in values.
const LEAST_KEPT: usize = 4096;
/// A buffer that is unused for this long is freed.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// Buffers for reuse. The key is the number of values in a buffer.
static SPARE: Mutex<BTreeMap<usize, Spare>> = Mutex::new(BTreeMap::new());

struct Spare {
    buffers: Vec<Vec<f32>>,
    /// Number of allocated buffers of this length. At most this many are kept.
    allocated: usize,
    used: Instant,
}

/// Returns a buffer of `count` arbitrary values. The caller must write every value.
pub(super) fn unwritten(count: usize) -> Vec<f32> {
    if cfg!(test) {
        return vec![f32::NAN; count];
    }
    if count < LEAST_KEPT {
        return vec![0.0; count];
    }
    let now = Instant::now();
    let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
    let of_length = spare.entry(count).or_insert_with(|| Spare {
        buffers: Vec::new(),
        allocated: 0,
        used: now,
    });
    of_length.used = now;
    if let Some(buffer) = of_length.buffers.pop() {
        return buffer;
    }
    of_length.allocated += 1;
    spare.retain(|_, spare| now - spare.used < KEPT_FOR);
    drop(spare);
    vec![0.0; count]
}

/// Keeps the memory of `x` for [`unwritten`]. Does nothing if another tensor shares this memory.
pub(super) fn recycle(x: Values) {
    let count = x.shape().num_elements();
    let is_whole = x.is_contiguous() && x.bytes().len() == count * size_of::<f32>();
    if count < LEAST_KEPT || !x.is_unique() || !is_whole {
        return;
    }
    let Ok(buffer) = x.into_data().try_into_vec() else { return };
    keep(buffer);
}

/// Keeps `buffer` for [`unwritten`].
pub(super) fn keep(buffer: Vec<f32>) {
    let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(of_length) = spare.get_mut(&buffer.len())
        && of_length.buffers.len() < of_length.allocated
    {
        of_length.buffers.push(buffer);
    }
}
