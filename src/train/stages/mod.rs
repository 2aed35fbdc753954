//! The three stages: pre-training, fine-tuning, linear probing.

mod finetune;
mod gallery;
mod linprobe;
mod pretrain;
mod targets;

pub(super) use finetune::FinetuneStage;
pub(super) use gallery::Gallery;
pub(super) use linprobe::LinprobeStage;
pub(super) use pretrain::PretrainStage;
