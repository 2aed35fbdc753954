//! Device errors that the driver only logs. Such an error stops the run.
//!
//! Most operations do not return an error for a failed kernel. So the log reader reports the error to this module.

use super::error::DeviceError;
use std::sync::{Mutex, PoisonError};

static FAULT: Mutex<Option<String>> = Mutex::new(None);

/// Records a driver's error message. Only the first message is kept.
pub fn report_fault(text: String) {
    FAULT.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
}

/// Clears the recorded error message, before the next run of a sweep.
///
/// Parallel jobs share one message, because a log message does not name its job.
pub fn forget_faults() {
    FAULT.lock().unwrap_or_else(PoisonError::into_inner).take();
}

/// Fails if [`report_fault`] has recorded an error message.
pub fn check_faults() -> Result<(), DeviceError> {
    match &*FAULT.lock().unwrap_or_else(PoisonError::into_inner) {
        None => Ok(()),
        Some(text) => Err(DeviceError::from_driver(text.clone())),
    }
}
