//! A transformer block on the GPU: 13 launches forward, 20 backward, and one that rounds the weights.

use super::heads::Heads;
use super::product::{multiply, transposed};
use super::sums::{self, Sums};
use super::{Factors, casts, empty, mlp, norm, softmax};
use crate::ops::block::{BlockGradients, BlockPasses, BlockShape, Forward, Saved, Weights};
use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::ops::reshape;
use burn_cubecl::tensor::CubeTensor;

impl BlockPasses for CubeBackend {
    fn block(
        x: CubeTensor,
        weights: Weights<Self>,
        factors: CubeTensor,
        shape: BlockShape,
    ) -> Forward<Self> {
        let dims = Dims::of(&x, &weights, shape);
        let [attn, mlp] = dims.factors(&factors);
        let Weights { gamma_1, beta_1, qkv_bias, proj_bias, gamma_2, beta_2, .. } = &weights;
        let [qkv, proj, fc1, fc2] = dims.narrow(&weights);
        let dtype = dims.narrow;

        let normed_1 = norm::forward(&x, gamma_1, beta_1, shape.eps, dtype);
        let [q, k, v] = dims.heads.split(dims.linear(&normed_1, &qkv), Some(qkv_bias));
        let raw = dims.products(q.clone(), transposed(k.clone()), dims.heads.tokens);
        let scores = softmax::forward(raw, dims.scale());
        let attended = dims.heads.merge(dims.products(scores.clone(), v.clone(), dims.heads.head));
        let norm::Joined { stream: middle, normed: normed_2 } = norm::after_product(
            dims.linear(&attended, &proj),
            proj_bias,
            &x,
            attn.as_ref(),
            [gamma_2, beta_2],
            shape.eps,
        );

        let hidden = dims.linear(&normed_2, &fc1);
        let active = mlp::gelu(&hidden, &weights.fc1_bias);
        let y = mlp::residual(dims.linear(&active, &fc2), &weights.fc2_bias, &middle, mlp.as_ref());
        let saved = Saved {
            qkv,
            proj,
            fc1,
            fc2,
            normed_1,
            normed_2,
            q,
            k,
            v,
            scores,
            attended,
            middle,
            hidden,
            active,
        };
        Forward { y, saved }
    }

    fn block_back(
        grad: CubeTensor,
        x: CubeTensor,
        saved: Saved<Self>,
        weights: Weights<Self>,
        factors: CubeTensor,
        shape: BlockShape,
    ) -> BlockGradients<Self> {
        let dims = Dims::of(&x, &weights, shape);
        let [attn, mlp] = dims.factors(&factors);
        let (d, hidden) = (dims.width, dims.hidden);
        let mut sums = Sums::new(&x, d + hidden + 3 * d + 3 * d + 3 * d);

        let to_fc2 = sums::rounded(&grad, mlp.as_ref(), dims.narrow, &mut sums);
        let to_active = dims.linear_back(&to_fc2, &saved.fc2);
        let to_hidden = mlp::gelu_back(&saved.hidden, &weights.fc1_bias, to_active, &mut sums);
        let to_normed_2 = dims.linear_back(&to_hidden, &saved.fc1);
        let norm::Backward { stream, branch: to_proj } = norm::backward(
            &saved.middle,
            &weights.gamma_2,
            shape.eps,
            to_normed_2,
            grad,
            attn.as_ref(),
            &mut sums,
        );

        let [to_y] = dims.heads.split(dims.linear_back(&to_proj, &saved.proj), None);
        let [to_q, to_k, to_v] = [(); 3].map(|()| dims.heads.matrix(&to_y));
        multiply(transposed(saved.scores.clone()), to_y.clone(), &to_v);
        let to_scores = dims.products(to_y, transposed(saved.v.clone()), dims.heads.tokens);
        let to_raw = softmax::backward(&saved.scores, to_scores, dims.scale());
        multiply(to_raw.clone(), saved.k.clone(), &to_q);
        multiply(transposed(to_raw), saved.q.clone(), &to_k);
        let to_qkv = dims.heads.merge_parts([to_q, to_k, to_v], &mut sums);
        let to_normed_1 = dims.linear_back(&to_qkv, &saved.qkv);
        let norm::Backward { stream: to_x, .. } =
            norm::backward(&x, &weights.gamma_1, shape.eps, to_normed_1, stream, None, &mut sums);

        let qkv = dims.weight_back(&to_qkv, &saved.normed_1);
        let proj = dims.weight_back(&to_proj, &saved.attended);
        let fc1 = dims.weight_back(&to_hidden, &saved.normed_2);
        let fc2 = dims.weight_back(&to_fc2, &saved.active);
        let widths = [d, hidden, d, d, d, 3 * d, d, d, d];
        let [fc2_bias, fc1_bias, gamma_2, beta_2, proj_bias, qkv_bias, gamma_1, beta_1, _] =
            sums.finish(widths);
        let attention = [gamma_1, beta_1, qkv, qkv_bias, proj, proj_bias];
        let weights = Weights::new(attention, [gamma_2, beta_2, fc1, fc1_bias, fc2, fc2_bias]);
        BlockGradients { x: to_x, weights }
    }
}

/// The sizes of one call.
struct Dims {
    heads: Heads,
    width: usize,
    hidden: usize,
    /// Type of the factors of products.
    narrow: DType,
    /// The column of the attention branch in the factors of stochastic depth.
    factors_at: Option<usize>,
}

impl Dims {
    fn of(x: &CubeTensor, weights: &Weights<CubeBackend>, shape: BlockShape) -> Self {
        let [n, tokens, width] = x.shape().dims();
        let heads = Heads { n, tokens, heads: shape.heads, head: width / shape.heads };
        let hidden = weights.fc1_bias.meta.num_elements();
        Self { heads, width, hidden, narrow: shape.narrow, factors_at: shape.factors_at }
    }

    fn scale(&self) -> f64 {
        (self.heads.head as f64).powf(-0.5)
    }

    /// Returns the factors of the attention branch and of the MLP branch.
    fn factors(&self, all: &CubeTensor) -> [Option<Factors>; 2] {
        let of_branch = |column| Factors { all: all.clone(), column };
        [0, 1].map(|branch| self.factors_at.map(|column| of_branch(column + branch)))
    }

    /// Rounds the four matrices.
    fn narrow(&self, weights: &Weights<CubeBackend>) -> [CubeTensor; 4] {
        let Weights { qkv, proj, fc1, fc2, .. } = weights;
        let matrices = [qkv, proj, fc1, fc2].map(Clone::clone);
        if self.narrow == DType::F32 { matrices } else { casts::narrow(matrices, self.narrow) }
    }

    /// Returns `x` `[N, L, in]` as rows `[N L, in]`.
    fn rows(&self, x: &CubeTensor) -> CubeTensor {
        let shape = x.shape();
        let width = shape[shape.num_dims() - 1];
        reshape(x.clone(), Shape::from([self.heads.n * self.heads.tokens, width]))
    }

    /// Returns `x weightᵀ`, `[N, L, out]`. `weight` is `[out, in]`.
    fn linear(&self, x: &CubeTensor, weight: &CubeTensor) -> CubeTensor {
        self.times(x, transposed(weight.clone()))
    }

    /// Returns the gradient `[N, L, in]` of the input of [`Dims::linear`].
    fn linear_back(&self, grad: &CubeTensor, weight: &CubeTensor) -> CubeTensor {
        self.times(grad, weight.clone())
    }

    fn times(&self, x: &CubeTensor, matrix: CubeTensor) -> CubeTensor {
        let rows = self.rows(x);
        let width = matrix.shape()[1];
        let y = empty(x, [rows.shape()[0], width], self.narrow);
        multiply(rows, matrix, &y);
        reshape(y, Shape::from([self.heads.n, self.heads.tokens, width]))
    }

    /// Returns the gradient `[out, in]` of the weight of [`Dims::linear`], in fp32.
    fn weight_back(&self, grad: &CubeTensor, x: &CubeTensor) -> CubeTensor {
        let (grad, x) = (self.rows(grad), self.rows(x));
        let shape = [grad.shape()[1], x.shape()[1]];
        let out = empty(&x, shape, DType::F32);
        multiply(transposed(grad), x, &out);
        out
    }

    /// Returns the products `[N * heads, L, width]` of one matrix for each head.
    fn products(&self, lhs: CubeTensor, rhs: CubeTensor, width: usize) -> CubeTensor {
        let Heads { n, heads, tokens, .. } = self.heads;
        let out = empty(&lhs, [n * heads, tokens, width], self.narrow);
        multiply(lhs, rhs, &out);
        out
    }
}
