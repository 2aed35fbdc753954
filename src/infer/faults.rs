//! Device errors that the driver only logs. The log reader reports them here, and they stop the run.
//!
//! If a kernel fails to launch, only reading the output of this kernel returns an error. Other operations do not.

use super::error::DeviceError;
use std::sync::{Mutex, PoisonError};

static FAULT: Mutex<Option<String>> = Mutex::new(None);

/// Records an error message of a driver. Only the first message is kept.
pub fn report_fault(text: String) {
    FAULT.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
}

/// Clears the recorded error message, so that it does not stop the next training of a sweep.
///
/// Jobs that run at the same time share one message, because a log message does not name its job.
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
