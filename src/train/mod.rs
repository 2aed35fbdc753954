//! Training: one step loop (`fit`), three stages, devices and replicas, and the runner that does a recipe's jobs.
//!
//! A step splits the micro-batch into shards, runs each forward and backward on a replica (the same parameters, forked),
//! adds the gradients in shard order, then over the devices, and updates. On the CPU a shard is a fixed number of images and
//! replicas are worker threads, so the result does not depend on how many there are.
//!
//! Nothing here prints or parses arguments: [`Event`]s tell what happens, [`Stop`] tells it to end.

mod classifier;
mod crew;
#[cfg(feature = "cuda")]
mod cuda_libraries;
mod device;
mod error;
mod evaluate;
mod events;
mod faults;
mod finetune;
mod fit;
mod gallery;
mod gradient;
mod imported;
mod jobs;
#[cfg(feature = "gpu")]
mod kernel_cache;
mod linprobe;
mod loaders;
#[cfg(feature = "cuda")]
mod nccl;
mod pretrain;
mod ranks;
mod reconstruct;
mod replicas;
mod rows;
mod runner;
mod same_jobs;
mod schedule;
mod self_check;
mod stage;
mod state;
mod stop;
mod tables;
mod targets;
mod watch;

pub use classifier::{Classifier, evaluate};
pub use device::{Backend as DeviceBackend, ChosenDevice, choose, count_gpus};
pub use error::TrainError;
pub use evaluate::score;
pub use events::{Event, Observer};
pub use faults::report_fault;
pub use fit::{End, Hands, JobDir, RowWritten};
pub use gradient::GradientSum;
pub use imported::{check as check_source, check_resume, load_optimizer};
pub use jobs::{Work, optimizer};
pub use linprobe::official_name as official_probe_name;
pub use loaders::train_loader;
pub use ranks::{Rank, Team};
pub use reconstruct::{Autoencoder, Masking, Subject, reconstructions};
pub use replicas::{Replicas, SHARD_IMAGES};
pub use runner::{RunOptions, Runner};
pub use schedule::Bench;
pub use stage::{Evaluated, Metrics, Stage};
pub use stop::Stop;
pub use targets::soft_cross_entropy;
pub use watch::{Part, Watch};
