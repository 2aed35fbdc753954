//! Estimates the cost of a stage from its dimensions: parameters, FLOPs, memory.
//!
//! `D` is a width, `L` the number of patches, `P` the values in a patch (`patch_size² * in_chans`), `H` the hidden width
//! of an MLP, `n` the tokens of a block.

use super::plan::{DataPlan, ModelPlan, Plan};
use crate::shape::{self, ImageSize, LossPatches, Precision, StageKind, TrainedBlocks};

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
    /// The part of `train_flops_per_image` that training on the CPU skips: see [`Dims::unneeded_flops`].
    pub skipped_flops_per_image: f64,
    /// FLOPs for one image that gradient checkpointing adds.
    pub recomputed_flops_per_image: f64,
    /// Memory of a training step on one device, in bytes.
    pub memory: Memory,
}

/// Estimated memory of a training step on one device, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Memory {
    /// Memory of the fp32 parameters, in bytes.
    pub params: f64,
    /// Memory of the fp32 gradients of the trained parameters, in bytes.
    pub gradients: f64,
    /// Memory of the fp32 optimizer state and of the averaged weights (EMA), in bytes.
    pub optimizer: f64,
    /// Memory of the activations of one micro-batch, with the temporary values of one block, in bytes.
    pub activations: f64,
}

impl Memory {
    /// Returns the total memory in bytes.
    pub fn total(&self) -> f64 {
        self.params + self.gradients + self.optimizer + self.activations
    }
}

/// The cost of the trained part of a network.
struct Trained {
    params: u64,
    /// Forward FLOPs of the trained part for one image.
    flops: f64,
    /// Activations of one image, in bytes.
    activations: f64,
    /// Values kept per trained parameter: 2 for AdamW, 3 with EMA, 1 for LARS.
    moments: f64,
}

/// Dimensions of a model and of its input images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dims<'a> {
    /// Patch size, widths, depths and numbers of heads.
    pub model: &'a ModelPlan,
    /// Height and width of the input image, in pixels.
    pub input_size: ImageSize,
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
    /// Returns `None` if the recipe does not have this stage. The CPU needs about 25 % more memory for fp32
    /// activations.
    pub fn cost(&self, stage: StageKind, num_classes: usize) -> Option<Cost> {
        let dims = Dims::of(&self.model, &self.data);
        let batch = self.training(stage)?.batch_size as f64;
        let (params, flops) = match stage {
            StageKind::Pretrain => (dims.mae_params(), dims.mae_flops(self.visible(&dims))),
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
            skipped_flops_per_image: 3.0 * self.unneeded_flops(stage, &dims),
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
        let has_ema = self.finetune.as_ref().is_some_and(|plan| plan.ema.is_some());
        let moments = if has_ema { 3.0 } else { 2.0 };
        match (stage, &self.finetune) {
            (StageKind::Pretrain, _) => {
                let seen = self.visible(dims);
                let stacks = [dims.encoder_stack(seen), dims.decoder_stack()];
                let flops = dims.mae_flops(seen);
                let activations = activations(&stacks);
                Trained { params: dims.mae_params(), flops, activations, moments: 2.0 }
            }
            (StageKind::Finetune, Some(plan)) if !plan.trains_embeddings(self.model.depth) => {
                let width = self.model.embed_dim;
                let depth = plan.trained_blocks.count();
                let blocks = Stack { depth, ..dims.encoder_stack(patches) };
                let (block_params, block_flops) = dims.trained_block(plan.trained_blocks);
                let params = depth as u64 * block_params + norm(width) + head;
                let flops = depth as f64 * block_flops + product(1, width, num_classes);
                Trained { params, flops, activations: activations(&[blocks]), moments }
            }
            (StageKind::Finetune, _) => Trained {
                params: dims.classifier_params(num_classes),
                flops: dims.classifier_flops(num_classes),
                activations: activations(&[dims.encoder_stack(patches)]),
                moments,
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

    /// Returns the forward FLOPs of one image that training on the CPU skips, because its loss does not depend on their results.
    fn unneeded_flops(&self, stage: StageKind, dims: &Dims<'_>) -> f64 {
        match &self.pretrain {
            Some(plan)
                if stage == StageKind::Pretrain && plan.loss.patches == LossPatches::Masked =>
            {
                dims.unneeded_flops(plan.masking.len_keep(dims.grid()))
            }
            _ => 0.0,
        }
    }

    /// Returns the number of patches in the encoder's input in pre-training.
    fn visible(&self, dims: &Dims<'_>) -> usize {
        match &self.pretrain {
            Some(_) if self.model.encoder_mask_token => dims.patches(),
            Some(pretrain) => pretrain.masking.len_keep(dims.grid()),
            None => 0,
        }
    }

    /// Returns whether `stage` uses gradient checkpointing. Linear probing never does.
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
        self.grid().area()
    }

    fn grid(&self) -> ImageSize {
        self.input_size.in_squares_of(self.model.patch_size)
    }

    fn patch_values(&self) -> usize {
        self.model.patch_size.pow(2) * self.in_chans
    }

    fn hidden(&self, width: usize) -> usize {
        shape::mlp_dim(width, self.model.mlp_ratio)
    }

    /// Returns the number of parameters of the masked autoencoder.
    ///
    /// Includes the fixed position embeddings.
    pub fn mae_params(&self) -> u64 {
        let ModelPlan { decoder_embed_dim: width, decoder_depth, embed_dim, .. } = *self.model;
        let mask_token = if self.model.encoder_mask_token { embed_dim } else { width };
        let decoder = linear(embed_dim, width)
            + mask_token as u64
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

    /// Returns the FLOPs of one forward pass of the masked autoencoder for one image.
    ///
    /// `visible` is the number of patches in the encoder. Only matrix products count; a multiply-add is 2 FLOPs.
    ///
    /// A block with `n` tokens, width `D` and MLP width `H` has `n * (8 D² + 4 D H) + 4 n² D` FLOPs. In the encoder,
    /// `n` is `visible + 1`, with the class token. In the decoder, `n` is the number of all patches + 1. The patch
    /// embedding and the two linear projections of the decoder are included.
    pub fn mae_flops(&self, visible: usize) -> f64 {
        let (seen, all) = (visible + 1, self.patches() + 1);
        let width = self.model.decoder_embed_dim;
        let blocks = self.model.decoder_depth as f64 * self.block_flops(all, width);
        self.encoder_flops(seen)
            + product(seen, self.model.embed_dim, width)
            + blocks
            + product(all, width, self.patch_values())
    }

    /// Returns the forward FLOPs for the outputs of `kept` patches and of the class token in the decoder's last block.
    ///
    /// These are the FLOPs after the attention: its projection, the MLP and the prediction. A loss over the removed
    /// patches does not need these outputs.
    pub fn unneeded_flops(&self, kept: usize) -> f64 {
        let (tokens, width) = (kept + 1, self.model.decoder_embed_dim);
        product(tokens, width, width)
            + 2.0 * product(tokens, width, self.hidden(width))
            + product(tokens, width, self.patch_values())
    }

    /// Returns the forward FLOPs of the classifier for one image.
    ///
    /// Only matrix products count; a multiply-add is 2 FLOPs.
    pub fn classifier_flops(&self, num_classes: usize) -> f64 {
        self.encoder_flops(self.patches() + 1) + product(1, self.model.embed_dim, num_classes)
    }

    fn encoder_flops(&self, seen: usize) -> f64 {
        let width = self.model.embed_dim;
        product(self.patches(), self.patch_values(), width)
            + self.model.depth as f64 * self.block_flops(seen, width)
    }

    /// Returns the forward FLOPs of one block (attention and MLP) for one image.
    fn block_flops(&self, tokens: usize, width: usize) -> f64 {
        4.0 * product(tokens, width, width)
            + 2.0 * product(tokens, tokens, width)
            + 2.0 * product(tokens, width, self.hidden(width))
    }

    /// Returns the number of trained parameters of one encoder block, and their forward FLOPs for one image.
    fn trained_block(&self, trained: TrainedBlocks) -> (u64, f64) {
        let (tokens, width) = (self.patches() + 1, self.model.embed_dim);
        let hidden = self.hidden(width);
        match trained {
            TrainedBlocks::Last(_) => (block(width, hidden), self.block_flops(tokens, width)),
            TrainedBlocks::HalfOfLast => {
                let mlp = linear(width, hidden) + linear(hidden, width);
                (norm(width) + mlp, 2.0 * product(tokens, width, hidden))
            }
        }
    }

    /// Returns the encoder blocks for `patches` visible patches and the class token.
    fn encoder_stack(&self, patches: usize) -> Stack {
        let ModelPlan { embed_dim: width, depth, num_heads: heads, .. } = *self.model;
        Stack { depth, tokens: patches + 1, width, heads }
    }

    fn decoder_stack(&self) -> Stack {
        let ModelPlan { decoder_embed_dim: width, decoder_depth: depth, .. } = *self.model;
        Stack { depth, tokens: self.patches() + 1, width, heads: self.model.decoder_num_heads }
    }

    /// Returns the activation memory of one image in these blocks, in bytes.
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

    /// Returns the bytes that one block keeps for the backward pass of one image.
    ///
    /// The block has width `D`, MLP width `H` and `n` tokens. It keeps:
    ///
    /// | number of values | which values | precision |
    /// | --- | --- | --- |
    /// | `2 D n` | inputs of both norms | fp32 |
    /// | `6 D n` | outputs of both norms and of attention; q, k, v | `precision` |
    /// | `2 H n` | input and output of GELU | `precision` |
    /// | `n²` for each head | attention map | `precision` |
    fn block_keeps(&self, stack: &Stack, precision: Precision) -> f64 {
        let value = match precision {
            Precision::Fp32 => 4.0,
            Precision::Bf16 | Precision::Fp16 => 2.0,
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

/// Returns the number of values in a position embedding of `patches + 1` tokens.
fn position(patches: usize, width: usize) -> u64 {
    (patches as u64 + 1) * width as u64
}

/// Returns the number of parameters of one transformer block.
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
mod tests;
