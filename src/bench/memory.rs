//! How much memory is held, and was at most.

use crate::train::{ChosenDevice, DeviceBackend};
use std::fs;

/// Gives the bytes held at most so far: the first GPU's pools, or this process's memory. `None` where nobody counts.
pub(super) fn peak(device: &ChosenDevice) -> Option<u64> {
    if device.backend == DeviceBackend::Cpu {
        return status("VmHWM:");
    }
    let pools = device.device.memory_pool_report()?;
    let dynamic: u64 = pools.iter().map(|pool| pool.page_size * pool.pages_peak).sum();
    let reserved = device.device.memory_pool_usage().map_or(0, |usage| usage.bytes_reserved);
    Some(dynamic.max(reserved))
}

/// Gives the bytes that this process holds now.
pub(super) fn of_process() -> Option<u64> {
    status("VmRSS:")
}

/// What Linux says of this process.
fn status(name: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}
