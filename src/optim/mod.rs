//! Optimization: learning rate schedule, parameter groups, gradient clipping, AdamW and LARS.
//!
//! [`Optimizer`] works on flattened parameters with names, so all stages use it. Checkpoints store the optimizer state
//! under these names. Burn's optimizers would use random ids, and would start again without an error if a state is
//! missing.

mod clip;
mod gate;
mod groups;
mod lars;
mod optimizer;
mod schedule;
#[cfg(feature = "gpu")]
mod twelves;

pub use clip::{clip_by_global_norm, global_norm};
pub use gate::Gate;
pub use groups::{ParamGroup, finetune_group, layer_id, pretrain_group, probe_group};
pub use lars::TRUST_COEFFICIENT;
pub use optimizer::{Optimizer, Rule, StateError};
pub use schedule::LrSchedule;
