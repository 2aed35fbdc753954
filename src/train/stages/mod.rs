//! The three stages: pre-training, fine-tuning, linear probing.

mod finetune;
mod linprobe;
mod pretrain;
mod stage;
mod targets;

pub(crate) use finetune::Finetune;
pub(crate) use linprobe::Linprobe;
pub(crate) use pretrain::Pretrain;
pub use stage::Stage;
pub use targets::soft_cross_entropy;
