//! The tables `[pretrain]`, `[finetune]` and `[linprobe]` of a recipe.
//!
//! The doc comment and the `range` of a field become its JSON Schema. The defaults are in `defaults.toml`. Keys that
//! several stages have are repeated in each struct, because `serde(flatten)` would lose the line of an invalid key.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plan::{CropMode, EraseMode, MixupMode, OnNan};
use super::values::{
    All, FromEntry, Off, OneOrMany, Or, all_or_blocks_schema, clip_grad_schema, from_schema,
    minmax_schema,
};

/// Self-supervised pre-training of the masked autoencoder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pretrain {
    /// Number of passes over the training images.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub epochs: Option<usize>,
    /// Epochs in which the learning rate rises linearly from 0; at most `epochs`.
    #[schemars(range(max = 1_000_000))]
    pub warmup_epochs: Option<usize>,
    /// Images per device in one micro-step. Can change when a run continues, if each update keeps its images.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub batch_size: Option<usize>,
    /// Micro-steps whose gradients are accumulated for one update. Can change when a run continues, if each update keeps
    /// its images.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub accum_iter: Option<usize>,
    /// Images per update in the published result that the recipe reproduces. If `batch_size * accum_iter * devices` is
    /// a different number, the run warns and suggests settings that restore the published number. No other effect.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub published_batch_size: Option<usize>,
    /// Base learning rate, for 256 images: `lr = blr * batch_size * accum_iter * devices / 256`.
    #[schemars(range(min = 0.0))]
    pub blr: Option<f64>,
    /// Peak learning rate; replaces `blr`. Default: computed from `blr`.
    #[schemars(range(min = 0.0))]
    pub lr: Option<f64>,
    /// Learning rate at the end of the cosine schedule.
    #[schemars(range(min = 0.0))]
    pub min_lr: Option<f64>,
    /// Weight decay of AdamW; biases and normalizations have none.
    #[schemars(range(min = 0.0))]
    pub weight_decay: Option<f64>,
    /// What happens if the loss or a gradient is NaN or infinite. "stop": the stage fails. "skip": the stage skips this
    /// update, so weights, moments and step count do not change, and writes the column `skipped_updates`.
    pub on_nan: Option<OnNan>,
    /// With `on_nan = "skip"`: maximum number of skipped updates in one epoch. The stage fails if an epoch exceeds it, or
    /// skips all its updates. Can change when a run continues.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub on_nan_limit: Option<usize>,
    /// Fraction of the patches that is hidden from the encoder, above 0 and below 1.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub mask_ratio: Option<f64>,
    /// Let the decoder predict each patch normalized by its own mean and variance.
    pub norm_pix_loss: Option<bool>,
    /// Checkpoint to continue from, with its optimizer state and epoch: a kept checkpoint folder or a
    /// `resume.safetensors` of another run, the official `checkpoint-799.pth`, or a `.pd` file of the Paddle port.
    /// Relative to the current directory; `${VAR}` is replaced by the environment variable.
    pub resume: Option<String>,
    /// Keep the optimizer state beside the weights of each kept checkpoint, so that `resume` can continue from it. It
    /// takes twice the space of the weights; `mae plan` prints it. Can change when a run continues.
    pub keep_optimizer: Option<bool>,
    /// Prefix of the network in the file of `resume`, if the file has several networks, as in "model".
    pub prefix: Option<String>,
    /// Epochs after which a checkpoint is kept, counted from 1. The last epoch is always kept. Default: the last epoch.
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
    /// Starting weights, one entry or a list: "checkpoints" (all checkpoints of this run's pre-training), "last" (the
    /// last of them), an epoch, "scratch", or a checkpoint file. Files are relative to the current directory; `${VAR}`
    /// is replaced by the environment variable.
    #[schemars(schema_with = "from_schema")]
    pub from: Option<OneOrMany<FromEntry>>,
    /// Prefix of the network in the checkpoint files of `from`, if they have several networks, as in
    /// "teacher.backbone".
    pub prefix: Option<String>,
    /// Number of passes over the training images.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub epochs: Option<usize>,
    /// Epochs in which the learning rate rises linearly from 0; at most `epochs`.
    #[schemars(range(max = 1_000_000))]
    pub warmup_epochs: Option<usize>,
    /// Images per device in one micro-step.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub batch_size: Option<usize>,
    /// Micro-steps whose gradients are accumulated for one update. Can change when a run continues, if each update keeps
    /// its images.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub accum_iter: Option<usize>,
    /// Images per update in the published result that the recipe reproduces. If `batch_size * accum_iter * devices` is
    /// a different number, the run warns and suggests settings that restore the published number. No other effect.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub published_batch_size: Option<usize>,
    /// Base learning rate, for 256 images: `lr = blr * batch_size * accum_iter * devices / 256`.
    #[schemars(range(min = 0.0))]
    pub blr: Option<f64>,
    /// Peak learning rate; replaces `blr`. Default: computed from `blr`.
    #[schemars(range(min = 0.0))]
    pub lr: Option<f64>,
    /// Learning rate at the end of the cosine schedule.
    #[schemars(range(min = 0.0))]
    pub min_lr: Option<f64>,
    /// Weight decay of AdamW; biases and normalizations have none.
    #[schemars(range(min = 0.0))]
    pub weight_decay: Option<f64>,
    /// What happens if the loss or a gradient is NaN or infinite. "stop": the stage fails. "skip": the stage skips this
    /// update, so weights, moments and step count do not change, and writes the column `skipped_updates`.
    pub on_nan: Option<OnNan>,
    /// With `on_nan = "skip"`: maximum number of skipped updates in one epoch. The stage fails if an epoch exceeds it, or
    /// skips all its updates. Can change when a run continues.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub on_nan_limit: Option<usize>,
    /// Layer-wise learning rate decay: each block's learning rate is this factor times the rate of the block above; 1
    /// disables it.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub layer_decay: Option<f64>,
    /// Number of blocks to train, counted from the last. The last normalization and the head are always trained. The
    /// other blocks keep the weights of the checkpoint. "all", or the depth of the model, trains everything.
    #[schemars(schema_with = "all_or_blocks_schema")]
    pub trained_blocks: Option<Or<All, usize>>,
    /// Stochastic depth: the probability that the branches of the last block are skipped. It rises linearly from 0 at
    /// the first block.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub drop_path: Option<f64>,
    /// Maximum norm of the whole gradient, or "none".
    #[schemars(schema_with = "clip_grad_schema")]
    pub clip_grad: Option<Or<Off, f64>>,
    /// Label smoothing: the fraction of the target that is spread over all classes.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub smoothing: Option<f64>,
    /// Alpha of mixup's Beta distribution; 0 disables mixup.
    #[schemars(range(min = 0.0))]
    pub mixup: Option<f64>,
    /// Alpha of CutMix's Beta distribution; 0 disables CutMix.
    #[schemars(range(min = 0.0))]
    pub cutmix: Option<f64>,
    /// Smallest and largest side of CutMix's box, as fractions of the image side, or "none". Overrides `cutmix`.
    #[schemars(schema_with = "minmax_schema")]
    pub cutmix_minmax: Option<Or<Off, [f64; 2]>>,
    /// Probability that mixup or CutMix is applied at all.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub mixup_prob: Option<f64>,
    /// Probability of CutMix instead of mixup if both are enabled.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub mixup_switch_prob: Option<f64>,
    /// Draw one mix for each batch ("batch"), each pair of images ("pair") or each image ("elem").
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
    /// Give the head the mean of the patch tokens instead of the class token.
    pub global_pool: Option<bool>,
    /// Augmentation of the training images, besides RandAugment and random erasing.
    #[serde(default)]
    pub augment: Augment,
}

/// Linear probing: a classifier on the frozen encoder; one job for each entry of `from`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Linprobe {
    /// The encoder to probe, one entry or a list: "checkpoints" (all checkpoints of this run's pre-training), "last"
    /// (the last of them), an epoch, "scratch", or a checkpoint file. Files are relative to the current directory;
    /// `${VAR}` is replaced by the environment variable.
    #[schemars(schema_with = "from_schema")]
    pub from: Option<OneOrMany<FromEntry>>,
    /// Prefix of the network in the checkpoint files of `from`, if they have several networks, as in
    /// "teacher.backbone".
    pub prefix: Option<String>,
    /// Number of passes over the training images.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub epochs: Option<usize>,
    /// Epochs in which the learning rate rises linearly from 0; at most `epochs`.
    #[schemars(range(max = 1_000_000))]
    pub warmup_epochs: Option<usize>,
    /// Images per device in one micro-step.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub batch_size: Option<usize>,
    /// Micro-steps whose gradients are accumulated for one update. Can change when a run continues, if each update keeps
    /// its images.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub accum_iter: Option<usize>,
    /// Images per update in the published result that the recipe reproduces. If `batch_size * accum_iter * devices` is
    /// a different number, the run warns and suggests settings that restore the published number. No other effect.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub published_batch_size: Option<usize>,
    /// Base learning rate, for 256 images: `lr = blr * batch_size * accum_iter * devices / 256`.
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
    /// What happens if the loss or a gradient is NaN or infinite. "stop": the stage fails. "skip": the stage skips this
    /// update, so weights, moments and step count do not change, and writes the column `skipped_updates`.
    pub on_nan: Option<OnNan>,
    /// With `on_nan = "skip"`: maximum number of skipped updates in one epoch. The stage fails if an epoch exceeds it, or
    /// skips all its updates. Can change when a run continues.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub on_nan_limit: Option<usize>,
    /// Give the head the mean of the patch tokens instead of the class token.
    pub global_pool: Option<bool>,
    /// Augmentation of the training images.
    #[serde(default)]
    pub augment: Augment,
}

/// Crop, horizontal flip and colour jitter of the training images.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Augment {
    /// Smallest and largest area of the random crop, as fractions of the image; [1.0, 1.0] keeps the whole image.
    #[schemars(inner(range(min = 0.0, max = 1.0)))]
    pub crop_scale: Option<[f64; 2]>,
    /// "resized": RandomResizedCrop. "fixed": resize the short side to `input_size * 256 / 224`, then crop a random
    /// square of `input_size`; `crop_scale` has no effect.
    pub crop: Option<CropMode>,
    /// Flip half of the images horizontally.
    pub hflip: Option<bool>,
    /// Random brightness, contrast and saturation: each factor is uniform in 1 ± this value. The order is random, and
    /// values are rounded to 8 bits. 0 disables it.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub color_jitter: Option<f64>,
    /// Repeated augmentation: an epoch uses each of its images this many times in a row, with different augmentations.
    /// The length of an epoch does not change, so an epoch has fewer different images.
    #[schemars(range(min = 1, max = 1000))]
    pub aug_repeats: Option<usize>,
}
