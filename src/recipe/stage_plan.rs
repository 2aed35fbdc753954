//! The settings of pre-training, fine-tuning and linear probing in a [`super::Plan`].

use std::fmt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plan::{AugmentPlan, ErasingPlan, MixupPlan};
use super::rand_augment::RandAugmentPlan;
use crate::shape::{MaeLoss, Masking, TrainedBlocks};

/// The settings that all three stages have.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingPlan {
    pub epochs: usize,
    pub warmup_epochs: usize,
    /// Images per device in one micro-step.
    pub batch_size: usize,
    pub accum_iter: usize,
    /// Images per optimizer update: `batch_size * accum_iter * world_size`.
    pub effective_batch_size: usize,
    /// Images per update in the published result that the recipe reproduces.
    ///
    /// `None` if the recipe does not state this number.
    pub published_batch_size: Option<usize>,
    /// Peak learning rate: `lr` of the recipe, or `blr * effective_batch_size / 256`.
    pub lr: f64,
    /// The recipe key that determines the peak learning rate: `"lr"` or `"blr"`.
    pub rate: &'static str,
    pub min_lr: f64,
    pub weight_decay: f64,
    /// Maximum number of updates per epoch that the stage may skip because of NaN or infinity.
    ///
    /// With `None`, the stage fails at the first NaN or infinity.
    pub skip_limit: Option<usize>,
}

/// What happens if the loss or a gradient is NaN or infinite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnNan {
    Stop,
    Skip,
}

#[derive(Debug, Clone, PartialEq)]
pub struct PretrainPlan {
    pub training: TrainingPlan,
    pub masking: Masking,
    pub loss: MaeLoss,
    pub start: PretrainStart,
    /// Whether to save the optimizer state with each checkpoint.
    pub keep_optimizer: bool,
    /// Prefix of the tensor names in the checkpoint of `start`, such as `model`; `None` if not set.
    pub prefix: Option<String>,
    /// Epochs after which the run keeps a checkpoint, in ascending order. Includes the last epoch.
    pub checkpoint_epochs: Vec<usize>,
    pub augment: AugmentPlan,
}

/// The state that a pre-training starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PretrainStart {
    /// Random weights.
    Random,
    /// Only the weights of the checkpoint at this path; optimizer and schedule are new.
    Weights(PathBuf),
    /// The weights, the optimizer state and the epoch of the checkpoint at this path.
    Resume(PathBuf),
}

impl PretrainStart {
    /// Returns the checkpoint file or folder; `None` for random weights.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Random => None,
            Self::Weights(path) | Self::Resume(path) => Some(path),
        }
    }

    /// Returns whether this is [`Self::Resume`].
    pub fn resumes(&self) -> bool {
        matches!(self, Self::Resume(_))
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct FinetunePlan {
    pub training: TrainingPlan,
    /// The starting weights of each job. Words such as "checkpoints" are already replaced by epochs.
    pub from: Vec<Source>,
    /// Prefix of the tensor names in the checkpoints of `from`, such as `teacher.backbone`; `None` if not set.
    pub prefix: Option<String>,
    /// AdamW's `beta_1` and `beta_2`.
    pub betas: [f64; 2],
    /// Decay of the exponential moving average (EMA) of the weights; `None` disables EMA.
    ///
    /// With EMA, the run evaluates and keeps the averaged weights.
    pub ema: Option<f64>,
    pub layer_decay: f64,
    /// The encoder blocks to train, counted from the last block.
    ///
    /// If these are all blocks, the run also trains the patch embedding.
    pub trained_blocks: TrainedBlocks,
    pub drop_path: f64,
    /// Maximum norm of the gradient of all parameters together; `None` disables gradient clipping.
    pub clip_grad: Option<f64>,
    pub smoothing: f64,
    pub mixup: Option<MixupPlan>,
    pub erasing: Option<ErasingPlan>,
    pub rand_augment: Option<RandAugmentPlan>,
    pub global_pool: bool,
    pub augment: AugmentPlan,
}

impl FinetunePlan {
    /// Returns whether the fine-tuning trains all `depth` encoder blocks and the embeddings.
    pub fn trains_embeddings(&self, depth: usize) -> bool {
        matches!(self.trained_blocks, TrainedBlocks::Last(blocks) if blocks >= depth)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct LinprobePlan {
    pub training: TrainingPlan,
    pub from: Vec<Source>,
    /// Prefix of the tensor names in the checkpoints of `from`, such as `teacher.backbone`; `None` if not set.
    pub prefix: Option<String>,
    pub global_pool: bool,
    pub augment: AugmentPlan,
}

/// The weights that a fine-tuning or a probe starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Random weights, initialised as in the official code.
    Scratch,
    /// The starting weights of the same run's pre-training: the path in `pretrain.from`.
    Start(PathBuf),
    /// The checkpoint that the pre-training of the same run keeps after this epoch.
    Epoch(usize),
    /// The checkpoint file or folder at this path.
    File(PathBuf),
}

impl fmt::Display for Source {
    /// Writes the source as in a recipe: `scratch`, `start`, an epoch or a path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scratch => f.write_str("scratch"),
            Self::Start(_) => f.write_str("start"),
            Self::Epoch(epoch) => write!(f, "{epoch}"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}
