//! The pre-norm transformer block of ViT: `x + attn(norm1(x))`, then `x + mlp(norm2(x))`.

use super::layers::{LayerNorm, Linear};
use crate::ops;
use crate::shape::{EncoderDims, Precision};
use burn::module::Module;
#[cfg(feature = "gpu")]
use burn::module::Param;
use burn::tensor::{Device, Int, Tensor};

/// Multi-head self-attention with one fused `qkv` projection.
#[derive(Module, Debug)]
pub struct Attention {
    pub qkv: Linear,
    pub proj: Linear,
    #[module(skip)]
    num_heads: usize,
}

impl Attention {
    fn zeros(width: usize, num_heads: usize, precision: Precision, device: &Device) -> Self {
        Self {
            qkv: Linear::zeros(width, 3 * width, precision, device),
            proj: Linear::zeros(width, width, precision, device),
            num_heads,
        }
    }

    /// Returns the outputs of all heads, concatenated to `[N, L, D]`.
    fn heads(&self, x: Tensor<3>) -> Tensor<3> {
        ops::attention(self.qkv.forward_narrow(x), self.num_heads)
    }
}

/// Two linear layers with the exact (erf) GELU between these layers.
#[derive(Module, Debug)]
pub struct Mlp {
    pub fc1: Linear,
    pub fc2: Linear,
}

/// A transformer block: attention and MLP, each with a LayerNorm and a residual connection.
#[derive(Module, Debug)]
pub struct Block {
    pub norm1: LayerNorm,
    pub attn: Attention,
    pub norm2: LayerNorm,
    pub mlp: Mlp,
}

impl Block {
    /// Creates a block with zero weights.
    pub fn zeros(
        width: usize,
        num_heads: usize,
        mlp_dim: usize,
        dims: &EncoderDims,
        device: &Device,
    ) -> Self {
        let (eps, precision) = (dims.norm_eps, dims.precision);
        Self {
            norm1: LayerNorm::new(width, eps, device),
            attn: Attention::zeros(width, num_heads, precision, device),
            norm2: LayerNorm::new(width, eps, device),
            mlp: Mlp {
                fc1: Linear::zeros(width, mlp_dim, precision, device),
                fc2: Linear::zeros(mlp_dim, width, precision, device),
            },
        }
    }

    /// Freezes the attention and `norm1`, the LayerNorm before the attention. The MLP stays trained.
    #[must_use]
    pub(super) fn freeze_attention(self) -> Self {
        Self { norm1: self.norm1.no_grad(), attn: self.attn.no_grad(), ..self }
    }

    /// Runs the block on tokens `[N, L, D]`. The result has the same shape.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        #[cfg(feature = "gpu")]
        if ops::is_gpu(&x) {
            return self.on_gpu(x, None);
        }
        let heads = self.attn.heads(self.norm1.forward(x.clone()));
        self.after_heads(heads, x)
    }

    /// Runs [`Block::forward`], and returns only some of the tokens, `[N, R, D]`.
    ///
    /// `rows` has the indices of these tokens in the batch, `[N * R]`. Their attention sees all tokens.
    pub(super) fn forward_rows(&self, x: Tensor<3>, rows: &Tensor<1, Int>) -> Tensor<3> {
        let heads = self.attn.heads(self.norm1.forward(x.clone()));
        self.after_heads(select_rows(heads, rows), select_rows(x, rows))
    }

    /// Projects the outputs of the attention heads, adds `x`, and runs the MLP.
    fn after_heads(&self, heads: Tensor<3>, x: Tensor<3>) -> Tensor<3> {
        let x = self.attn.proj.forward_residual(heads, x);
        let hidden = self.mlp.fc1.forward_gelu(self.norm2.forward(x.clone()));
        self.mlp.fc2.forward_residual(hidden, x)
    }

    /// Runs [`Block::forward`] with stochastic depth, as block `index` of the network.
    ///
    /// `factors` `[N, 2 * blocks]` multiplies the branches of each image: column `2 * index` the attention branch, the next
    /// column the MLP branch. A factor of 0 drops a branch. A kept branch has the factor `1 / (1 - rate)`.
    pub fn forward_drop_path(&self, x: Tensor<3>, factors: &Tensor<2>, index: usize) -> Tensor<3> {
        #[cfg(feature = "gpu")]
        if ops::is_gpu(&x) {
            return self.on_gpu(x, Some((factors.clone(), index)));
        }
        let n = factors.dims()[0];
        let [attn, mlp] = [2 * index, 2 * index + 1]
            .map(|i| factors.clone().slice([0..n, i..i + 1]).reshape([n, 1, 1]));
        let heads = self.attn.heads(self.norm1.forward(x.clone()));
        let x = self.attn.proj.forward_scaled(heads, x, attn);
        let hidden = self.mlp.fc1.forward_gelu(self.norm2.forward(x.clone()));
        self.mlp.fc2.forward_scaled(hidden, x, mlp)
    }

    /// Runs the block as one operation. `factors` are those of [`Block::forward_drop_path`], with the block's index.
    #[cfg(feature = "gpu")]
    fn on_gpu(&self, x: Tensor<3>, factors: Option<(Tensor<2>, usize)>) -> Tensor<3> {
        let Self { norm1, attn: Attention { qkv, proj, num_heads }, norm2, mlp } = self;
        let Mlp { fc1, fc2 } = mlp;
        let norms = [&norm1.weight, &norm1.bias, &norm2.weight, &norm2.bias];
        let shape = ops::BlockShape {
            heads: *num_heads,
            eps: norm1.eps,
            narrow: qkv.precision.dtype(),
            factors_at: factors.as_ref().map(|(_, index)| 2 * index),
        };
        let linear = [qkv, proj, fc1, fc2];
        ops::block(
            x,
            norms.map(Param::val),
            linear.map(|linear| linear.weight.val()),
            linear.map(|linear| linear.bias.val()),
            factors.map(|(factors, _)| factors),
            shape,
        )
    }
}

/// Returns the tokens of `x` `[N, L, D]` with the indices `rows` `[N * R]` in the batch, as `[N, R, D]`.
pub(super) fn select_rows(x: Tensor<3>, rows: &Tensor<1, Int>) -> Tensor<3> {
    let [n, l, d] = x.dims();
    let per_image = rows.dims()[0] / n;
    x.reshape([n * l, d]).select(0, rows.clone()).reshape([n, per_image, d])
}

/// Returns the drop-path rate of each block: linear from 0 in the first block to `drop_path` in the last block.
pub fn drop_path_rates(drop_path: f64, depth: usize) -> Vec<f64> {
    let last = depth.saturating_sub(1).max(1) as f64;
    (0..depth).map(|i| drop_path * i as f64 / last).collect()
}

#[cfg(test)]
mod tests {
    use super::drop_path_rates;

    #[test]
    fn drop_path_grows_from_zero_to_the_rate() {
        assert_eq!(drop_path_rates(0.2, 3), vec![0.0, 0.1, 0.2]);
        assert_eq!(drop_path_rates(0.2, 1), vec![0.0]);
    }
}
