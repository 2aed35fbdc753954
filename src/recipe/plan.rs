//! The [`Plan`]: all settings of a run, including defaults and derived values. Only [`super::resolve`] creates plans.
//!
//! Lower-level modules receive only the numbers that they use, not the whole plan.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::measures::{KnnPlan, TestClasses, TestSet};
use super::network::{LATENCY_S, Network};
use super::stage_plan::{FinetunePlan, LinprobePlan, PretrainPlan};
use crate::shape::{ImageSize, Precision};

/// The settings of one run, with all defaults and derived values.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Folder of the run inside `runs/`, such as `mae` or, in a sweep, `mae/seed=1`.
    pub name: String,
    /// Each swept key with this run's value, as (dotted key, TOML text).
    pub swept: Vec<(String, String)>,
    pub seed: u64,
    pub data: DataPlan,
    pub model: ModelPlan,
    pub runtime: RuntimePlan,
    /// Time between two saves within an epoch; `None` saves only after each epoch.
    pub save_every: Option<Duration>,
    pub pretrain: Option<PretrainPlan>,
    pub finetune: Option<FinetunePlan>,
    pub linprobe: Option<LinprobePlan>,
    pub knn: Option<KnnPlan>,
    /// Test sets on which every fine-tuned checkpoint is measured, in the order of the recipe.
    pub robustness: Vec<TestSet>,
    /// Which classes count as predictions on the test sets in `robustness`.
    pub robustness_classes: TestClasses,
}

/// The data set, and the size and normalization of the images.
#[derive(Debug, Clone, PartialEq)]
pub struct DataPlan {
    pub format: Format,
    /// Folder of the data set; empty for data without files.
    pub path: PathBuf,
    /// Height and width of the model's input images, in pixels.
    pub input_size: ImageSize,
    pub in_chans: usize,
    /// `[lo, hi]`: the numbers in image files that become 0 and 1. `None` reads 8-bit values as Pillow does.
    pub range: Option<[f64; 2]>,
    /// Mean of each channel, for pixel values from 0 to 1.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, for pixel values from 0 to 1; never zero.
    pub std: Vec<f32>,
    /// File with one class name per line; `None` if folder names are the class names.
    pub class_map: Option<PathBuf>,
    /// Where the image is: file endings in tar shards or columns in parquet files, such as `depth.png`.
    ///
    /// In lower case. Empty if the recipe does not set `image_key`.
    pub image_key: Vec<String>,
    pub workers: Threads,
    /// How training decodes JPEG files.
    pub decode: Decode,
    /// Maximum fraction of training files that may be unreadable.
    pub max_bad_fraction: f64,
    pub bad_val: BadVal,
    /// Numbers of classes and images that the recipe states.
    ///
    /// `mae plan` uses these numbers if the data is missing.
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

/// Numbers of classes and images that the recipe states; `None` for a missing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Promised {
    pub num_classes: Option<usize>,
    pub train_images: Option<usize>,
    pub val_images: Option<usize>,
}

/// Numbers of classes and images of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataFacts {
    pub num_classes: usize,
    pub train_images: usize,
    pub val_images: usize,
}

/// Dimensions of the encoder and the decoder.
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
    /// Whether the encoder gets mask tokens instead of the hidden patches during pre-training.
    pub encoder_mask_token: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimePlan {
    pub device: DeviceKind,
    /// Number of devices per host.
    pub devices: usize,
    /// Number of hosts that train together. Each has one process and the same number of devices.
    pub hosts: usize,
    /// Bandwidth of the network between hosts, in Mbit/s.
    pub link_mbit: u64,
    pub precision: Precision,
    /// Whether to compare one training step on the GPU with the CPU before each stage.
    pub verify_device: bool,
    /// Whether to measure GPU kernels for bf16 matrix products and use the fastest.
    pub autotune: bool,
    /// How several devices share the fine-tuning and linear-probe jobs.
    pub schedule: Schedule,
    /// Whether to recompute activations in the backward pass, which saves memory.
    pub gradient_checkpointing: bool,
    pub threads: Threads,
}

impl RuntimePlan {
    /// Returns the number of devices of all hosts together.
    pub fn world_size(&self) -> usize {
        self.devices * self.hosts
    }

    /// Returns the bandwidth and latency of the network between `hosts` hosts.
    pub fn network(&self, hosts: usize) -> Network {
        let gbit = self.link_mbit as f64 / 1e3;
        Network { hosts, gbit, latency_s: LATENCY_S }
    }

    /// Returns the same settings without autotuning.
    #[must_use]
    pub fn untuned(&self) -> Self {
        Self { autotune: false, ..self.clone() }
    }
}

/// How the devices of all hosts share the fine-tunings and probes of a run. Results are the same up to rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// "job-parallel" if there are at least as many jobs as devices, otherwise "data-parallel".
    Auto,
    /// All devices train each job together, one job after the other.
    DataParallel,
    /// Each device trains its own job. Gradient accumulation keeps the effective batch size.
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

/// A number of threads: automatic or fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    Auto,
    Count(usize),
}

/// Settings of the random crop, flip and colour jitter of the training images.
#[derive(Debug, Clone, PartialEq)]
pub struct AugmentPlan {
    pub crop: CropMode,
    /// Smallest and largest area of the random crop, as fractions of the image area.
    ///
    /// `[1, 1]` keeps the whole image. Used only with [`CropMode::Resized`].
    pub crop_scale: [f64; 2],
    pub hflip: bool,
    /// Strength of the colour jitter; 0 disables colour jitter.
    ///
    /// The factors for brightness, contrast and saturation are random numbers within 1 ± this value.
    pub color_jitter: f64,
    /// How many times an epoch uses each image (repeated augmentation).
    ///
    /// The length of an epoch does not change, so an epoch has fewer different images.
    pub aug_repeats: usize,
}

impl DataPlan {
    /// Returns settings for evaluating RGB images without a data set.
    pub fn of_pictures(input_size: impl Into<ImageSize>, mean: [f32; 3], std: [f32; 3]) -> Self {
        Self {
            format: Format::ImageFolder,
            path: PathBuf::new(),
            input_size: input_size.into(),
            in_chans: 3,
            range: None,
            mean: mean.to_vec(),
            std: std.to_vec(),
            class_map: None,
            image_key: Vec::new(),
            workers: Threads::Auto,
            decode: Decode::Exact,
            max_bad_fraction: 0.0,
            bad_val: BadVal::Stop,
            promised: Promised::default(),
        }
    }
}

/// What happens if validation images are unreadable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BadVal {
    /// The run stops before its first job and lists the unreadable images.
    Stop,
    /// The run leaves unreadable images out of every accuracy.
    Skip,
}

/// How JPEG files are decoded for training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Decode {
    /// Returns the same pixels as Pillow and torchvision.
    Exact,
    /// Decodes an image at 1/8, 1/4 or 1/2 of the size if the crop is large enough; otherwise decodes exactly.
    Fast,
}

/// How a training image is cropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CropMode {
    /// torchvision's RandomResizedCrop.
    Resized,
    /// Resizes the short side as in evaluation, then crops a random region of size `input_size`.
    Fixed,
}

/// Settings of mixup and CutMix, as in timm.
#[derive(Debug, Clone, PartialEq)]
pub struct MixupPlan {
    /// Alpha of mixup's Beta distribution; 0 disables mixup.
    pub mixup: f64,
    /// Alpha of CutMix's Beta distribution; 0 disables CutMix.
    pub cutmix: f64,
    /// Smallest and largest side of CutMix's box, as fractions of the image side.
    ///
    /// If set, `cutmix` is ignored.
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

/// Settings of random erasing, as in timm.
#[derive(Debug, Clone, PartialEq)]
pub struct ErasingPlan {
    /// Probability that a part of an image is erased.
    pub reprob: f64,
    pub remode: EraseMode,
    /// Maximum number of erased boxes per image.
    pub recount: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EraseMode {
    /// Fills the box with zeros.
    Const,
    /// Fills the box with one normally distributed colour.
    Rand,
    /// Fills the box with a normally distributed value for each pixel and channel.
    Pixel,
}
