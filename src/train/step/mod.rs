//! The training loop, and what a step of it is made of: shards, gradients, resume state, timer.

mod gradient;
mod job;
mod rows;
mod shards;
mod state;
mod step_timer;
mod training_loop;

pub use gradient::GradientSum;
pub(crate) use job::job_path;
pub use job::{End, Hands, JobDir, RowWritten};
pub(crate) use shards::backward_in_shards;
pub(crate) use state::{Place, State, tensor_file};
pub use step_timer::{Part, Watch};
pub(crate) use training_loop::{FitPlan, fit, publish};
