//! The classifier: a Vision Transformer with the encoder of the masked autoencoder.

use super::block::Block;
use super::layers::{LayerNorm, Linear};
use super::params::trainable_names;
use super::patches::PatchEmbed;
use crate::shape::{EncoderDims, TrainedBlocks};
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, activation};

/// A ViT classifier.
///
/// Without global pooling, the head gets the class token after `norm`. With global pooling, the head gets the mean of
/// the patch tokens after `fc_norm`.
#[derive(Module, Debug)]
pub struct Vit {
    pub cls_token: Param<Tensor<3>>,
    /// Trained position embeddings, `[1, 1 + L, D]`.
    pub pos_embed: Param<Tensor<3>>,
    pub patch_embed: PatchEmbed,
    pub blocks: Vec<Block>,
    pub norm: Option<LayerNorm>,
    pub fc_norm: Option<LayerNorm>,
    pub head: Linear,
}

impl Vit {
    /// Creates the network with zero weights.
    pub fn zeros(dims: &EncoderDims, classes: usize, global_pool: bool, device: &Device) -> Self {
        let d = dims.embed_dim;
        let norm = || LayerNorm::new(d, dims.norm_eps, device);
        let tokens = 1 + dims.num_patches();
        Self {
            cls_token: Param::from_tensor(Tensor::zeros([1, 1, d], device)),
            pos_embed: Param::from_tensor(Tensor::zeros([1, tokens, d], device)),
            patch_embed: PatchEmbed::zeros(dims, device),
            blocks: (0..dims.depth)
                .map(|_| Block::zeros(d, dims.num_heads, dims.mlp_dim, dims, device))
                .collect(),
            norm: (!global_pool).then(norm),
            fc_norm: global_pool.then(norm),
            head: Linear::zeros(d, classes, dims.precision, device),
        }
    }

    /// Freezes the first blocks, so that only the last blocks are trained (paper §4.3, "partial fine-tuning").
    ///
    /// If any block is frozen, even in part, the patch embedding, position embeddings and class token are also frozen.
    #[must_use]
    pub fn freeze_below(mut self, trained: TrainedBlocks) -> Self {
        let frozen = self.blocks.len().saturating_sub(trained.count());
        if frozen == 0 && trained != TrainedBlocks::HalfOfLast {
            return self;
        }
        self.cls_token = self.cls_token.no_grad();
        self.pos_embed = self.pos_embed.no_grad();
        self.patch_embed = self.patch_embed.no_grad();
        let freeze = |(i, block): (usize, Block)| if i < frozen { block.no_grad() } else { block };
        self.blocks = self.blocks.into_iter().enumerate().map(freeze).collect();
        if trained == TrainedBlocks::HalfOfLast {
            let last = self.blocks.pop();
            self.blocks.extend(last.map(Block::freeze_attention));
        }
        self
    }

    /// Returns how many of the first blocks are completely frozen. If there are any, the embeddings are frozen, too.
    pub(super) fn frozen_blocks(&self) -> usize {
        self.blocks.iter().take_while(|block| trainable_names(*block).is_empty()).count()
    }

    /// Returns the logits `[N, C]` of images `[N, C, H, W]`.
    pub fn forward(&self, imgs: Tensor<4>) -> Tensor<2> {
        self.head.forward(self.forward_features(imgs))
    }

    /// Runs [`Vit::forward`] with stochastic depth.
    ///
    /// `factors` is `[N, 2 * depth]`. Column `2 i` multiplies the attention of block `i`, and column `2 i + 1`
    /// multiplies its MLP.
    pub fn forward_drop_path(&self, imgs: Tensor<4>, factors: &Tensor<2>) -> Tensor<2> {
        let x = self.tokens(imgs);
        let x = self
            .blocks
            .iter()
            .enumerate()
            .fold(x, |x, (i, block)| block.forward_drop_path(x, factors, i));
        self.classify(x)
    }

    /// Returns the logits `[N, C]` from the output of the last block.
    pub(super) fn classify(&self, x: Tensor<3>) -> Tensor<2> {
        self.head.forward(self.pool(x))
    }

    /// Returns the input of the head, `[N, D]`.
    pub fn forward_features(&self, imgs: Tensor<4>) -> Tensor<2> {
        self.pool(self.forward_blocks(imgs, self.blocks.len()))
    }

    /// Returns the output of block `layer`, counted from 1: class token and patch tokens, `[N, 1 + L, D]`.
    ///
    /// The last LayerNorm is not applied. If `layer` is 0, returns the input of the first block. Panics if there are
    /// fewer than `layer` blocks.
    pub fn forward_blocks(&self, imgs: Tensor<4>, layer: usize) -> Tensor<3> {
        let x = self.tokens(imgs);
        self.blocks[..layer].iter().fold(x, |x, block| block.forward(x))
    }

    /// Returns the input of the first block, `[N, 1 + L, D]`.
    pub(super) fn tokens(&self, imgs: Tensor<4>) -> Tensor<3> {
        let x = self.patch_embed.forward(self.patch_embed.cut(imgs));
        let [n, _, d] = x.dims();
        let x = Tensor::cat(vec![self.cls_token.val().expand([n, 1, d]), x], 1);
        x + self.pos_embed.val()
    }

    fn pool(&self, x: Tensor<3>) -> Tensor<2> {
        let [n, tokens, d] = x.dims();
        match (&self.fc_norm, &self.norm) {
            (Some(fc_norm), _) => {
                let patches = x.slice([0..n, 1..tokens]).mean_dim(1);
                fc_norm.forward(patches.reshape([n, d]))
            }
            // Only the class token is normalized: the head reads no other token.
            (None, Some(norm)) => norm.forward(x.slice([0..n, 0..1]).reshape([n, d])),
            (None, None) => unreachable!("`Vit::zeros` creates either `norm` or `fc_norm`"),
        }
    }
}

/// Returns the mean cross-entropy `[1]` between logits `[N, C]` and target probabilities `[N, C]`.
pub fn soft_cross_entropy(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    let n = logits.dims()[0] as f64;
    -(activation::log_softmax(logits, 1) * targets).sum() / n
}
