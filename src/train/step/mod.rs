//! The training loop, and what a step of it is made of: shards, gradients, resume state, timer.

mod gradient;
mod job;
mod rows;
mod shards;
mod state;
mod step_timer;
mod training_loop;

pub use gradient::GradientSum;
pub use job::{JobContext, JobDir, JobEnd, RowWritten};
pub(crate) use shards::backward_in_shards;
pub(crate) use state::{Progress, TrainingState, tensor_file};
pub use step_timer::{StepPart, StepTimer};
pub(crate) use training_loop::{FitPlan, fit, publish};
