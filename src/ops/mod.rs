//! Operations with their own backward pass. Tests compare each operation with Burn's operations.
//!
//! A GPU runs a whole transformer block as one operation (`block`, with the kernels of the folder `gpu`), and the optimizer
//! on twelve parameters at once (`twelve`). The CPU uses the folder `cpu` for fp32. In bf16 and fp16, the CPU uses
//! `attention` and `gelu`, and Burn's operations otherwise.

mod attention;
#[cfg(feature = "gpu")]
mod block;
mod cpu;
mod dtype;
mod gelu;
#[cfg(feature = "gpu")]
mod gpu;
mod layer_norm;
mod permutation;
mod product;
#[cfg(feature = "gpu")]
mod twelve;
mod update;

pub use attention::attention;
#[cfg(feature = "gpu")]
pub use block::{BlockShape, block};
pub use dtype::is_gpu;
pub use layer_norm::layer_norm;
pub use permutation::permuted;
pub use product::{
    autotune, is_autotuned, linear, linear_gelu, linear_residual, linear_scaled, product,
};
#[cfg(feature = "gpu")]
pub use twelve::{AdamWSettings, adamw_of_twelve, sum_of_all_squares};
pub use update::{AdamWStep, adamw, sum_of_squares};

#[cfg(test)]
mod tests {
    use super::{attention, gelu, layer_norm, product};
    use burn::tensor::{Device, Tensor, TensorData, activation, module};

    fn leaf<const R: usize>(shape: [usize; R], factor: usize) -> Tensor<R> {
        let count = shape.iter().product::<usize>();
        let values = (0..count).map(|i| (i * factor % 101) as f32 / 20.0 - 2.5).collect();
        let data = TensorData::new::<f32, _>(values, shape);
        Tensor::from_data(data, &Device::flex().autodiff()).require_grad()
    }

    /// Returns the output of `f`, and the gradients of a weighted sum of this output.
    fn results(
        shape: [usize; 3],
        f: impl Fn(Tensor<3>, [Tensor<1>; 2]) -> Tensor<3>,
    ) -> Vec<Vec<f32>> {
        let width = shape[2];
        let (x, gamma, beta) = (leaf(shape, 7919), leaf([width], 31), leaf([width], 57));
        let y = f(x.clone(), [gamma.clone(), beta.clone()]);
        let grads = (y.clone() * leaf(y.dims(), 613).detach()).sum().backward();
        let of_vectors = [gamma, beta].map(|leaf| leaf.grad(&grads).map(Tensor::into_data));
        let all = [Some(y.into_data()), x.grad(&grads).map(Tensor::into_data)];
        let all = all.into_iter().chain(of_vectors).flatten();
        all.map(|data| data.try_to_vec().expect("fp32")).collect()
    }

    fn same(own: &[Vec<f32>], plain: &[Vec<f32>], gradients: usize) {
        assert_eq!((own.len(), plain.len()), (1 + gradients, 1 + gradients));
        for (own, plain) in own.iter().flatten().zip(plain.iter().flatten()) {
            assert!((own - plain).abs() <= 2e-6 * plain.abs().max(1.0), "{own}, expected {plain}");
        }
    }

    #[test]
    fn attention_and_its_gradient_match_the_composition() {
        let plain = results([2, 5, 84], |qkv, _| attention::composed(qkv, 4));
        same(&results([2, 5, 84], |qkv, _| attention::own(qkv, 4)), &plain, 1);
    }

    #[test]
    fn products_and_their_gradients_match_burns() {
        type Product = fn(Tensor<3>, Tensor<3>) -> Tensor<3>;
        let cases: [fn(Product, Tensor<3>) -> Tensor<3>; 3] = [
            |product, x| product(x.clone(), (x * 0.5).transpose()),
            |product, x| product(x, leaf([2, 7, 4], 31).detach()),
            |product, x| product(leaf([2, 4, 7], 31).detach(), x.transpose()),
        ];
        for case in cases {
            let with = |product: Product| results([2, 3, 7], |x, _| case(product, x));
            same(&with(product::own), &with(Tensor::matmul), 1);
        }
    }

    #[test]
    fn gelu_and_its_gradient_match_burns() {
        let plain = results([2, 3, 7], |x, _| activation::gelu(x));
        same(&results([2, 3, 7], |x, _| gelu::gelu(x)), &plain, 1);
    }

    #[test]
    fn layer_norm_and_its_gradients_match_burns() {
        let plain = results([2, 3, 7], |x, [g, b]| module::layer_norm(x, g, Some(b), 1e-6));
        same(&results([2, 3, 7], |x, [g, b]| layer_norm::own(x, g, b, 1e-6)), &plain, 3);
    }
}
