//! Current memory and peak memory.

use crate::train::{ChosenDevice, DeviceBackend};
use std::fs;

/// Returns the peak memory of the first GPU in bytes. On the CPU, returns the peak memory of this process.
pub(super) fn peak(device: &ChosenDevice) -> Option<u64> {
    if device.backend == DeviceBackend::Cpu {
        return status("VmHWM:");
    }
    let pools = device.device.memory_pool_report()?;
    let dynamic: u64 = pools.iter().map(|pool| pool.page_size * pool.pages_peak).sum();
    let reserved = device.device.memory_pool_usage().map_or(0, |usage| usage.bytes_reserved);
    Some(dynamic.max(reserved))
}

/// Returns the resident memory of this process in bytes; `None` except on Linux.
pub(super) fn of_process() -> Option<u64> {
    status("VmRSS:")
}

/// Returns the entry `name` of `/proc/self/status` in bytes.
fn status(name: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}
