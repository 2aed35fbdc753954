//! What turns gradients into an update: the schedule, the parameter groups, the rules.
//!
//! Works on flattened parameters by name and index, never on a particular network, so every stage
//! uses the same [`Optimizer`]. Burn's `AdamW` does the arithmetic; its state lives here, keyed by
//! parameter name, because Burn's own records are keyed by a random id and silently start afresh
//! where a state is missing.

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
