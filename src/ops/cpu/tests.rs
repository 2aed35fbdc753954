//! Compares each operation and its gradients with Burn's operations, in fp32 and in float64.

use crate::ops::attention::composed;
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData, activation, module};

const EPS: f64 = 1e-6;

struct Leaves {
    x: Tensor<3>,
    w: Tensor<2>,
    rows: [Tensor<1>; 2],
    residual: Tensor<3>,
}

fn leaf<const R: usize>(shape: [usize; R], factor: usize, dtype: FloatDType) -> Tensor<R> {
    let count = shape.iter().product::<usize>();
    let values = (0..count).map(|i| (i * factor % 101) as f32 / 40.0 - 1.25).collect();
    let values = Tensor::<R>::from_data(TensorData::new::<f32, _>(values, shape), &Device::flex());
    values.cast(dtype).autodiff().require_grad()
}

/// Returns the output of `f`, and the gradients of a weighted sum of this output.
fn results(
    [images, tokens, inputs, outputs]: [usize; 4],
    dtype: FloatDType,
    f: impl Fn(Leaves) -> Tensor<3>,
) -> Vec<Vec<f64>> {
    let x = leaf([images, tokens, inputs], 7919, dtype);
    // Stored as `[outputs, inputs]`, like the weights of a model.
    let w = leaf([outputs, inputs], 613, dtype);
    let rows = [31, 57].map(|factor| leaf([outputs], factor, dtype));
    let residual = leaf([images, tokens, outputs], 911, dtype);
    let leaves = Leaves {
        x: x.clone(),
        w: w.clone().transpose(),
        rows: rows.clone(),
        residual: residual.clone(),
    };
    let y = f(leaves);
    let weights = leaf(y.dims(), 389, dtype).detach();
    let grads = (y.clone() * weights).sum().backward();
    let [gamma, beta] = rows.map(|row| row.grad(&grads).map(Tensor::into_data));
    let found = [
        Some(y.into_data()),
        x.grad(&grads).map(Tensor::into_data),
        w.grad(&grads).map(Tensor::into_data),
        gamma,
        beta,
        residual.grad(&grads).map(Tensor::into_data),
    ];
    let values = found.into_iter().flatten().map(|data| data.convert_dtype(DType::F64));
    values.map(|data| data.try_to_vec().expect("float64")).collect()
}

/// Asserts that `own` and `composed` agree within 1e-6 of the largest value.
fn same(
    sizes: [usize; 4],
    own: impl Fn(Leaves) -> Tensor<3>,
    composed: impl Fn(Leaves) -> Tensor<3>,
) {
    let own = results(sizes, FloatDType::F32, own);
    for dtype in [FloatDType::F32, FloatDType::F64] {
        let expected = results(sizes, dtype, &composed);
        assert_eq!(own.len(), expected.len(), "as many gradients");
        for (which, (own, expected)) in own.iter().zip(&expected).enumerate() {
            assert_eq!(own.len(), expected.len());
            let largest = expected.iter().fold(1.0, |a: f64, b| a.max(b.abs()));
            for (own, expected) in own.iter().zip(expected) {
                let off = (own - expected).abs() / largest;
                assert!(off < 1e-6, "{which} of {sizes:?}, {dtype:?}: {own}, expected {expected}");
            }
        }
    }
}

fn plain(leaves: Leaves) -> Tensor<3> {
    let Leaves { x, w, rows: [bias, _], .. } = leaves;
    module::linear(x, w, Some(bias))
}

const LAYERS: [[usize; 4]; 4] = [[1, 1, 1, 1], [2, 5, 7, 9], [3, 5, 16, 48], [2, 65, 33, 20]];

#[test]
fn linear_layers_match() {
    for sizes in LAYERS {
        let own = |Leaves { x, w, rows: [bias, _], .. }: Leaves| super::linear(x, w, bias);
        same(sizes, own, plain);
    }
}

#[test]
fn linear_layers_with_gelu_match() {
    for sizes in LAYERS {
        let own = |Leaves { x, w, rows: [bias, _], .. }: Leaves| super::linear_gelu(x, w, bias);
        same(sizes, own, |leaves| activation::gelu(plain(leaves)));
    }
}

#[test]
fn linear_layers_with_a_residual_match() {
    for sizes in LAYERS {
        let own = |Leaves { x, w, rows: [bias, _], residual }: Leaves| {
            super::linear_residual(x, w, bias, residual)
        };
        same(sizes, own, |leaves| leaves.residual.clone() + plain(leaves));
    }
}

#[test]
fn linear_layers_with_a_scaled_residual_match() {
    let scales = |x: &Tensor<3>| {
        let images = x.dims()[0];
        let scales: Vec<f32> = (0..images).map(|i| i as f32 * 1.25).collect();
        let scales = TensorData::new(scales, [images, 1, 1]);
        Tensor::<3>::from_data(scales, &Device::flex()).cast(x.dtype()).autodiff()
    };
    for sizes in LAYERS {
        let own = move |Leaves { x, w, rows: [bias, _], residual }: Leaves| {
            let scales = scales(&x);
            super::linear_scaled(x, w, bias, residual, scales)
        };
        same(sizes, own, move |leaves| {
            let scales = scales(&leaves.x);
            leaves.residual.clone() + plain(leaves) * scales
        });
    }
}

#[test]
fn layer_norms_match() {
    for width in [3, 16, 21, 64] {
        let own =
            |Leaves { x, rows: [gamma, beta], .. }: Leaves| super::layer_norm(x, gamma, beta, EPS);
        same([2, 5, width, width], own, |Leaves { x, rows: [gamma, beta], .. }| {
            module::layer_norm(x, gamma, Some(beta), EPS)
        });
    }
}

#[test]
fn attentions_match() {
    let heads_of = |tokens, head, heads| {
        let own = |leaves: Leaves| super::attention(leaves.x, heads);
        same([2, tokens, 3 * heads * head, 1], own, |leaves| composed(leaves.x, heads));
    };
    for (tokens, head) in [(1, 5), (5, 7), (5, 16), (17, 32), (65, 16), (230, 16)] {
        heads_of(tokens, head, 1);
    }
    heads_of(5, 16, 4);
    heads_of(5, 7, 4);
}

#[test]
fn operations_without_autodiff_give_the_same_bits() {
    let pairs: [fn(Leaves) -> Tensor<3>; 4] = [
        |Leaves { x, w, rows: [bias, _], .. }| super::linear_gelu(x, w, bias),
        |Leaves { x, w, rows: [bias, _], residual }| super::linear_residual(x, w, bias, residual),
        |Leaves { x, rows: [gamma, beta], .. }| super::layer_norm(x, gamma, beta, EPS),
        |Leaves { x, .. }| super::attention(x, 1),
    ];
    for f in pairs {
        let leaves = |plain: bool| {
            let of = |x: Tensor<3>| if plain { x.inner() } else { x };
            let row = |x: Tensor<1>| if plain { x.inner() } else { x };
            let (w, dtype) = (leaf([48, 48], 613, FloatDType::F32), FloatDType::F32);
            Leaves {
                x: of(leaf([2, 5, 48], 7919, dtype)),
                w: if plain { w.inner() } else { w },
                rows: [31, 57].map(|factor| row(leaf([48], factor, dtype))),
                residual: of(leaf([2, 5, 48], 911, dtype)),
            }
        };
        assert_eq!(f(leaves(true)).into_data(), f(leaves(false)).into_data());
    }
}
