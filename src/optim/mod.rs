//! Optimization: learning rate schedule, parameter groups, gradient clipping, AdamW and LARS.
//!
//! [`Optimizer`] works on flattened parameters by name and index, so all stages use it. Burn's `AdamW` computes the updates, but its
//! state is stored here by parameter name. Burn's own records use random ids, and a missing state would silently be reset.

mod clip;
mod groups;
mod lars;
mod optimizer;
mod schedule;

pub use clip::{clip_by_global_norm, global_norm};
pub use groups::{ParamGroup, finetune_group, layer_id, pretrain_group, probe_group};
pub use lars::TRUST_COEFFICIENT;
pub use optimizer::{Optimizer, Rule, StateError};
pub use schedule::LrSchedule;
