//! Training: the stages, the training loop, and the devices.
//!
//! The loop splits each micro-batch into shards. A replica of the model runs the forward and backward pass of each
//! shard. The loop sums the gradients of all shards and all devices, and then updates the parameters. On the CPU, a
//! shard has a fixed number of images. So the result does not depend on the number of threads.
//!
//! This module does not print and does not parse arguments. It reports [`Event`]s, and it stops a job when the
//! [`StopFlag`](crate::infer::StopFlag) is set.
//!
//! Each submodule uses only the submodules before it in this list: `devices`, `step`, `stages`, `jobs`.

mod devices;
mod error;
mod events;
mod imported;
mod jobs;
mod loaders;
mod missing_pictures;
mod stages;
mod step;

pub use devices::{Backend as DeviceBackend, ChosenDevice, Hosts, Rank, choose, count_gpus};
pub(crate) use devices::{
    DeviceCheck, DeviceThreads, TaskCoupling, check_device, check_memory, check_stages,
    first_error, on_every_rank,
};
pub use error::{HostCause, TrainError};
pub use events::{Event, Observer};
pub use imported::{check as check_source, check_resume, load_optimizer};
pub(crate) use jobs::source_file;
pub use jobs::{RunContext, optimizer};
pub use loaders::train_loader;
pub use step::{JobContext, JobDir, JobEnd, RankContext, RowWritten, StepPart, StepTimer};
