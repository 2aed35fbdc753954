//! What will run: every value set, everything derived. [`super::resolve`] is the only maker.
//!
//! A module is handed the few numbers it uses, never the whole [`Plan`].

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rand_augment::RandAugmentPlan;
use crate::shape::Precision;

/// One run: one point of a sweep, or the whole recipe where there is no sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Folder under `runs/`; a sweep point's is `<name>/<key>=<value>,…` with full dotted keys.
    pub name: String,
    /// The swept keys of this point and their values as TOML text, in the order of `[sweep]`.
    pub swept: Vec<(String, String)>,
    pub seed: u64,
    pub data: DataPlan,
    pub model: ModelPlan,
    pub runtime: RuntimePlan,
    pub pretrain: Option<PretrainPlan>,
    pub finetune: Option<FinetunePlan>,
    pub linprobe: Option<LinprobePlan>,
}

/// Where the images come from and what they look like when a model gets them.
#[derive(Debug, Clone, PartialEq)]
pub struct DataPlan {
    pub format: Format,
    /// The data set's folder, `${VAR}` replaced; empty for formats that need none.
    pub path: PathBuf,
    /// Side of the square image a model gets, in pixels.
    pub input_size: usize,
    pub in_chans: usize,
    /// Per channel, on the 0..1 scale, `in_chans` long.
    pub mean: Vec<f32>,
    /// Per channel, on the 0..1 scale, `in_chans` long, none zero.
    pub std: Vec<f32>,
    /// A CSV or text file with one class name a line, or nothing: then the folders' names.
    pub class_map: Option<PathBuf>,
    pub workers: Threads,
    /// For training; evaluation is exact.
    pub decode: Decode,
    /// Share of the training files that may turn out to be bad before a run stops.
    pub max_bad_fraction: f64,
    /// What the recipe promises about the data; checked by `run`, used by `plan` without the data.
    pub promised: Promised,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Digits,
    ImageFolder,
    WebDataset,
    Parquet,
    Cifar10,
    Cifar100,
    Synthetic,
}

/// Counts a recipe may state; `None` is "not stated".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Promised {
    pub num_classes: Option<usize>,
    pub train_images: Option<usize>,
    pub val_images: Option<usize>,
}

/// Counts of the data that a run uses: found in it, or promised by the recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataFacts {
    pub num_classes: usize,
    pub train_images: usize,
    pub val_images: usize,
}

/// Plain dimensions of the encoder and the decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelPlan {
    pub patch_size: usize,
    pub embed_dim: usize,
    pub depth: usize,
    pub num_heads: usize,
    pub mlp_ratio: f64,
    /// Epsilon of every LayerNorm.
    pub norm_eps: f64,
    pub decoder_embed_dim: usize,
    pub decoder_depth: usize,
    pub decoder_num_heads: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimePlan {
    pub device: DeviceKind,
    /// Devices of this process that train together: the world size.
    pub devices: usize,
    pub precision: Precision,
    /// Whether a GPU is held against the CPU before a run.
    pub verify_device: bool,
    /// Whether a GPU tries several kernels for bf16 products, and keeps the fastest.
    pub autotune: bool,
    /// What several devices do with several jobs.
    pub schedule: Schedule,
    /// Whether the backward pass recomputes the activations of the blocks.
    pub gradient_checkpointing: bool,
    pub threads: Threads,
}

impl RuntimePlan {
    /// The same without tuning, for work that is done before tuning pays.
    #[must_use]
    pub fn untuned(&self) -> Self {
        Self { autotune: false, ..self.clone() }
    }
}

/// What several devices do with the fine-tunings and probes of a run. The numbers are the same to rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Job-parallel where there are at least as many jobs as devices.
    Auto,
    /// All devices train one job together, one job after the other.
    DataParallel,
    /// Each device trains a job of its own, its gradients accumulated to the same effective batch.
    JobParallel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    Auto,
    Cpu,
    Cuda,
    Vulkan,
    Wgpu,
}

/// A number of threads; no part of a run's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    Auto,
    Count(usize),
}

/// The settings all three stages share.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingPlan {
    pub epochs: usize,
    pub warmup_epochs: usize,
    /// Images a device takes in one micro-step.
    pub batch_size: usize,
    pub accum_iter: usize,
    /// `batch_size * accum_iter * world_size`.
    pub effective_batch_size: usize,
    /// The effective batch of the result that the recipe repeats, where it says so.
    pub published_batch_size: Option<usize>,
    /// The rate in use: given, or `blr * effective_batch_size / 256`.
    pub lr: f64,
    pub min_lr: f64,
    pub weight_decay: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct PretrainPlan {
    pub training: TrainingPlan,
    pub mask_ratio: f64,
    pub norm_pix_loss: bool,
    /// Somebody's checkpoint to go on from, with its optimizer state.
    pub resume: Option<PathBuf>,
    /// Ascending, without doubles; the last one is `training.epochs`.
    pub checkpoint_epochs: Vec<usize>,
    pub augment: AugmentPlan,
}

#[derive(Debug, Clone, PartialEq)]
pub struct FinetunePlan {
    pub training: TrainingPlan,
    /// One job each: `Checkpoints` and `Last` are already spelled out as epochs.
    pub from: Vec<Source>,
    pub layer_decay: f64,
    /// Last blocks that are trained; the model's depth is everything, embeddings included.
    pub trained_blocks: usize,
    pub drop_path: f64,
    /// Largest global norm of the gradient; `None` does not clip.
    pub clip_grad: Option<f64>,
    pub smoothing: f64,
    pub mixup: Option<MixupPlan>,
    pub erasing: Option<ErasingPlan>,
    pub rand_augment: Option<RandAugmentPlan>,
    pub global_pool: bool,
    pub augment: AugmentPlan,
}

#[derive(Debug, Clone, PartialEq)]
pub struct LinprobePlan {
    pub training: TrainingPlan,
    pub from: Vec<Source>,
    pub global_pool: bool,
    pub augment: AugmentPlan,
}

/// What a fine-tuning or a probe starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The official random initialisation.
    Scratch,
    /// A checkpoint of this run's own pre-training.
    Epoch(usize),
    /// Somebody's checkpoint.
    File(PathBuf),
}

impl fmt::Display for Source {
    /// As a recipe's `from` has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scratch => f.write_str("scratch"),
            Self::Epoch(epoch) => write!(f, "{epoch}"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Crop, flip and colour jitter.
#[derive(Debug, Clone, PartialEq)]
pub struct AugmentPlan {
    pub crop: CropMode,
    /// Of [`CropMode::Resized`]; `[1, 1]` is no crop.
    pub crop_scale: [f64; 2],
    pub hflip: bool,
    /// Each of brightness, contrast and saturation is multiplied by a factor in 1 ± this; 0 is off.
    pub color_jitter: f64,
    /// How often an epoch takes each image that it takes; 1 takes all of them once.
    pub aug_repeats: usize,
}

impl DataPlan {
    /// Pictures of three channels that belong to no data set, for a model of `input_size`.
    pub fn of_pictures(input_size: usize, mean: [f32; 3], std: [f32; 3]) -> Self {
        Self {
            format: Format::ImageFolder,
            path: PathBuf::new(),
            input_size,
            in_chans: 3,
            mean: mean.to_vec(),
            std: std.to_vec(),
            class_map: None,
            workers: Threads::Auto,
            decode: Decode::Exact,
            max_bad_fraction: 0.0,
            promised: Promised::default(),
        }
    }
}

/// How JPEG files are decoded for training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Decode {
    /// To the pixels that Pillow and torchvision give.
    Exact,
    /// In 1/8, 1/4 or 1/2 of the size where the crop is large enough; elsewhere exactly.
    Fast,
}

/// How a training image is cut out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CropMode {
    /// RandomResizedCrop.
    Resized,
    /// A random square at one scale, evaluation's.
    Fixed,
}

/// Mixup and CutMix as timm mixes them.
#[derive(Debug, Clone, PartialEq)]
pub struct MixupPlan {
    /// Parameter of the Beta distribution of mixup's lambda; 0 is off.
    pub mixup: f64,
    /// The same for CutMix; 0 is off.
    pub cutmix: f64,
    /// Smallest and largest share of the side that CutMix's box takes; overrides `cutmix`'s lambda.
    pub cutmix_minmax: Option<[f64; 2]>,
    pub mixup_prob: f64,
    pub mixup_switch_prob: f64,
    pub mixup_mode: MixupMode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MixupMode {
    Batch,
    Pair,
    Elem,
}

/// Random erasing as timm does it, on normalized pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct ErasingPlan {
    /// Probability that an image is erased.
    pub reprob: f64,
    pub remode: EraseMode,
    /// Most boxes in one image.
    pub recount: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EraseMode {
    /// Zeros.
    Const,
    /// One normal colour for the whole box.
    Rand,
    /// A normal value for each pixel and channel.
    Pixel,
}
