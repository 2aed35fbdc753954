//! Optimization: learning rate schedule, parameter groups, gradient clipping, AdamW and LARS.
//!
//! [`Optimizer`] works on flattened parameters by name and index, so all stages use it. The optimizer state is stored
//! under parameter names. Burn would store the state under random ids, and silently reset a missing state.

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
