//! The tables `[pretrain]`, `[finetune]` and `[linprobe]` of a recipe.
//!
//! The doc comment and the `range` of a field become its JSON Schema. The defaults are in `defaults.toml`. Keys that
//! several stages have are repeated in each struct, because `serde(flatten)` would lose the line of an invalid key.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plan::{CropMode, EraseMode, MixupMode};
use super::stage_plan::OnNan;
use super::values::{
    All, Blocks, FromEntry, Off, OneOrMany, Or, all_or_blocks_schema, betas_schema,
    clip_grad_schema, ema_schema, from_schema, minmax_schema,
};
use crate::shape::{LossPatches, MaskKind};

/// Self-supervised pre-training of the masked autoencoder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pretrain {
    /// Number of passes over the training images.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub epochs: Option<usize>,
    /// Number of warm-up epochs, at most `epochs`. During warm-up, the learning rate rises linearly from 0.
    #[schemars(range(max = 1_000_000))]
    pub warmup_epochs: Option<usize>,
    /// Number of images per device in one micro-step. You can change this key when a run resumes, if each update keeps
    /// its number of images.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub batch_size: Option<usize>,
    /// Gradient accumulation: number of micro-steps per update. You can change this key when a run resumes, if each
    /// update keeps its number of images.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub accum_iter: Option<usize>,
    /// Images per update in the published result that the recipe reproduces. If `batch_size * accum_iter * devices *
    /// hosts` is a different number, the run warns and suggests settings that restore the published number. This key
    /// has no other effect.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub published_batch_size: Option<usize>,
    /// Base learning rate, for 256 images: `lr = blr * batch_size * accum_iter * devices * hosts / 256`.
    #[schemars(range(min = 0.0))]
    pub blr: Option<f64>,
    /// Peak learning rate; replaces `blr`. Default: computed from `blr`.
    #[schemars(range(min = 0.0))]
    pub lr: Option<f64>,
    /// Learning rate at the end of the cosine schedule.
    #[schemars(range(min = 0.0))]
    pub min_lr: Option<f64>,
    /// Weight decay of AdamW. Biases and normalization parameters have no weight decay.
    #[schemars(range(min = 0.0))]
    pub weight_decay: Option<f64>,
    /// What happens if the loss or a gradient is NaN or infinite. "stop": the stage fails. "skip": the stage skips the
    /// update and does not change the weights, the optimizer state or the step count. The column `skipped_updates` of
    /// `epochs.csv` counts the skipped updates.
    pub on_nan: Option<OnNan>,
    /// Maximum number of skipped updates per epoch with `on_nan = "skip"`. The stage fails above this number, or if an
    /// epoch skips all updates. You can change this key when a run resumes.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub on_nan_limit: Option<usize>,
    /// Which patches are hidden from the encoder. "random": a random choice of patches. "block": rectangular blocks as
    /// in arXiv 2106.08254, and single patches until the number is complete. "grid": three patches of each 2 x 2
    /// square; needs `mask_ratio` 0.75.
    pub mask: Option<MaskKind>,
    /// Fraction of the patches that is hidden from the encoder, above 0 and below 1.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub mask_ratio: Option<f64>,
    /// Side of the squares that `mask = "random"` hides or keeps as a whole, in patches. Must divide the number of
    /// patches per side of an image. 1 hides single patches.
    #[schemars(range(min = 1, max = 1024))]
    pub mask_granularity: Option<usize>,
    /// Normalize each target patch by its own mean and variance.
    pub norm_pix_loss: Option<bool>,
    /// The patches over which the loss is averaged: the hidden patches ("masked"), or all patches ("all").
    pub loss_on: Option<LossPatches>,
    /// Checkpoint with the starting weights of a new pre-training, in any format that `finetune.from` reads. The
    /// optimizer state is new, and training starts at epoch 1. Parts that the checkpoint does not have, such as the
    /// decoder, get random weights. Cannot be combined with `resume`. The path is relative to the current directory.
    /// mae replaces `${VAR}` by the environment variable.
    pub from: Option<String>,
    /// Checkpoint to resume from, with its optimizer state and epoch. Supported are a checkpoint folder or a
    /// `resume.safetensors` of another run, an official `checkpoint-799.pth`, and a `.pd` file of the Paddle port. The
    /// path is relative to the current directory. mae replaces `${VAR}` by the environment variable.
    pub resume: Option<String>,
    /// Save the optimizer state with each kept checkpoint, so that `resume` can continue from this checkpoint. The
    /// optimizer state needs twice the disk space of the weights. `mae plan` prints this disk space. You can change
    /// this key when a run resumes.
    pub keep_optimizer: Option<bool>,
    /// Prefix of the tensor names of the network to load, such as "model". Needed if the checkpoint in `from` or
    /// `resume` contains several networks.
    pub prefix: Option<String>,
    /// Epochs after which the run keeps a checkpoint, counted from 1. The run always keeps the checkpoint of the last
    /// epoch. Default: only the last epoch.
    #[schemars(inner(range(min = 1, max = 1_000_000)))]
    pub checkpoint_epochs: Option<Vec<usize>>,
    /// Augmentation of the training images.
    #[serde(default)]
    pub augment: Augment,
}

/// Supervised fine-tuning of the encoder; one job for each entry of `from`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Finetune {
    /// Starting weights, one entry or a list. An entry is "checkpoints" (all pre-training checkpoints of this run),
    /// "last" (the last pre-training checkpoint), an epoch, "start" (the weights of `pretrain.from`), "scratch" (random
    /// weights), or the path of a checkpoint. Paths are relative to the current directory. mae replaces `${VAR}` by the
    /// environment variable.
    #[schemars(schema_with = "from_schema")]
    pub from: Option<OneOrMany<FromEntry>>,
    /// Prefix of the tensor names of the network to load, such as "teacher.backbone". Needed if the checkpoints in
    /// `from` contain several networks.
    pub prefix: Option<String>,
    /// Number of passes over the training images.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub epochs: Option<usize>,
    /// Number of warm-up epochs, at most `epochs`. During warm-up, the learning rate rises linearly from 0.
    #[schemars(range(max = 1_000_000))]
    pub warmup_epochs: Option<usize>,
    /// Number of images per device in one micro-step.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub batch_size: Option<usize>,
    /// Gradient accumulation: number of micro-steps per update. You can change this key when a run resumes, if each
    /// update keeps its number of images.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub accum_iter: Option<usize>,
    /// Images per update in the published result that the recipe reproduces. If `batch_size * accum_iter * devices *
    /// hosts` is a different number, the run warns and suggests settings that restore the published number. This key
    /// has no other effect.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub published_batch_size: Option<usize>,
    /// Base learning rate, for 256 images: `lr = blr * batch_size * accum_iter * devices * hosts / 256`.
    #[schemars(range(min = 0.0))]
    pub blr: Option<f64>,
    /// Peak learning rate; replaces `blr`. Default: computed from `blr`.
    #[schemars(range(min = 0.0))]
    pub lr: Option<f64>,
    /// Learning rate at the end of the cosine schedule.
    #[schemars(range(min = 0.0))]
    pub min_lr: Option<f64>,
    /// Weight decay of AdamW. Biases and normalization parameters have no weight decay.
    #[schemars(range(min = 0.0))]
    pub weight_decay: Option<f64>,
    /// What happens if the loss or a gradient is NaN or infinite. "stop": the stage fails. "skip": the stage skips the
    /// update and does not change the weights, the optimizer state or the step count. The column `skipped_updates` of
    /// `epochs.csv` counts the skipped updates.
    pub on_nan: Option<OnNan>,
    /// Maximum number of skipped updates per epoch with `on_nan = "skip"`. The stage fails above this number, or if an
    /// epoch skips all updates. You can change this key when a run resumes.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub on_nan_limit: Option<usize>,
    /// The two betas of AdamW: the decay of the running means of the gradient and of its square.
    #[schemars(schema_with = "betas_schema")]
    pub betas: Option<[f64; 2]>,
    /// Decay of the exponential moving average of the weights, such as 0.9999, or "none". With a decay, the run evaluates
    /// and keeps the averaged weights.
    #[schemars(schema_with = "ema_schema")]
    pub ema: Option<Or<Off, f64>>,
    /// Layer-wise learning rate decay: the learning rate of a block is this factor times the learning rate of the next
    /// block. 1 disables the decay.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub layer_decay: Option<f64>,
    /// Number of blocks to train, counted from the last block. The other blocks keep the weights of the checkpoint. The
    /// run always trains the last normalization and the head. "all", or the depth of the model, trains everything.
    /// 0.5 trains half of the last block: its MLP, and the normalization before it.
    #[schemars(schema_with = "all_or_blocks_schema")]
    pub trained_blocks: Option<Or<All, Blocks>>,
    /// Stochastic depth: the probability that the last block's residual branches are skipped. The probability rises
    /// linearly from 0 at the first block.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub drop_path: Option<f64>,
    /// Gradient clipping: maximum norm of the gradient of all parameters together, or "none".
    #[schemars(schema_with = "clip_grad_schema")]
    pub clip_grad: Option<Or<Off, f64>>,
    /// Label smoothing: the fraction of the target probability that all classes share.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub smoothing: Option<f64>,
    /// Alpha of mixup's Beta distribution; 0 disables mixup.
    #[schemars(range(min = 0.0))]
    pub mixup: Option<f64>,
    /// Alpha of CutMix's Beta distribution; 0 disables CutMix.
    #[schemars(range(min = 0.0))]
    pub cutmix: Option<f64>,
    /// Smallest and largest side of CutMix's box, as fractions of the image side, or "none". If set, `cutmix` is
    /// ignored.
    #[schemars(schema_with = "minmax_schema")]
    pub cutmix_minmax: Option<Or<Off, [f64; 2]>>,
    /// Probability that mixup or CutMix is applied at all.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub mixup_prob: Option<f64>,
    /// Probability of CutMix instead of mixup if both are enabled.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub mixup_switch_prob: Option<f64>,
    /// Draw new mixing parameters for each batch ("batch"), each pair of images ("pair") or each image ("elem").
    pub mixup_mode: Option<MixupMode>,
    /// Random erasing: the probability that a part of an image is erased.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub reprob: Option<f64>,
    /// Random erasing: fill a box with zeros ("const"), one random colour ("rand") or random pixels ("pixel").
    pub remode: Option<EraseMode>,
    /// Random erasing: maximum number of boxes in one image.
    #[schemars(range(min = 1, max = 1000))]
    pub recount: Option<usize>,
    /// RandAugment policy in timm's notation; "" disables RandAugment.
    pub aa: Option<String>,
    /// Classify the mean of the patch tokens instead of the class token.
    pub global_pool: Option<bool>,
    /// Augmentation of the training images, besides RandAugment and random erasing.
    #[serde(default)]
    pub augment: Augment,
}

/// Linear probing: a classifier on the frozen encoder; one job for each entry of `from`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Linprobe {
    /// Encoder to probe, one entry or a list. An entry is "checkpoints" (all pre-training checkpoints of this run),
    /// "last" (the last pre-training checkpoint), an epoch, "start" (the weights of `pretrain.from`), "scratch" (random
    /// weights), or the path of a checkpoint. Paths are relative to the current directory. mae replaces `${VAR}` by the
    /// environment variable.
    #[schemars(schema_with = "from_schema")]
    pub from: Option<OneOrMany<FromEntry>>,
    /// Prefix of the tensor names of the network to load, such as "teacher.backbone". Needed if the checkpoints in
    /// `from` contain several networks.
    pub prefix: Option<String>,
    /// Number of passes over the training images.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub epochs: Option<usize>,
    /// Number of warm-up epochs, at most `epochs`. During warm-up, the learning rate rises linearly from 0.
    #[schemars(range(max = 1_000_000))]
    pub warmup_epochs: Option<usize>,
    /// Number of images per device in one micro-step.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub batch_size: Option<usize>,
    /// Gradient accumulation: number of micro-steps per update. You can change this key when a run resumes, if each
    /// update keeps its number of images.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub accum_iter: Option<usize>,
    /// Images per update in the published result that the recipe reproduces. If `batch_size * accum_iter * devices *
    /// hosts` is a different number, the run warns and suggests settings that restore the published number. This key
    /// has no other effect.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub published_batch_size: Option<usize>,
    /// Base learning rate, for 256 images: `lr = blr * batch_size * accum_iter * devices * hosts / 256`.
    #[schemars(range(min = 0.0))]
    pub blr: Option<f64>,
    /// Peak learning rate; replaces `blr`. Default: computed from `blr`.
    #[schemars(range(min = 0.0))]
    pub lr: Option<f64>,
    /// Learning rate at the end of the cosine schedule.
    #[schemars(range(min = 0.0))]
    pub min_lr: Option<f64>,
    /// Weight decay of LARS.
    #[schemars(range(min = 0.0))]
    pub weight_decay: Option<f64>,
    /// What happens if the loss or a gradient is NaN or infinite. "stop": the stage fails. "skip": the stage skips the
    /// update and does not change the weights, the optimizer state or the step count. The column `skipped_updates` of
    /// `epochs.csv` counts the skipped updates.
    pub on_nan: Option<OnNan>,
    /// Maximum number of skipped updates per epoch with `on_nan = "skip"`. The stage fails above this number, or if an
    /// epoch skips all updates. You can change this key when a run resumes.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub on_nan_limit: Option<usize>,
    /// Classify the mean of the patch tokens instead of the class token.
    pub global_pool: Option<bool>,
    /// Augmentation of the training images.
    #[serde(default)]
    pub augment: Augment,
}

/// Crop, horizontal flip and colour jitter of the training images.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Augment {
    /// Smallest and largest area of the random crop, as fractions of the image area. [1.0, 1.0] keeps the whole image.
    #[schemars(inner(range(min = 0.0, max = 1.0)))]
    pub crop_scale: Option<[f64; 2]>,
    /// "resized": RandomResizedCrop. "fixed": resize the short side to `input_size * 256 / 224` pixels, then crop a
    /// random region of size `input_size`. With "fixed", `crop_scale` has no effect.
    pub crop: Option<CropMode>,
    /// Flip half of the images horizontally.
    pub hflip: Option<bool>,
    /// Colour jitter: multiply brightness, contrast and saturation by random factors, in random order. Each factor is
    /// drawn uniformly from 1 ± this value. The results are rounded to 8 bits. 0 disables the jitter.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub color_jitter: Option<f64>,
    /// Repeated augmentation: an epoch uses each image this many times in a row, with different augmentations. The
    /// number of updates per epoch stays the same, so an epoch has fewer different images.
    #[schemars(range(min = 1, max = 1000))]
    pub aug_repeats: Option<usize>,
}
