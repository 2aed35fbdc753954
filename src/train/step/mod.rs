//! The training loop, and the parts of a step: micro-batches, gradients, saved state, timer.

mod average;
mod fit_plan;
mod gradient;
mod job;
mod job_start;
mod loss_scale;
mod made_update;
mod micro_batch;
mod publish;
mod rows;
mod saves;
mod stage;
mod state;
mod state_writer;
mod step_timer;
mod training_loop;

pub(super) use fit_plan::FitPlan;
pub use job::{JobContext, JobDir, JobEnd, RankContext, RowWritten};
pub(super) use micro_batch::{MicroBatch, ShardLoss};
pub(super) use publish::publish;
pub(super) use rows::OnNanRule;
pub(super) use stage::Stage;
pub(super) use state::{Progress, TrainingState, tensor_file};
pub use step_timer::{StepPart, StepTimer};
pub(super) use training_loop::fit;
