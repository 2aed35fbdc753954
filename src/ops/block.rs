//! A transformer block as one operation on GPUs, with its own backward pass.
//!
//! The forward pass and the backward pass are one operation each, so neither Burn's autodiff nor its fusion handles the
//! many steps within. The CPU composes the block from the other operations of `ops`.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients as AllGradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::fusion::{Fusion, FusionBackend};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, ExtensionType, backend_extension};
use burn::tensor::{DType, Shape, Tensor};

/// The settings of a block that are not tensors.
#[derive(Debug, Clone, Copy)]
pub struct BlockShape {
    pub heads: usize,
    /// Epsilon of both layer normalizations.
    pub eps: f64,
    /// Type of the factors of matrix products. Everything else is fp32.
    pub narrow: DType,
    /// With stochastic depth: the column of the attention branch's factors. The MLP's column follows.
    pub factors_at: Option<usize>,
}

/// The twelve parameters of a block, in PyTorch's order. Matrices are `[out, in]`.
#[derive(Clone, Debug, ExtensionType)]
#[extension_type(fusion)]
pub(super) struct Weights<B: Backend> {
    pub gamma_1: FloatTensor<B>,
    pub beta_1: FloatTensor<B>,
    pub qkv: FloatTensor<B>,
    pub qkv_bias: FloatTensor<B>,
    pub proj: FloatTensor<B>,
    pub proj_bias: FloatTensor<B>,
    pub gamma_2: FloatTensor<B>,
    pub beta_2: FloatTensor<B>,
    pub fc1: FloatTensor<B>,
    pub fc1_bias: FloatTensor<B>,
    pub fc2: FloatTensor<B>,
    pub fc2_bias: FloatTensor<B>,
}

/// What the backward pass needs from the forward pass.
#[derive(Clone, Debug, ExtensionType)]
#[extension_type(fusion)]
pub(super) struct Saved<B: Backend> {
    /// The four matrices in the precision of products.
    pub qkv: FloatTensor<B>,
    pub proj: FloatTensor<B>,
    pub fc1: FloatTensor<B>,
    pub fc2: FloatTensor<B>,
    /// Outputs of the two layer normalizations, `[N, L, D]`.
    pub normed_1: FloatTensor<B>,
    pub normed_2: FloatTensor<B>,
    /// One matrix `[L, head]` for each image and head.
    pub q: FloatTensor<B>,
    pub k: FloatTensor<B>,
    pub v: FloatTensor<B>,
    /// The softmax, `[N * heads, L, L]`.
    pub scores: FloatTensor<B>,
    /// Input of the projection, `[N, L, D]`.
    pub attended: FloatTensor<B>,
    /// The residual stream between the two branches, `[N, L, D]` in fp32.
    pub middle: FloatTensor<B>,
    /// The MLP before the bias and GELU, and after GELU, `[N, L, hidden]`.
    pub hidden: FloatTensor<B>,
    pub active: FloatTensor<B>,
}

/// The output `[N, L, D]` of a block, and what its backward pass needs.
#[derive(Clone, Debug, ExtensionType)]
#[extension_type(fusion)]
pub(super) struct Forward<B: Backend> {
    pub y: FloatTensor<B>,
    #[extension_type]
    pub saved: Saved<B>,
}

/// The gradients of a block's input and parameters, in fp32.
#[derive(Clone, Debug, ExtensionType)]
#[extension_type(fusion)]
pub(super) struct BlockGradients<B: Backend> {
    pub x: FloatTensor<B>,
    #[extension_type]
    pub weights: Weights<B>,
}

/// A backend that computes the two passes of a block as one operation each.
#[backend_extension(Cube, Fusion)]
pub(super) trait BlockPasses: Backend {
    /// Runs the block on `x` `[N, L, D]`.
    ///
    /// `factors` `[N, branches]` scales the branches of each image, if `shape.factors_at` is set.
    #[fusion(meta = forward_specs)]
    fn block(
        x: FloatTensor<Self>,
        #[extension_type] weights: Weights<Self>,
        factors: FloatTensor<Self>,
        shape: BlockShape,
    ) -> Forward<Self>;

    /// Returns the gradients of [`BlockPasses::block`] from `grad`, the gradient of its output.
    #[fusion(meta = backward_specs)]
    fn block_back(
        grad: FloatTensor<Self>,
        x: FloatTensor<Self>,
        #[extension_type] saved: Saved<Self>,
        #[extension_type] weights: Weights<Self>,
        factors: FloatTensor<Self>,
        shape: BlockShape,
    ) -> BlockGradients<Self>;
}

fn forward_specs(
    x: &TensorSpec,
    weights: &WeightsMetadata,
    _factors: &TensorSpec,
    shape: &BlockShape,
) -> ForwardMetadata {
    let [n, tokens, width] = x.shape.dims();
    let hidden = weights.fc1_bias.shape[0];
    let narrow = |dims: &[usize]| TensorSpec::new(Shape::from(dims.to_vec()), shape.narrow);
    let matrix = |weight: &TensorSpec| TensorSpec::new(weight.shape.clone(), shape.narrow);
    let [of_width, of_hidden] = [width, hidden].map(|width| narrow(&[n, tokens, width]));
    let head = narrow(&[n * shape.heads, tokens, width / shape.heads]);
    let saved = SavedMetadata {
        qkv: matrix(&weights.qkv),
        proj: matrix(&weights.proj),
        fc1: matrix(&weights.fc1),
        fc2: matrix(&weights.fc2),
        normed_1: of_width.clone(),
        normed_2: of_width.clone(),
        q: head.clone(),
        k: head.clone(),
        v: head,
        scores: narrow(&[n * shape.heads, tokens, tokens]),
        attended: of_width,
        middle: x.clone(),
        hidden: of_hidden.clone(),
        active: of_hidden,
    };
    ForwardMetadata { y: x.clone(), saved }
}

fn backward_specs(
    _grad: &TensorSpec,
    x: &TensorSpec,
    _saved: &SavedMetadata,
    weights: &WeightsMetadata,
    _factors: &TensorSpec,
    _shape: &BlockShape,
) -> BlockGradientsMetadata {
    BlockGradientsMetadata { x: x.clone(), weights: weights.clone() }
}

/// A backend that computes a block with gradients.
#[backend_extension(Cube, Autodiff)]
pub(super) trait Block: Backend {
    /// Runs the block on `x`, as [`BlockPasses::block`] does.
    fn transformer_block(
        x: FloatTensor<Self>,
        #[extension_type] weights: Weights<Self>,
        factors: FloatTensor<Self>,
        shape: BlockShape,
    ) -> FloatTensor<Self>;
}

impl Block for burn_cubecl::CubeBackend {
    fn transformer_block(
        x: FloatTensor<Self>,
        weights: Weights<Self>,
        factors: FloatTensor<Self>,
        shape: BlockShape,
    ) -> FloatTensor<Self> {
        Self::block(x, weights, factors, shape).y
    }
}

impl<B: FusionBackend + BlockPasses> Block for Fusion<B> {
    fn transformer_block(
        x: FloatTensor<Self>,
        weights: Weights<Self>,
        factors: FloatTensor<Self>,
        shape: BlockShape,
    ) -> FloatTensor<Self> {
        Self::block(x, weights, factors, shape).y
    }
}

impl<B: BlockPasses, C: CheckpointStrategy> Block for Autodiff<B, C> {
    fn transformer_block(
        x: FloatTensor<Self>,
        weights: Weights<Self>,
        factors: FloatTensor<Self>,
        shape: BlockShape,
    ) -> FloatTensor<Self> {
        let params = weights.into_array();
        let nodes = std::array::from_fn(|i| if i == 0 { x.node() } else { params[i - 1].node() });
        let weights = Weights::from_array(params.map(FloatTensor::<Self>::into_primitive));
        let (x, factors) = (x.into_primitive(), factors.into_primitive());
        match Both.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let Forward { y, saved } =
                    B::block(x.clone(), weights.clone(), factors.clone(), shape);
                step.finish(Box::new(State { x, saved, weights, factors, shape }), y)
            }
            OpsKind::UnTracked(step) => step.finish(B::block(x, weights, factors, shape).y),
        }
    }
}

impl<B: Backend> Weights<B> {
    /// Returns the parameters in PyTorch's order.
    pub(super) fn into_array(self) -> [FloatTensor<B>; 12] {
        [
            self.gamma_1,
            self.beta_1,
            self.qkv,
            self.qkv_bias,
            self.proj,
            self.proj_bias,
            self.gamma_2,
            self.beta_2,
            self.fc1,
            self.fc1_bias,
            self.fc2,
            self.fc2_bias,
        ]
    }

    /// Takes the parameters in PyTorch's order.
    pub(super) fn from_array(params: [FloatTensor<B>; 12]) -> Self {
        let mut params = params.into_iter();
        let mut half = || std::array::from_fn(|_| params.next().expect("twelve parameters"));
        let (attention, mlp) = (half(), half());
        Self::new(attention, mlp)
    }

    /// Takes the parameters of the attention with its LayerNorm, and those of the MLP with its LayerNorm.
    pub(super) fn new(
        [gamma_1, beta_1, qkv, qkv_bias, proj, proj_bias]: [FloatTensor<B>; 6],
        [gamma_2, beta_2, fc1, fc1_bias, fc2, fc2_bias]: [FloatTensor<B>; 6],
    ) -> Self {
        Self {
            gamma_1,
            beta_1,
            qkv,
            qkv_bias,
            proj,
            proj_bias,
            gamma_2,
            beta_2,
            fc1,
            fc1_bias,
            fc2,
            fc2_bias,
        }
    }
}

/// The backward pass of a block, for its input and its parameters.
#[derive(Debug)]
struct Both;

#[derive(Clone, Debug)]
struct State<B: Backend> {
    x: FloatTensor<B>,
    saved: Saved<B>,
    weights: Weights<B>,
    factors: FloatTensor<B>,
    shape: BlockShape,
}

impl<B: BlockPasses> Backward<B, 13> for Both {
    type State = Box<State<B>>;

    fn backward(self, ops: Ops<Self::State, 13>, grads: &mut AllGradients, _: &mut Checkpointer) {
        let State { x, saved, weights, factors, shape } = *ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let BlockGradients { x, weights } = B::block_back(grad, x, saved, weights, factors, shape);
        let found = std::iter::once(x).chain(weights.into_array());
        for (parent, grad) in ops.parents.into_iter().zip(found) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

/// Runs a transformer block on tokens `x` `[N, L, D]` in fp32, on a GPU.
///
/// `norms` are the weight and the bias of both layer normalizations, `[D]`. `weights` `[out, in]` and `biases` `[out]` belong to
/// `qkv`, `proj`, `fc1` and `fc2`. `factors` `[N, branches]` scales the branches of each image: see
/// [`BlockShape::factors_at`]. All tensors are fp32.
pub fn block(
    x: Tensor<3>,
    norms: [Tensor<1>; 4],
    weights: [Tensor<2>; 4],
    biases: [Tensor<1>; 4],
    factors: Option<Tensor<2>>,
    shape: BlockShape,
) -> Tensor<3> {
    assert_eq!(shape.factors_at.is_some(), factors.is_some(), "factors have a column");
    assert_eq!(x.dtype(), DType::F32, "the residual stream is fp32");
    let [gamma_1, beta_1, gamma_2, beta_2] = norms.map(Tensor::into_dispatch);
    let [qkv, proj, fc1, fc2] = weights.map(Tensor::into_dispatch);
    let [qkv_bias, proj_bias, fc1_bias, fc2_bias] = biases.map(Tensor::into_dispatch);
    // Without factors, the kernels read no value of this tensor.
    let factors = factors.map_or_else(|| gamma_1.clone(), Tensor::into_dispatch);
    let attention = [gamma_1, beta_1, qkv, qkv_bias, proj, proj_bias];
    let mlp = [gamma_2, beta_2, fc1, fc1_bias, fc2, fc2_bias];
    let weights = Weights::new(attention, mlp);
    let y = <Dispatch as Block>::transformer_block(x.into_dispatch(), weights, factors, shape);
    Tensor::from_dispatch(y)
}
