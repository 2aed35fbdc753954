//! The linear layer on the CPU: without GELU, with GELU, or with the residual addition.

use super::blocks::{block_rows, each, summed};
use super::buffer::{
    Values, any_order, in_order, keep, matrix, recycle, tensor, unwritten, values, width,
};
use super::matrix::{Matrix, Write, multiply};
use super::simd::{self, Kernel, mul_add, normal};
use burn::backend::TensorMetadata;
use burn::tensor::Shape;

/// Returns `x w + bias`, `[.., out]`. `x` is `[.., in]`, and `w` is `[in, out]`.
pub(super) fn linear(x: Values, w: Values, bias: Values) -> Values {
    let layer = Layer::of(x, w);
    let bias = in_order(bias);
    let y = layer.added_to(rows_of(values(&bias), layer.rows()));
    tensor(y, layer.output_shape())
}

/// Returns `residual + x w + bias`, with the shapes of [`linear`].
pub(super) fn linear_residual(x: Values, w: Values, bias: Values, residual: Values) -> Values {
    let layer = Layer::of(x, w);
    let (bias, residual) = (in_order(bias), in_order(residual));
    let bias = values(&bias);
    let mut y = unwritten(values(&residual).len());
    let block = block_rows(bias.len()) * bias.len();
    each(y.chunks_mut(block).zip(values(&residual).chunks(block)), |(y, x)| {
        simd::run(AddBias { x, bias, y });
    });
    tensor(layer.added_to(y), layer.output_shape())
}

/// Returns `residual + scale (x w + bias)`. `scale` has one value per image.
pub(super) fn linear_scaled(
    x: Values,
    w: Values,
    bias: Values,
    residual: Values,
    scale: Values,
) -> Values {
    let layer = Layer::of(x, w);
    let (bias, residual, scale) = (in_order(bias), in_order(residual), in_order(scale));
    let mut y = layer.added_to(rows_of(values(&bias), layer.rows()));
    let image = y.len() / values(&scale).len();
    let images = y.chunks_exact_mut(image).zip(values(&residual).chunks_exact(image));
    each(images.zip(values(&scale)), |((y, x), &scale)| simd::run(ScaleAdd { x, scale, y }));
    tensor(y, layer.output_shape())
}

/// Backward pass of `residual + scale * z`: returns the gradient of `z`.
pub(super) fn through_scale(grad: &Values, scale: Values) -> Values {
    let (grad, scale) = (in_order(grad.clone()), in_order(scale));
    let mut to_z = unwritten(values(&grad).len());
    let image = to_z.len() / values(&scale).len();
    let images = to_z.chunks_exact_mut(image).zip(values(&grad).chunks_exact(image));
    each(images.zip(values(&scale)), |((y, x), &scale)| simd::run(Scale { x, factor: scale, y }));
    tensor(to_z, grad.shape())
}

/// Returns `gelu(x w + bias)`, with the shapes of [`linear`].
pub(super) fn linear_gelu(x: Values, w: Values, bias: Values) -> Values {
    let layer = Layer::of(x, w);
    let bias = in_order(bias);
    let mut y = layer.added_to(rows_of(values(&bias), layer.rows()));
    each(y.chunks_mut(block_rows(1)), |y| simd::run(Gelu(y)));
    tensor(y, layer.output_shape())
}

/// Returns `gelu(z)` and its derivative `gelu'(z)`, where `z = x w + bias`.
pub(super) fn linear_gelu_with_slope(x: Values, w: Values, bias: Values) -> [Values; 2] {
    let layer = Layer::of(x, w);
    let bias = in_order(bias);
    let mut slope = layer.added_to(rows_of(values(&bias), layer.rows()));
    let mut y = unwritten(slope.len());
    let blocks = slope.chunks_mut(block_rows(1)).zip(y.chunks_mut(block_rows(1)));
    each(blocks, |(z, y)| simd::run(GeluWithSlope { z, y }));
    let shape = layer.output_shape();
    [tensor(y, shape.clone()), tensor(slope, shape)]
}

/// Which gradients to compute, in this order: `x`, `w`, bias.
pub(super) type Wanted = [bool; 3];

/// Returns the `wanted` gradients: of `x`, `w` and the bias.
///
/// `grad` is the gradient of `x w + bias`.
pub(super) fn backward(x: Values, w: Values, grad: Values, wanted: Wanted) -> [Option<Values>; 3] {
    let grad = in_order(grad);
    let layer = Layer::of(x, w);
    let bias = wanted[2].then(|| {
        let width = width(&grad);
        let blocks = values(&grad).chunks(block_rows(width) * width);
        summed(blocks, width, |x, sums| simd::run(AddRows { x, sums }))
    });
    let found = layer.gradients(values(&grad), bias, wanted);
    recycle(grad);
    recycle(layer.x);
    found
}

/// Returns the `wanted` gradients: of `x`, `w` and the bias.
///
/// `grad` is the gradient of `gelu(x w + bias)`. `slope` is the derivative of GELU.
pub(super) fn backward_gelu(
    x: Values,
    w: Values,
    slope: Values,
    grad: Values,
    wanted: Wanted,
) -> [Option<Values>; 3] {
    let grad = in_order(grad);
    let layer = Layer::of(x, w);
    let width = width(&grad);
    let block = block_rows(width) * width;
    let mut to_z = unwritten(values(&grad).len());
    let blocks = values(&grad).chunks(block).zip(values(&slope).chunks(block));
    let bias = summed(blocks.zip(to_z.chunks_mut(block)), width, |((grad, slope), to_z), sums| {
        simd::run(ThroughSlope { grad, slope, to_z, sums });
    });
    recycle(grad);
    recycle(slope);
    let found = layer.gradients(&to_z, wanted[2].then_some(bias), wanted);
    keep(to_z);
    recycle(layer.x);
    found
}

struct Layer {
    x: Values,
    w: Values,
}

impl Layer {
    fn of(x: Values, w: Values) -> Self {
        Self { x: in_order(x), w: any_order(w) }
    }

    fn rows(&self) -> usize {
        values(&self.x).len() / width(&self.x).max(1)
    }

    fn output_shape(&self) -> Shape {
        let mut shape = self.x.shape();
        let last = shape.num_dims() - 1;
        shape[last] = width(&self.w);
        shape
    }

    fn inputs(&self) -> Matrix<'_> {
        Matrix::of(values(&self.x), width(&self.x))
    }

    /// Returns `y + x w`.
    fn added_to(&self, mut y: Vec<f32>) -> Vec<f32> {
        multiply(&mut y, width(&self.w), self.inputs(), matrix(&self.w), Write::Add);
        y
    }

    /// Returns the `wanted` gradients: of `x`, `w` and the bias.
    fn gradients(
        &self,
        grad: &[f32],
        bias: Option<Vec<f32>>,
        wanted: Wanted,
    ) -> [Option<Values>; 3] {
        let (inputs, outputs) = (width(&self.x), width(&self.w));
        let grad = Matrix::of(grad, outputs);
        let to_x = wanted[0].then(|| {
            let mut to_x = unwritten(values(&self.x).len());
            multiply(&mut to_x, inputs, grad, matrix(&self.w).transposed(), Write::Overwrite);
            tensor(to_x, self.x.shape())
        });
        let to_w = wanted[1].then(|| {
            // The gradient is stored as `[out, in]`, like the parameter. The view is transposed like `w`.
            let mut to_w = unwritten(inputs * outputs);
            multiply(&mut to_w, inputs, grad.transposed(), self.inputs(), Write::Overwrite);
            tensor(to_w, [outputs, inputs]).transpose(0, 1)
        });
        [to_x, to_w, bias.map(|bias| tensor(bias, [outputs]))]
    }
}

fn rows_of(row: &[f32], count: usize) -> Vec<f32> {
    let mut rows = unwritten(row.len() * count);
    each(rows.chunks_mut(block_rows(row.len()) * row.len()), |block| {
        block.chunks_exact_mut(row.len()).for_each(|copy| copy.copy_from_slice(row));
    });
    rows
}

/// Writes `x + bias` into `y`. `bias` is added to each row.
struct AddBias<'a> {
    x: &'a [f32],
    bias: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for AddBias<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let width = self.bias.len();
        for (y, x) in self.y.chunks_exact_mut(width).zip(self.x.chunks_exact(width)) {
            for ((y, x), bias) in y.iter_mut().zip(x).zip(self.bias) {
                *y = x + bias;
            }
        }
    }
}

/// Replaces `y` by `x + scale * y`.
struct ScaleAdd<'a> {
    x: &'a [f32],
    scale: f32,
    y: &'a mut [f32],
}

impl Kernel for ScaleAdd<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (y, x) in self.y.iter_mut().zip(self.x) {
            *y = mul_add::<FMA>(*y, self.scale, *x);
        }
    }
}

/// Writes `factor * x` into `y`.
struct Scale<'a> {
    x: &'a [f32],
    factor: f32,
    y: &'a mut [f32],
}

impl Kernel for Scale<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (y, x) in self.y.iter_mut().zip(self.x) {
            *y = x * self.factor;
        }
    }
}

/// Adds all rows of `x` to `sums`.
struct AddRows<'a> {
    x: &'a [f32],
    sums: &'a mut [f32],
}

impl Kernel for AddRows<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for x in self.x.chunks_exact(self.sums.len()) {
            for (sum, x) in self.sums.iter_mut().zip(x) {
                *sum += x;
            }
        }
    }
}

struct Gelu<'a>(&'a mut [f32]);

impl Kernel for Gelu<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for z in self.0 {
            *z *= normal::<FMA>(*z).0;
        }
    }
}

/// Writes `gelu(z)` into `y`, and replaces `z` by `gelu'(z) = Φ(z) + z φ(z)`.
struct GeluWithSlope<'a> {
    z: &'a mut [f32],
    y: &'a mut [f32],
}

impl Kernel for GeluWithSlope<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (z, y) in self.z.iter_mut().zip(self.y) {
            let (cdf, density) = normal::<FMA>(*z);
            *y = *z * cdf;
            *z = mul_add::<FMA>(*z, density, cdf);
        }
    }
}

/// Writes `grad * slope` into `to_z`, and adds all rows of `to_z` to `sums`.
struct ThroughSlope<'a> {
    grad: &'a [f32],
    slope: &'a [f32],
    to_z: &'a mut [f32],
    sums: &'a mut [f32],
}

impl Kernel for ThroughSlope<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let width = self.sums.len();
        let rows = self.grad.chunks_exact(width).zip(self.slope.chunks_exact(width));
        for ((grad, slope), to_z) in rows.zip(self.to_z.chunks_exact_mut(width)) {
            let factors = grad.iter().zip(slope).zip(to_z);
            for (((grad, slope), to_z), sum) in factors.zip(&mut *self.sums) {
                *to_z = grad * slope;
                *sum += *to_z;
            }
        }
    }
}
