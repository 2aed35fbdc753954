//! Updates a parameter in one pass over memory.

use super::blocks::{block_rows, each, summed};
use super::buffer::{Values, in_order, recycle, tensor, unwritten, values};
use super::simd::{self, Kernel, sums};
use crate::ops::AdamWStep;
use burn::backend::TensorMetadata;
use burn::tensor::DType;

/// Returns parameter and moments after an AdamW step.
pub(super) fn adamw(
    param: Values,
    grad: Values,
    [m, v]: [Values; 2],
    step: AdamWStep,
) -> [Values; 3] {
    let [param, grad] = [param, grad].map(in_order);
    let [mut m, mut v] = [m, v].map(whole);
    let mut updated = unwritten(values(&param).len());
    let block = block_rows(1);
    let inputs = values(&param).chunks(block).zip(values(&grad).chunks(block));
    let moments =
        m.storage_mut::<f32>().chunks_mut(block).zip(v.storage_mut::<f32>().chunks_mut(block));
    each(
        inputs.zip(moments).zip(updated.chunks_mut(block)),
        |(((param, grad), (m, v)), updated)| simd::run(Update { param, grad, m, v, updated, step }),
    );
    let updated = tensor(updated, param.shape());
    recycle(param);
    recycle(grad);
    [updated, m, v]
}

/// Returns the sum of squares of `x`, `[1]`.
pub(super) fn sum_of_squares(x: Values) -> Values {
    let x = in_order(x);
    let blocks = values(&x).chunks(block_rows(1));
    let total = summed(blocks, 1, |x, sums| simd::run(Squares { x, sum: &mut sums[0] }));
    tensor(total, [1])
}

/// Returns `x`, or a copy if the memory of `x` is part of a larger buffer.
fn whole(x: Values) -> Values {
    assert_eq!(x.dtype(), DType::F32, "moments are fp32");
    let x = in_order(x);
    if x.storage::<f32>().len() == x.shape().num_elements() {
        return x;
    }
    tensor(values(&x).to_vec(), x.shape())
}

/// Updates a block of a parameter. The order of operations is that of Burn's `AdamW`.
struct Update<'a> {
    param: &'a [f32],
    grad: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
    updated: &'a mut [f32],
    step: AdamWStep,
}

impl Kernel for Update<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Self { param, grad, m, v, updated, step } = self;
        let AdamWStep { beta_1, beta_2, epsilon, weight_decay, lr, time } = step;
        let [left_1, left_2] = [beta_1, beta_2].map(|beta| 1.0 - beta.powi(time as i32));
        let (kept, lr) = ((1.0 - lr * weight_decay) as f32, lr as f32);
        let moments = m.iter_mut().zip(v);
        for (((param, grad), (m, v)), updated) in param.iter().zip(grad).zip(moments).zip(updated) {
            *m = *m * beta_1 + grad * (1.0 - beta_1);
            *v = *v * beta_2 + grad * grad * (1.0 - beta_2);
            let delta = (*m / left_1) / ((*v / left_2).sqrt() + epsilon);
            *updated = param * kept - delta * lr;
        }
    }
}

struct Squares<'a> {
    x: &'a [f32],
    sum: &'a mut f32,
}

impl Kernel for Squares<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        *self.sum += sums([self.x], |[x]| [x * x])[0];
    }
}
