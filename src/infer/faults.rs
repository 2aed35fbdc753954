//! What a device's driver only logs: whoever reads the log reports it here, and the run ends with it.
//!
//! A kernel that was not launched leaves no trace in the numbers until somebody reads exactly its output.

use super::error::DeviceError;
use std::sync::{Mutex, PoisonError};

static FAULT: Mutex<Option<String>> = Mutex::new(None);

/// Notes that a device failed, in the words of its driver; the first one is kept.
pub fn report_fault(text: String) {
    FAULT.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
}

/// Forgets what failed: the next point of a sweep starts anew. Jobs that run side by side share a fault, as the log does not
/// say whose it was.
pub fn forget_faults() {
    FAULT.lock().unwrap_or_else(PoisonError::into_inner).take();
}

/// Fails if a device has failed.
pub fn check_faults() -> Result<(), DeviceError> {
    match &*FAULT.lock().unwrap_or_else(PoisonError::into_inner) {
        None => Ok(()),
        Some(text) => Err(DeviceError::from_driver(text.clone())),
    }
}
