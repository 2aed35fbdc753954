//! The tables `[pretrain]`, `[finetune]` and `[linprobe]` as a recipe writes them.
//!
//! The doc comment of a field is its description in the JSON Schema, and its `range` is what the
//! layers are checked against; the defaults are in `defaults.toml`. The shared keys are repeated,
//! not flattened: `serde(flatten)` loses the place of a bad key.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plan::{CropMode, EraseMode, MixupMode};
use super::values::{
    All, FromEntry, Off, OneOrMany, Or, all_or_blocks_schema, clip_grad_schema, from_schema,
    minmax_schema,
};

/// Self-supervised pre-training of the masked autoencoder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pretrain {
    /// Passes over the training images.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub epochs: Option<usize>,
    /// Epochs in which the learning rate rises linearly from 0; at most `epochs`.
    #[schemars(range(max = 1_000_000))]
    pub warmup_epochs: Option<usize>,
    /// Images each device takes in one micro-step.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub batch_size: Option<usize>,
    /// Micro-steps whose gradients are added up before an update.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub accum_iter: Option<usize>,
    /// Images of an update in the result that the recipe repeats: a run whose `batch_size * accum_iter * devices` is another
    /// one warns, and says how to get it back. It changes nothing.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub published_batch_size: Option<usize>,
    /// Learning rate for 256 images: `lr = blr * batch_size * accum_iter * devices / 256`.
    #[schemars(range(min = 0.0))]
    pub blr: Option<f64>,
    /// Peak learning rate, as it is; instead of `blr`.
    #[schemars(range(min = 0.0))]
    pub lr: Option<f64>,
    /// Learning rate at the end of the cosine schedule.
    #[schemars(range(min = 0.0))]
    pub min_lr: Option<f64>,
    /// AdamW's weight decay; biases and normalizations have none.
    #[schemars(range(min = 0.0))]
    pub weight_decay: Option<f64>,
    /// Share of the patches that the encoder does not see, above 0 and below 1.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub mask_ratio: Option<f64>,
    /// Whether the decoder is asked for each patch normalized by its own mean and variance.
    pub norm_pix_loss: Option<bool>,
    /// Go on from somebody's checkpoint with its optimizer state and epoch: the official `checkpoint-799.pth`, or the
    /// Paddle port's `.pd` (relative to the current directory, `${VAR}` is taken from the environment).
    pub resume: Option<String>,
    /// Epochs after which a checkpoint is kept, counted from 1. Default: the last one, which is
    /// always kept.
    #[schemars(inner(range(min = 1, max = 1_000_000)))]
    pub checkpoint_epochs: Option<Vec<usize>>,
    /// What happens to a training image.
    #[serde(default)]
    pub augment: Augment,
}

/// Supervised fine-tuning of the whole encoder; one job for each entry of `from`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Finetune {
    /// What to start from, one or a list: "checkpoints" (all of this run's), "last", an epoch,
    /// "scratch", or a file (relative to the current directory, `${VAR}` is taken from the
    /// environment).
    #[schemars(schema_with = "from_schema")]
    pub from: Option<OneOrMany<FromEntry>>,
    /// Passes over the training images.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub epochs: Option<usize>,
    /// Epochs in which the learning rate rises linearly from 0; at most `epochs`.
    #[schemars(range(max = 1_000_000))]
    pub warmup_epochs: Option<usize>,
    /// Images each device takes in one micro-step.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub batch_size: Option<usize>,
    /// Micro-steps whose gradients are added up before an update.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub accum_iter: Option<usize>,
    /// Images of an update in the result that the recipe repeats: a run whose `batch_size * accum_iter * devices` is another
    /// one warns, and says how to get it back. It changes nothing.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub published_batch_size: Option<usize>,
    /// Learning rate for 256 images: `lr = blr * batch_size * accum_iter * devices / 256`.
    #[schemars(range(min = 0.0))]
    pub blr: Option<f64>,
    /// Peak learning rate, as it is; instead of `blr`.
    #[schemars(range(min = 0.0))]
    pub lr: Option<f64>,
    /// Learning rate at the end of the cosine schedule.
    #[schemars(range(min = 0.0))]
    pub min_lr: Option<f64>,
    /// AdamW's weight decay; biases and normalizations have none.
    #[schemars(range(min = 0.0))]
    pub weight_decay: Option<f64>,
    /// Factor of the learning rate from a block to the one below it; 1 is the same rate everywhere.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub layer_decay: Option<f64>,
    /// The last blocks that are trained, beside the last normalization and the head; what lies below stays as the checkpoint
    /// has it. "all" trains everything, and so does the model's depth.
    #[schemars(schema_with = "all_or_blocks_schema")]
    pub trained_blocks: Option<Or<All, usize>>,
    /// Probability that the last block's branches are skipped; it rises linearly from 0 at the
    /// first block.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub drop_path: Option<f64>,
    /// Largest norm of the whole gradient, or "none".
    #[schemars(schema_with = "clip_grad_schema")]
    pub clip_grad: Option<Or<Off, f64>>,
    /// Label smoothing: the share of the target spread over all classes.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub smoothing: Option<f64>,
    /// Parameter of mixup's Beta distribution; 0 is off.
    #[schemars(range(min = 0.0))]
    pub mixup: Option<f64>,
    /// Parameter of CutMix's Beta distribution; 0 is off.
    #[schemars(range(min = 0.0))]
    pub cutmix: Option<f64>,
    /// Smallest and largest share of the side that CutMix's box takes, instead of `cutmix`, or
    /// "none".
    #[schemars(schema_with = "minmax_schema")]
    pub cutmix_minmax: Option<Or<Off, [f64; 2]>>,
    /// Probability that mixup or CutMix is applied at all.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub mixup_prob: Option<f64>,
    /// Probability of CutMix where both it and mixup are on.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub mixup_switch_prob: Option<f64>,
    /// Whether the mix is drawn for a batch, for a pair of images, or for each image.
    pub mixup_mode: Option<MixupMode>,
    /// Probability that a part of the image is erased.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub reprob: Option<f64>,
    /// What an erased box is filled with: zeros, one random colour, or random pixels.
    pub remode: Option<EraseMode>,
    /// Most boxes erased in one image.
    #[schemars(range(min = 1, max = 1000))]
    pub recount: Option<usize>,
    /// RandAugment's policy in timm's notation; "" switches it off.
    pub aa: Option<String>,
    /// Whether the head gets the mean of the patches instead of the class token.
    pub global_pool: Option<bool>,
    /// What happens to a training image besides RandAugment and erasing.
    #[serde(default)]
    pub augment: Augment,
}

/// Linear probing: a classifier on the frozen encoder; one job for each entry of `from`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Linprobe {
    /// What to probe, one or a list: "checkpoints" (all of this run's), "last", an epoch,
    /// "scratch", or a file (relative to the current directory, `${VAR}` is taken from the
    /// environment).
    #[schemars(schema_with = "from_schema")]
    pub from: Option<OneOrMany<FromEntry>>,
    /// Passes over the training images.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub epochs: Option<usize>,
    /// Epochs in which the learning rate rises linearly from 0; at most `epochs`.
    #[schemars(range(max = 1_000_000))]
    pub warmup_epochs: Option<usize>,
    /// Images each device takes in one micro-step.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub batch_size: Option<usize>,
    /// Micro-steps whose gradients are added up before an update.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub accum_iter: Option<usize>,
    /// Images of an update in the result that the recipe repeats: a run whose `batch_size * accum_iter * devices` is another
    /// one warns, and says how to get it back. It changes nothing.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub published_batch_size: Option<usize>,
    /// Learning rate for 256 images: `lr = blr * batch_size * accum_iter * devices / 256`.
    #[schemars(range(min = 0.0))]
    pub blr: Option<f64>,
    /// Peak learning rate, as it is; instead of `blr`.
    #[schemars(range(min = 0.0))]
    pub lr: Option<f64>,
    /// Learning rate at the end of the cosine schedule.
    #[schemars(range(min = 0.0))]
    pub min_lr: Option<f64>,
    /// LARS's weight decay.
    #[schemars(range(min = 0.0))]
    pub weight_decay: Option<f64>,
    /// Whether the head gets the mean of the patches instead of the class token.
    pub global_pool: Option<bool>,
    /// What happens to a training image.
    #[serde(default)]
    pub augment: Augment,
}

/// Crop, horizontal flip and colour jitter of a training image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Augment {
    /// Smallest and largest share of the image's area that RandomResizedCrop takes; [1.0, 1.0] is
    /// no crop.
    #[schemars(inner(range(min = 0.0, max = 1.0)))]
    pub crop_scale: Option<[f64; 2]>,
    /// What is cut out: "resized" is RandomResizedCrop; "fixed" brings the short side to `input_size` * 256 / 224 and takes
    /// a random square of `input_size` (`crop_scale` then says nothing).
    pub crop: Option<CropMode>,
    /// Whether half of the images are mirrored left to right.
    pub hflip: Option<bool>,
    /// How far brightness, contrast and saturation stray: each factor is uniform in 1 ± this, in random order, on whole
    /// levels; 0 is off.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub color_jitter: Option<f64>,
    /// Repeated augmentation: how often an epoch takes an image, each time changed in another way, right after each other. An
    /// epoch keeps its number of images, so it sees fewer different ones.
    #[schemars(range(min = 1, max = 1000))]
    pub aug_repeats: Option<usize>,
}
