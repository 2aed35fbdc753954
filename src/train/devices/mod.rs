//! Devices: choice, checks, threads, ranks that train together, and hosts.

#[cfg(feature = "cuda")]
mod cuda_libraries;
#[cfg(feature = "cuda")]
mod cuda_toolkit;
mod device;
mod device_threads;
mod every_rank;
mod hosts;
#[cfg(feature = "gpu")]
mod kernel_cache;
mod memory;
#[cfg(feature = "cuda")]
mod nccl;
mod ranks;
mod reduce;
mod self_check;

pub use device::{Backend, ChosenDevice, choose, count_gpus};
pub(crate) use device_threads::{DeviceThreads, TaskCoupling};
pub(crate) use every_rank::{first_error, on_every_rank};
pub use hosts::Hosts;
pub(crate) use hosts::Wire;
pub(crate) use memory::check_memory;
#[cfg(test)]
pub(crate) use ranks::Link;
pub use ranks::Rank;
#[cfg(test)]
pub(crate) use ranks::tests::on_threads;
pub(crate) use reduce::{Bucket, PendingReduce};
pub(crate) use self_check::{DeviceCheck, check as check_device, check_stages};
