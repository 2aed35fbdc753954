//! Training: the stages, the step loop that runs them, and the devices they run on.
//!
//! A step splits the micro-batch into shards, runs each forward and backward on a replica (the same parameters, forked),
//! adds the gradients in shard order, then over the devices, and updates. On the CPU a shard is a fixed number of images and
//! replicas are worker threads, so the result does not depend on how many there are.
//!
//! Nothing here prints or parses arguments: [`Event`]s tell what happens, [`StopFlag`](crate::infer::StopFlag) tells it to end.

mod devices;
mod error;
mod events;
mod imported;
mod jobs;
mod loaders;
mod stages;
mod step;

pub use devices::{Backend as DeviceBackend, ChosenDevice, Rank, choose, count_gpus};
pub(crate) use devices::{
    DeviceCheck, DeviceThreads, TaskCoupling, check_cpu_memory, check_device, check_memory,
    check_stages, first_error, on_every_rank,
};
pub use error::TrainError;
pub use events::{Event, Observer};
pub use imported::{check as check_source, check_resume, load_optimizer};
pub(crate) use jobs::source_file;
pub use jobs::{RunContext, optimizer};
pub use loaders::train_loader;
pub use step::{JobContext, JobDir, JobEnd, RankContext, RowWritten, StepPart, StepTimer};
