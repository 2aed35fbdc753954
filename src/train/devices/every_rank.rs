//! Runs one job on all devices, one rank per device.

use super::device::ChosenDevice;
use super::device_threads::{DeviceThreads, TaskCoupling};
use super::hosts::Hosts;
use super::ranks::Rank;
use crate::train::error::TrainError;
use std::sync::{Mutex, PoisonError};

/// Runs `work` on every device of this host. Returns the result of this host's first rank.
///
/// All hosts must call this function for the same job. Returns the error of another host if `work` fails there.
pub(crate) fn on_every_rank<T: Send + 'static>(
    device: &ChosenDevice,
    device_threads: &DeviceThreads,
    hosts: &Hosts,
    work: impl Fn(Rank, ChosenDevice) -> Result<T, TrainError> + Send + Sync + 'static,
) -> Result<T, TrainError> {
    let world = device.devices.len();
    let ranks = Rank::group(world, device.link(), hosts.clone());
    let ranks = Mutex::new(ranks.into_iter().map(Some).collect::<Vec<_>>());
    let device = device.clone();
    let ends = device_threads.all(world, TaskCoupling::Joined, move |index| {
        let rank = ranks.lock().unwrap_or_else(PoisonError::into_inner)[index].take();
        work(rank.expect("each thread takes its own rank"), device.of(index))
    });
    hosts.end_job(first_error(ends).map(|mut ends| ends.remove(0)))
}

/// Returns the results of all ranks, or one error if any rank failed.
///
/// Returns [`TrainError::OtherRank`] only if no rank has a different error.
pub(crate) fn first_error<T>(ends: Vec<Result<T, TrainError>>) -> Result<Vec<T>, TrainError> {
    let (mut all, mut failed) = (Vec::new(), None);
    for end in ends {
        match (end, &failed) {
            (Ok(end), _) => all.push(end),
            (Err(error), None | Some(TrainError::OtherRank)) => failed = Some(error),
            (Err(_), Some(_)) => {}
        }
    }
    failed.map_or(Ok(all), Err)
}
