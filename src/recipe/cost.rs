//! Estimates the cost of a stage from its dimensions: parameters, FLOPs, memory.
//!
//! `D` is a width, `L` the number of patches, `P` the values in a patch (`patch_size² * in_chans`), `H` the hidden width
//! of an MLP, `n` the tokens of a block.

use super::plan::{DataPlan, ModelPlan, Plan};
use crate::shape::{self, Precision, StageKind};

/// The estimated cost of a stage on one device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Number of parameters, including position embeddings.
    pub params: u64,
    /// FLOPs of the forward pass for one image.
    pub flops_per_image: f64,
    /// Training FLOPs for one image: forward and backward pass.
    ///
    /// Does not include the optimizer or gradient checkpointing.
    pub train_flops_per_image: f64,
    /// FLOPs for one image that gradient checkpointing adds.
    pub recomputed_flops_per_image: f64,
    /// Memory of a training step on one device, in bytes.
    pub memory: Memory,
}

/// Estimated memory of a training step on one device, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Memory {
    /// Parameters in fp32, in bytes.
    pub params: f64,
    /// Memory of the fp32 gradients, in bytes.
    pub gradients: f64,
    /// Memory of the fp32 optimizer state, in bytes: the two moments of AdamW or the momentum of LARS.
    pub optimizer: f64,
    /// Memory of the activations of one micro-batch, in bytes.
    ///
    /// Includes the temporary values of one block.
    pub activations: f64,
}

impl Memory {
    /// Returns the total memory in bytes.
    pub fn total(&self) -> f64 {
        self.params + self.gradients + self.optimizer + self.activations
    }
}

/// The trained part of a network.
struct Trained {
    params: u64,
    /// Forward FLOPs of the trained part for one image.
    flops: f64,
    /// Activations of one image, in bytes.
    activations: f64,
    /// Optimizer values per trained parameter: 2 for AdamW, 1 for LARS.
    moments: f64,
}

/// The dimensions of a model and of the images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dims<'a> {
    /// Patch size, widths, depths and numbers of heads.
    pub model: &'a ModelPlan,
    /// Side of the square input image, in pixels.
    pub input_size: usize,
    /// Number of channels of an image.
    pub in_chans: usize,
}

/// Transformer blocks of the same shape.
struct Stack {
    depth: usize,
    tokens: usize,
    width: usize,
    heads: usize,
}

impl Plan {
    /// Estimates the cost of a stage on a GPU.
    ///
    /// Returns `None` if the recipe does not have this stage. On the CPU, fp32 activations need about 25 % more memory.
    pub fn cost(&self, stage: StageKind, num_classes: usize) -> Option<Cost> {
        let dims = Dims::of(&self.model, &self.data);
        let batch = self.training(stage)?.batch_size as f64;
        let (params, flops) = match stage {
            StageKind::Pretrain => (dims.mae_params(), dims.mae_flops(self.mask_ratio())),
            StageKind::Finetune | StageKind::Linprobe => {
                (dims.classifier_params(num_classes), dims.classifier_flops(num_classes))
            }
        };
        let trained = self.trained(stage, &dims, num_classes);
        let trained_params = 4.0 * trained.params as f64;
        Some(Cost {
            params,
            flops_per_image: flops,
            train_flops_per_image: flops + 2.0 * trained.flops,
            recomputed_flops_per_image: if self.recomputes(stage) { trained.flops } else { 0.0 },
            memory: Memory {
                params: 4.0 * params as f64,
                gradients: trained_params,
                optimizer: trained.moments * trained_params,
                activations: batch * trained.activations,
            },
        })
    }

    fn trained(&self, stage: StageKind, dims: &Dims<'_>, num_classes: usize) -> Trained {
        let activations = |stacks: &[Stack]| {
            dims.activations(stacks, self.recomputes(stage), self.runtime.precision)
        };
        let head = dims.head_params(num_classes);
        let patches = dims.patches();
        match (stage, &self.finetune) {
            (StageKind::Pretrain, _) => {
                let seen = shape::len_keep(patches, self.mask_ratio());
                let stacks = [dims.encoder_stack(seen), dims.decoder_stack()];
                let flops = dims.mae_flops(self.mask_ratio());
                let activations = activations(&stacks);
                Trained { params: dims.mae_params(), flops, activations, moments: 2.0 }
            }
            (StageKind::Finetune, Some(plan)) if plan.trained_blocks < self.model.depth => {
                let width = self.model.embed_dim;
                let depth = plan.trained_blocks;
                let blocks = Stack { depth, ..dims.encoder_stack(patches) };
                let params = depth as u64 * block(width, dims.hidden(width)) + norm(width) + head;
                let flops = depth as f64 * dims.block_flops(patches + 1, width)
                    + product(1, width, num_classes);
                Trained { params, flops, activations: activations(&[blocks]), moments: 2.0 }
            }
            (StageKind::Finetune, _) => Trained {
                params: dims.classifier_params(num_classes),
                flops: dims.classifier_flops(num_classes),
                activations: activations(&[dims.encoder_stack(patches)]),
                moments: 2.0,
            },
            (StageKind::Linprobe, _) => Trained {
                params: head,
                flops: product(1, self.model.embed_dim, num_classes),
                // A frozen encoder keeps no activations.
                activations: dims.block_keeps(&dims.encoder_stack(patches), Precision::Fp32),
                moments: 1.0,
            },
        }
    }

    fn mask_ratio(&self) -> f64 {
        self.pretrain.as_ref().map_or(0.0, |pretrain| pretrain.mask_ratio)
    }

    /// Returns whether gradient checkpointing repeats the forward pass; false for linear probing.
    fn recomputes(&self, stage: StageKind) -> bool {
        self.runtime.gradient_checkpointing && stage != StageKind::Linprobe
    }
}

impl<'a> Dims<'a> {
    /// Collects the dimensions from the settings of a plan.
    pub fn of(model: &'a ModelPlan, data: &DataPlan) -> Self {
        Self { model, input_size: data.input_size, in_chans: data.in_chans }
    }

    /// Returns the number of patches in an image.
    pub fn patches(&self) -> usize {
        (self.input_size / self.model.patch_size).pow(2)
    }

    fn patch_values(&self) -> usize {
        self.model.patch_size.pow(2) * self.in_chans
    }

    /// Returns the hidden width of the MLP in a block of width `width`.
    fn hidden(&self, width: usize) -> usize {
        shape::mlp_dim(width, self.model.mlp_ratio)
    }

    /// Returns the number of parameters of the masked autoencoder.
    ///
    /// Includes the fixed position embeddings.
    pub fn mae_params(&self) -> u64 {
        let ModelPlan { decoder_embed_dim: width, decoder_depth, .. } = *self.model;
        let decoder = linear(self.model.embed_dim, width)
            + width as u64 // mask_token
            + position(self.patches(), width)
            + decoder_depth as u64 * block(width, self.hidden(width))
            + norm(width)
            + linear(width, self.patch_values());
        self.encoder_params() + decoder
    }

    pub fn classifier_params(&self, num_classes: usize) -> u64 {
        self.encoder_params() + self.head_params(num_classes)
    }

    fn head_params(&self, num_classes: usize) -> u64 {
        linear(self.model.embed_dim, num_classes)
    }

    fn encoder_params(&self) -> u64 {
        let width = self.model.embed_dim;
        linear(self.patch_values(), width)
            + width as u64
            + position(self.patches(), width)
            + self.model.depth as u64 * block(width, self.hidden(width))
            + norm(width)
    }

    /// Returns the forward FLOPs of the masked autoencoder for one image.
    ///
    /// Counts only matrix products. A multiply-add is 2 FLOPs.
    pub fn mae_flops(&self, mask_ratio: f64) -> f64 {
        let (seen, all) = (shape::len_keep(self.patches(), mask_ratio) + 1, self.patches() + 1);
        let width = self.model.decoder_embed_dim;
        let blocks = self.model.decoder_depth as f64 * self.block_flops(all, width);
        self.encoder_flops(seen)
            + product(seen, self.model.embed_dim, width)
            + blocks
            + product(all, width, self.patch_values())
    }

    /// Returns the forward FLOPs of the classifier for one image.
    ///
    /// Counts like [`Self::mae_flops`].
    pub fn classifier_flops(&self, num_classes: usize) -> f64 {
        self.encoder_flops(self.patches() + 1) + product(1, self.model.embed_dim, num_classes)
    }

    fn encoder_flops(&self, seen: usize) -> f64 {
        let width = self.model.embed_dim;
        product(self.patches(), self.patch_values(), width)
            + self.model.depth as f64 * self.block_flops(seen, width)
    }

    /// Returns the forward FLOPs of one block for one image: attention and MLP.
    fn block_flops(&self, tokens: usize, width: usize) -> f64 {
        4.0 * product(tokens, width, width)
            + 2.0 * product(tokens, tokens, width)
            + 2.0 * product(tokens, width, self.hidden(width))
    }

    /// Returns the shape of the encoder's blocks for `patches` visible patches.
    fn encoder_stack(&self, patches: usize) -> Stack {
        let ModelPlan { embed_dim: width, depth, num_heads: heads, .. } = *self.model;
        Stack { depth, tokens: patches + 1, width, heads }
    }

    fn decoder_stack(&self) -> Stack {
        let ModelPlan { decoder_embed_dim: width, decoder_depth: depth, .. } = *self.model;
        Stack { depth, tokens: self.patches() + 1, width, heads: self.model.decoder_num_heads }
    }

    /// Returns the bytes of the activations of one image in `stacks`.
    ///
    /// `recompute` means gradient checkpointing.
    fn activations(&self, stacks: &[Stack], recompute: bool, precision: Precision) -> f64 {
        let most = |precision| {
            stacks.iter().map(|stack| self.block_keeps(stack, precision)).fold(0.0, f64::max)
        };
        let kept = if recompute {
            let inputs: usize = stacks.iter().map(|s| s.depth * s.tokens * s.width).sum();
            4.0 * inputs as f64 + most(precision)
        } else {
            stacks.iter().map(|s| s.depth as f64 * self.block_keeps(s, precision)).sum()
        };
        kept + most(Precision::Fp32)
    }

    /// Returns the bytes that a block keeps for the backward pass of one image.
    ///
    /// `D` is the block's width, `H` its MLP width, and `n` the number of tokens.
    ///
    /// | values | for each | precision |
    /// | --- | --- | --- |
    /// | 2 `D`: inputs of both norms | token | fp32 |
    /// | 6 `D`: outputs of the norms and of the attention, q, k, v | token | `precision` |
    /// | 2 `H`: input and output of GELU | token | `precision` |
    /// | `n²`: attention map | head | `precision` |
    fn block_keeps(&self, stack: &Stack, precision: Precision) -> f64 {
        let value = match precision {
            Precision::Fp32 => 4.0,
            Precision::Bf16 => 2.0,
        };
        let (tokens, width) = (stack.tokens as f64, stack.width as f64);
        let narrow = 6.0 * width + 2.0 * self.hidden(stack.width) as f64;
        tokens * (4.0 * 2.0 * width + value * narrow) + value * stack.heads as f64 * tokens.powi(2)
    }
}

fn linear(inputs: usize, outputs: usize) -> u64 {
    (inputs as u64 + 1) * outputs as u64
}

fn norm(width: usize) -> u64 {
    2 * width as u64
}

/// Returns the number of values in a position embedding, with the class token.
fn position(patches: usize, width: usize) -> u64 {
    (patches as u64 + 1) * width as u64
}

/// Returns the number of parameters of a block.
fn block(width: usize, hidden: usize) -> u64 {
    2 * norm(width)
        + linear(width, 3 * width)
        + linear(width, width)
        + linear(width, hidden)
        + linear(hidden, width)
}

/// Returns the FLOPs of the matrix product `[rows, inner] x [inner, columns]`.
fn product(rows: usize, inner: usize, columns: usize) -> f64 {
    2.0 * rows as f64 * inner as f64 * columns as f64
}

#[cfg(test)]
mod tests {
    use super::super::sizes::ModelSize;
    use super::*;

    fn model(size: ModelSize) -> ModelPlan {
        let encoder = size.encoder();
        ModelPlan {
            patch_size: encoder.patch_size,
            embed_dim: encoder.embed_dim,
            depth: encoder.depth,
            num_heads: encoder.num_heads,
            mlp_ratio: 4.0,
            norm_eps: 1e-6,
            decoder_embed_dim: 512,
            decoder_depth: 8,
            decoder_num_heads: 16,
        }
    }

    #[test]
    fn parameter_counts_match_the_official_models() {
        for (size, mae, classifier) in [
            (ModelSize::Base, 111_907_840, 86_567_656),
            (ModelSize::Large, 329_541_888, 304_326_632),
            (ModelSize::Huge, 657_074_508, 632_045_800),
        ] {
            let model = model(size);
            let dims = Dims { model: &model, input_size: 224, in_chans: 3 };
            assert_eq!(dims.mae_params(), mae);
            assert_eq!(dims.classifier_params(1000), classifier);
        }
    }

    #[test]
    fn flops_match_published_figures() {
        let model = model(ModelSize::Base);
        let dims = Dims { model: &model, input_size: 224, in_chans: 3 };
        // 12 encoder blocks with 50 tokens, 8 decoder blocks with 197, the patch embedding, and the decoder's two
        // projections.
        let encoder =
            12.0 * (24.0 * 50.0 * 589_824.0 + 4.0 * 2_500.0 * 768.0) + 2.0 * 196.0 * 589_824.0;
        let decoder = 8.0 * (24.0 * 197.0 * 262_144.0 + 4.0 * 38_809.0 * 512.0)
            + 2.0 * 50.0 * 768.0 * 512.0
            + 2.0 * 197.0 * 512.0 * 768.0;
        assert!((dims.mae_flops(0.75) - (encoder + decoder)).abs() < 1.0);
        // The published figure for ViT-B/16 is 17.6 G multiply-adds with attention.
        assert!((dims.classifier_flops(1000) / 2e9 - 17.56).abs() < 0.1);
    }

    #[test]
    fn with_recomputing_only_one_block_keeps_more_than_its_input() {
        let model = model(ModelSize::Base);
        let dims = Dims { model: &model, input_size: 224, in_chans: 3 };
        let stacks = [dims.encoder_stack(49), dims.decoder_stack()];
        let bytes = |recompute, precision| dims.activations(&stacks, recompute, precision);
        // Per token of a block: 2 D values in fp32 and 14 D in bf16 (2 H = 8 D). Then the attention maps.
        let encoder = 50.0 * (4.0 * 2.0 + 2.0 * 14.0) * 768.0 + 2.0 * 12.0 * 2_500.0;
        let decoder = 197.0 * (4.0 * 2.0 + 2.0 * 14.0) * 512.0 + 2.0 * 16.0 * 38_809.0;
        let in_fp32 = 197.0 * 4.0 * 16.0 * 512.0 + 4.0 * 16.0 * 38_809.0;
        let inputs = 4.0 * (12.0 * 50.0 * 768.0 + 8.0 * 197.0 * 512.0);
        let all = 12.0 * encoder + 8.0 * decoder + in_fp32;
        assert!((bytes(false, Precision::Bf16) - all).abs() < 1.0);
        assert!((bytes(true, Precision::Bf16) - (inputs + decoder + in_fp32)).abs() < 1.0);
        assert!((bytes(true, Precision::Fp32) - (inputs + 2.0 * in_fp32)).abs() < 1.0);
    }
}
