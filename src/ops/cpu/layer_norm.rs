//! Layer normalization over the last axis, on the CPU.

use super::blocks::{block_rows, each, summed};
use super::buffer::{Values, in_order, recycle, tensor, unwritten, values, width};
use super::simd::{self, Kernel, mul_add, sums};
use burn::backend::TensorMetadata;

/// Mean and inverse standard deviation of one row.
pub(super) type Moments = [f32; 2];

/// Normalizes each row of `x`, multiplies by `gamma`, and adds `beta`.
///
/// Also returns mean and inverse standard deviation of each row.
pub(super) fn layer_norm(
    x: Values,
    gamma: Values,
    beta: Values,
    eps: f64,
) -> (Values, Vec<Moments>) {
    let (x, gamma, beta) = (in_order(x), in_order(gamma), in_order(beta));
    let mut y = unwritten(values(&x).len());
    let mut moments = vec![[0.0; 2]; y.len() / width(&x)];
    let rows = block_rows(width(&x));
    let block = rows * width(&x);
    let outputs = y.chunks_mut(block).zip(moments.chunks_mut(rows));
    each(values(&x).chunks(block).zip(outputs), |(x, (y, moments))| {
        let (gamma, beta, eps) = (values(&gamma), values(&beta), eps as f32);
        simd::run(ForwardRows { x, gamma, beta, eps, y, moments });
    });
    (tensor(y, x.shape()), moments)
}

/// Returns the gradients of `x`, `gamma` and `beta`.
pub(super) fn backward(x: Values, moments: &[Moments], gamma: Values, grad: Values) -> [Values; 3] {
    let (x, gamma, grad) = (in_order(x), in_order(gamma), in_order(grad));
    let width = width(&x);
    let mut to_x = unwritten(values(&x).len());
    let rows = block_rows(width);
    let block = rows * width;
    let inputs = values(&x).chunks(block).zip(moments.chunks(rows));
    let blocks = inputs.zip(values(&grad).chunks(block)).zip(to_x.chunks_mut(block));
    let to_affine = summed(blocks, 2 * width, |(((x, moments), grad), to_x), sums| {
        let (to_gamma, to_beta) = sums.split_at_mut(width);
        let gamma = values(&gamma);
        simd::run(BackwardRows { x, moments, gamma, grad, to_x, to_gamma, to_beta });
    });
    let (to_gamma, to_beta) = to_affine.split_at(width);
    let [to_gamma, to_beta] = [to_gamma, to_beta].map(|sums| tensor(sums.to_vec(), [width]));
    let to_x = tensor(to_x, x.shape());
    recycle(grad);
    recycle(x);
    [to_x, to_gamma, to_beta]
}

struct ForwardRows<'a> {
    x: &'a [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
    eps: f32,
    y: &'a mut [f32],
    moments: &'a mut [Moments],
}

impl Kernel for ForwardRows<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Self { x, gamma, beta, eps, y, moments } = self;
        let width = gamma.len();
        let inverse = 1.0 / width as f32;
        let rows = x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(moments);
        for ((x, y), moments) in rows {
            let mean = sums([x], |[x]| [x])[0] * inverse;
            let variance = sums([x], |[x]| [(x - mean) * (x - mean)])[0] * inverse;
            let scale = 1.0 / (variance + eps).sqrt();
            for (((y, x), gamma), beta) in y.iter_mut().zip(x).zip(gamma).zip(beta) {
                *y = mul_add::<FMA>((x - mean) * scale, *gamma, *beta);
            }
            *moments = [mean, scale];
        }
    }
}

struct BackwardRows<'a> {
    x: &'a [f32],
    moments: &'a [Moments],
    gamma: &'a [f32],
    grad: &'a [f32],
    to_x: &'a mut [f32],
    to_gamma: &'a mut [f32],
    to_beta: &'a mut [f32],
}

impl Kernel for BackwardRows<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Self { x, moments, gamma, grad, to_x, to_gamma, to_beta } = self;
        let width = gamma.len();
        let inverse = 1.0 / width as f32;
        let rows = x.chunks_exact(width).zip(grad.chunks_exact(width)).zip(moments);
        for (((x, grad), &[mean, scale]), to_x) in rows.zip(to_x.chunks_exact_mut(width)) {
            let [across, along] = sums([x, grad, gamma], |[x, grad, gamma]| {
                let g = grad * gamma;
                [g, g * ((x - mean) * scale)]
            });
            let (across, along) = (across * inverse, along * inverse);
            let columns = to_gamma.iter_mut().zip(&mut *to_beta).zip(gamma);
            for (((to_x, x), grad), ((to_gamma, to_beta), gamma)) in
                to_x.iter_mut().zip(x).zip(grad).zip(columns)
            {
                let n = (x - mean) * scale;
                *to_x = scale * mul_add::<FMA>(-n, along, grad * gamma - across);
                *to_gamma = mul_add::<FMA>(*grad, n, *to_gamma);
                *to_beta += grad;
            }
        }
    }
}
