//! Multi-head self-attention with its own backward pass, for bf16 and fp16 on the CPU.
//!
//! Attention from Burn's operations needs more memory: q, k and v are slices of one tensor, and Burn's gradient of each
//! slice has the size of the whole tensor. Also, Burn's softmax keeps its fp32 result for the backward pass.

use super::cpu;
use super::dtype::{is_cpu_fp32, narrow_as, wide};
use super::product::{Product, multiplied};
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
#[cfg(test)]
use burn::tensor::activation;
use burn::tensor::{Shape, Slice, Tensor};

/// Returns the multi-head attention `softmax(q kᵀ / √d) v`, `[N, L, D]`.
///
/// `qkv` is `[N, L, 3 D]`. `D` is `heads` times the width `d` of one head. The softmax is computed in fp32.
pub fn attention(qkv: Tensor<3>, heads: usize) -> Tensor<3> {
    if is_cpu_fp32(&qkv) { cpu::attention(qkv, heads) } else { own(qkv, heads) }
}

/// Computes attention with Burn's operations, to test [`own`].
#[cfg(test)]
pub(super) fn composed(qkv: Tensor<3>, heads: usize) -> Tensor<3> {
    let [n, l, width] = qkv.dims();
    let head = width / 3 / heads;
    let qkv = qkv.reshape([n, l, 3, heads, head]).permute([2, 0, 3, 1, 4]); // [3, N, H, L, head]
    let part = |i: usize| qkv.clone().slice(i..=i).squeeze_dim::<4>(0);
    let q = part(0) * scale(head);
    let scores = activation::softmax(q.matmul(part(1).transpose()), 3);
    scores.matmul(part(2)).swap_dims(1, 2).reshape([n, l, width / 3])
}

/// Computes attention with the backward pass of this module.
pub(super) fn own(qkv: Tensor<3>, heads: usize) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as Attention>::attended(qkv.into_dispatch(), heads))
}

fn scale(head: usize) -> f64 {
    (head as f64).powf(-0.5)
}

/// A backend that computes attention as one operation.
#[backend_extension(Flex, Autodiff)]
pub(super) trait Attention: Product {
    /// Returns the attention `[N, L, D]`. `qkv` is `[N, L, 3 D]`.
    fn attended(qkv: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        let sizes = Sizes::of(&qkv.shape(), heads);
        sizes.attend::<Self>(sizes.parts::<Self>(qkv)).0
    }
}

impl Attention for burn::backend::Flex {}

impl<B: Attention, C: CheckpointStrategy> Attention for Autodiff<B, C> {
    fn attended(qkv: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        match Heads.prepare::<C>([qkv.node()]).compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let qkv = qkv.into_primitive();
                let sizes = Sizes::of(&qkv.shape(), heads);
                let parts = sizes.parts::<B>(qkv);
                let (y, scores) = sizes.attend::<B>(parts.clone());
                step.finish((sizes, parts, scores), y)
            }
            OpsKind::UnTracked(step) => step.finish(B::attended(qkv.into_primitive(), heads)),
        }
    }
}

/// The backward pass of attention.
///
/// For each head of width `d`, `s` are the scores after softmax, and `∂y` is the gradient of the output:
///
/// - `∂v = sᵀ ∂y`
/// - `∂s = ∂y vᵀ`
/// - `r = s (∂s - Σ s ∂s) / √d`, where `Σ` sums each row
/// - `∂q = r k`
/// - `∂k = rᵀ q`
#[derive(Debug)]
struct Heads;

impl<B: Attention> Backward<B, 1> for Heads {
    type State = (Sizes, [FloatTensor<B>; 3], FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (sizes, [q, k, v], scores) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| {
            let grad = sizes.by_heads::<B>(grad);
            let to_v = multiplied::<B>(B::float_transpose(scores.clone()), grad.clone());
            let to_scores = multiplied::<B>(grad, B::float_transpose(v));
            let to_raw = sizes.before_softmax::<B>(scores, to_scores);
            let to_q = multiplied::<B>(to_raw.clone(), k);
            let to_k = multiplied::<B>(B::float_transpose(to_raw), q);
            sizes.side_by_side::<B>(vec![to_q, to_k, to_v])
        });
    }
}

#[derive(Debug, Clone, Copy)]
struct Sizes {
    n: usize,
    tokens: usize,
    heads: usize,
    head: usize,
}

impl Sizes {
    fn of(qkv: &Shape, heads: usize) -> Self {
        Self { n: qkv[0], tokens: qkv[1], heads, head: qkv[2] / 3 / heads }
    }

    /// Shape of q, k and v: `[N * heads, L, head]`.
    fn of_heads(self) -> Shape {
        Shape::from([self.n * self.heads, self.tokens, self.head])
    }

    /// Splits `qkv` into q, k and v, `[N * heads, L, head]` each.
    fn parts<B: Backend>(self, qkv: FloatTensor<B>) -> [FloatTensor<B>; 3] {
        let Self { n, tokens, heads, head } = self;
        let qkv = B::float_reshape(qkv, Shape::from([n, tokens, 3, heads, head]));
        let qkv = B::float_permute(qkv, &[2, 0, 3, 1, 4]);
        [0, 1, 2].map(|i| {
            let part = B::float_slice(qkv.clone(), &[Slice::from(i..i + 1)]);
            B::float_reshape(part, self.of_heads())
        })
    }

    /// Returns the attention `[N, L, D]` and the scores after softmax.
    fn attend<B: Product>(
        self,
        [q, k, v]: [FloatTensor<B>; 3],
    ) -> (FloatTensor<B>, FloatTensor<B>) {
        let Self { n, tokens, heads, head } = self;
        let dtype = q.dtype();
        let raw = wide::<B>(multiplied::<B>(q, B::float_transpose(k)));
        let raw = B::float_mul_scalar(raw, scale(head).into());
        let scores = narrow_as::<B>(B::softmax(raw, 2), dtype);
        let y = B::float_reshape(
            multiplied::<B>(scores.clone(), v),
            Shape::from([n, heads, tokens, head]),
        );
        let width = Shape::from([n, tokens, heads * head]);
        (B::float_reshape(B::float_swap_dims(y, 1, 2), width), scores)
    }

    /// Reshapes `[N, L, D]` to `[N * heads, L, head]`.
    fn by_heads<B: Backend>(self, x: FloatTensor<B>) -> FloatTensor<B> {
        let x = B::float_reshape(x, Shape::from([self.n, self.tokens, self.heads, self.head]));
        B::float_reshape(B::float_swap_dims(x, 1, 2), self.of_heads())
    }

    /// Backward pass of softmax: returns `r` of [`Heads`].
    ///
    /// `scores` is the output of softmax, and `grad` is the gradient of `scores`.
    fn before_softmax<B: Backend>(
        self,
        scores: FloatTensor<B>,
        grad: FloatTensor<B>,
    ) -> FloatTensor<B> {
        let dtype = scores.dtype();
        let (scores, grad) = (wide::<B>(scores), wide::<B>(grad));
        let shared = B::float_sum_dim(B::float_mul(scores.clone(), grad.clone()), 2);
        let to_scaled = B::float_mul(scores, B::float_sub(grad, shared));
        narrow_as::<B>(B::float_mul_scalar(to_scaled, scale(self.head).into()), dtype)
    }

    /// Joins q, k and v to `[N, L, 3 D]`.
    fn side_by_side<B: Backend>(self, parts: Vec<FloatTensor<B>>) -> FloatTensor<B> {
        let Self { n, tokens, heads, head } = self;
        let all =
            B::float_reshape(B::float_cat(parts, 0), Shape::from([3, n, heads, tokens, head]));
        let all = B::float_permute(all, &[1, 3, 0, 2, 4]);
        B::float_reshape(all, Shape::from([n, tokens, 3 * heads * head]))
    }
}
