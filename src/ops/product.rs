//! Matrix products: of fp32 numbers in fp32 on every device, and not tuned where nobody asked for it.
//!
//! On a GPU with tensor cores Burn's own product rounds fp32 factors to TF32 (10 bits of mantissa in place of 23), and cannot
//! be told not to: about 1e-3 away from the official numbers, in every layer. It also tries up to fourteen kernels for every
//! new shape, each compiled for a second or more. That pays for bf16 products, of which a long run does millions.

use burn::tensor::DType;
use burn::tensor::Device;
use burn::tensor::Tensor;
use burn::tensor::module;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

static AUTOTUNE: AtomicBool = AtomicBool::new(false);

/// Says whether this process lets Burn tune bf16 products on GPUs; without a word it does not.
pub fn autotune(on: bool) {
    AUTOTUNE.store(on, Ordering::Relaxed);
}

/// `a b`, of `[.., m, k]` and `[.., k, n]` that agree in their other axes, as `[.., m, n]`; all fp32, or all bf16 with sums in
/// fp32.
pub fn product<const R: usize>(a: Tensor<R>, b: Tensor<R>) -> Tensor<R> {
    if is_burns(&a) { a.matmul(b) } else { on_gpu(a, b) }
}

/// `x w + bias` likewise, of `x` `[.., in]` and `w` `[in, out]`, as `[.., out]`.
pub fn linear<const R: usize>(x: Tensor<R>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<R> {
    if is_burns(&x) {
        return module::linear(x, weight, Some(bias));
    }
    let mut shape = x.dims();
    let [from, to] = weight.dims();
    let rows = shape.iter().take(R - 1).product();
    shape[R - 1] = to;
    let y: Tensor<2> = on_gpu(x.reshape([rows, from]), weight);
    (y + bias.unsqueeze()).reshape(shape)
}

/// Whether Burn's own product is what is wanted of a factor.
fn is_burns<const R: usize>(factor: &Tensor<R>) -> bool {
    let tuned = factor.dtype() == DType::BF16 && AUTOTUNE.load(Ordering::Relaxed);
    !cfg!(feature = "gpu") || tuned || factor.device() == Device::flex()
}

#[cfg(feature = "gpu")]
use super::cube::on_gpu;

/// There is no GPU in this build.
#[cfg(not(feature = "gpu"))]
fn on_gpu<const R: usize>(a: Tensor<R>, b: Tensor<R>) -> Tensor<R> {
    a.matmul(b)
}
