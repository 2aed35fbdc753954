//! The three stages: pre-training, fine-tuning, linear probing.

mod finetune;
mod linprobe;
mod pretrain;
mod stage;
mod targets;

pub(crate) use finetune::FinetuneStage;
pub(crate) use linprobe::LinprobeStage;
pub(crate) use pretrain::PretrainStage;
pub use stage::Stage;
pub use targets::soft_cross_entropy;
