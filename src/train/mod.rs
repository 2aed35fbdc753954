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
mod dims;
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

pub use classifier::Classifier;
pub use classifier::evaluate;
pub use device::Backend as DeviceBackend;
pub use device::ChosenDevice;
pub use device::choose;
pub use device::count_gpus;
pub use error::TrainError;
pub use evaluate::score;
pub use events::Event;
pub use events::Observer;
pub use faults::report_fault;
pub use fit::End;
pub use fit::Hands;
pub use fit::JobDir;
pub use fit::RowWritten;
pub use gradient::GradientSum;
pub use imported::check as check_source;
pub use imported::check_resume;
pub use imported::load_optimizer;
pub use jobs::Work;
pub use jobs::optimizer;
pub use linprobe::official_name as official_probe_name;
pub use loaders::train_loader;
pub use ranks::Rank;
pub use ranks::Team;
pub use reconstruct::Autoencoder;
pub use reconstruct::Masking;
pub use reconstruct::Subject;
pub use reconstruct::reconstructions;
pub use replicas::Replicas;
pub use replicas::SHARD_IMAGES;
pub use runner::RunOptions;
pub use runner::Runner;
pub use schedule::Bench;
pub use stage::Evaluated;
pub use stage::Metrics;
pub use stage::Stage;
pub use stop::Stop;
pub use targets::soft_cross_entropy;
pub use targets::soft_targets;
pub use watch::Part;
pub use watch::Watch;
