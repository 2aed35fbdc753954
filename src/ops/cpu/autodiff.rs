//! The backward pass of each operation on the CPU.

use super::buffer::Values;
use super::layer_norm::Moments;
use super::linear::Wanted;
use super::{Fused, attention, layer_norm, linear};
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex};

impl<C: CheckpointStrategy> Fused for Autodiff<Flex, C> {
    fn linear(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let parents = [x.node(), w.node(), bias.node()];
        let (x, w, bias) = (x.into_primitive(), w.into_primitive(), bias.into_primitive());
        match Linear.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let y = linear::linear(x.clone(), w.clone(), bias);
                step.finish((x, w), y)
            }
            OpsKind::UnTracked(step) => step.finish(linear::linear(x, w, bias)),
        }
    }

    fn linear_gelu(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let parents = [x.node(), w.node(), bias.node()];
        let (x, w, bias) = (x.into_primitive(), w.into_primitive(), bias.into_primitive());
        match LinearGelu.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let [y, slope] = linear::linear_gelu_with_slope(x.clone(), w.clone(), bias);
                step.finish((x, w, slope), y)
            }
            OpsKind::UnTracked(step) => step.finish(linear::linear_gelu(x, w, bias)),
        }
    }

    fn linear_residual(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let parents = [x.node(), w.node(), bias.node(), residual.node()];
        let (x, w, bias) = (x.into_primitive(), w.into_primitive(), bias.into_primitive());
        let residual = residual.into_primitive();
        match LinearResidual.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let y = linear::linear_residual(x.clone(), w.clone(), bias, residual);
                step.finish((x, w), y)
            }
            OpsKind::UnTracked(step) => step.finish(linear::linear_residual(x, w, bias, residual)),
        }
    }

    fn linear_scaled(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        scale: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let parents = [x.node(), w.node(), bias.node(), residual.node()];
        let (x, w, bias) = (x.into_primitive(), w.into_primitive(), bias.into_primitive());
        let (residual, scale) = (residual.into_primitive(), scale.into_primitive());
        match LinearScaled.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let (kept_x, kept_w, kept_scale) = (x.clone(), w.clone(), scale.clone());
                let y = linear::linear_scaled(x, w, bias, residual, scale);
                step.finish((kept_x, kept_w, kept_scale), y)
            }
            OpsKind::UnTracked(step) => {
                step.finish(linear::linear_scaled(x, w, bias, residual, scale))
            }
        }
    }

    fn normalize(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        let parents = [x.node(), gamma.node(), beta.node()];
        let (x, gamma, beta) = (x.into_primitive(), gamma.into_primitive(), beta.into_primitive());
        match LayerNorm.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let (y, moments) = layer_norm::layer_norm(x.clone(), gamma.clone(), beta, eps);
                step.finish((x, moments, gamma), y)
            }
            OpsKind::UnTracked(step) => step.finish(Flex::normalize(x, gamma, beta, eps)),
        }
    }

    fn attend(qkv: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        let parents = [qkv.node()];
        let qkv = qkv.into_primitive();
        match Attention.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let (y, scores) = attention::attention(qkv.clone(), heads);
                step.finish((qkv, scores, heads), y)
            }
            OpsKind::UnTracked(step) => step.finish(Flex::attend(qkv, heads)),
        }
    }
}

/// Returns the parents that need a gradient, the saved state, and the gradient of the output.
fn opened<S, const N: usize>(
    ops: Ops<S, N>,
    grads: &mut Gradients,
) -> ([Option<NodeId>; N], S, Values) {
    let grad = grads.consume::<Flex>(&ops.node);
    (ops.parents.map(|node| node.map(|node| node.id)), ops.state, grad)
}

/// Registers the gradients in `found` for the parents that need them.
fn register<const N: usize>(
    parents: [Option<NodeId>; N],
    found: [Option<Values>; N],
    grads: &mut Gradients,
) {
    for (parent, grad) in parents.into_iter().zip(found) {
        if let (Some(parent), Some(grad)) = (parent, grad) {
            grads.register::<Flex>(parent, grad);
        }
    }
}

fn wanted(parents: &[Option<NodeId>]) -> Wanted {
    [0, 1, 2].map(|i| parents[i].is_some())
}

#[derive(Debug)]
struct Linear;

impl Backward<Flex, 3> for Linear {
    type State = (Values, Values);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (parents, (x, w), grad) = opened(ops, grads);
        let found = linear::backward(x, w, grad, wanted(&parents));
        register(parents, found, grads);
    }
}

#[derive(Debug)]
struct LinearGelu;

impl Backward<Flex, 3> for LinearGelu {
    type State = (Values, Values, Values);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (parents, (x, w, slope), grad) = opened(ops, grads);
        let found = linear::backward_gelu(x, w, slope, grad, wanted(&parents));
        register(parents, found, grads);
    }
}

#[derive(Debug)]
struct LinearResidual;

impl Backward<Flex, 4> for LinearResidual {
    type State = (Values, Values);

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (parents, (x, w), grad) = opened(ops, grads);
        let [to_x, to_w, to_bias] = linear::backward(x, w, grad.clone(), wanted(&parents));
        register(parents, [to_x, to_w, to_bias, Some(grad)], grads);
    }
}

#[derive(Debug)]
struct LinearScaled;

impl Backward<Flex, 4> for LinearScaled {
    type State = (Values, Values, Values);

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (parents, (x, w, scale), grad) = opened(ops, grads);
        let to_z = linear::through_scale(&grad, scale);
        let [to_x, to_w, to_bias] = linear::backward(x, w, to_z, wanted(&parents));
        register(parents, [to_x, to_w, to_bias, Some(grad)], grads);
    }
}

#[derive(Debug)]
struct LayerNorm;

impl Backward<Flex, 3> for LayerNorm {
    type State = (Values, Vec<Moments>, Values);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (parents, (x, moments, gamma), grad) = opened(ops, grads);
        let found = layer_norm::backward(x, &moments, gamma, grad);
        register(parents, found.map(Some), grads);
    }
}

#[derive(Debug)]
struct Attention;

impl Backward<Flex, 1> for Attention {
    type State = (Values, Values, usize);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (qkv, scores, heads) = ops.state;
        unary::<Flex, _>(ops.parents, ops.node, grads, |grad| {
            attention::backward(qkv, scores, grad, heads)
        });
    }
}
