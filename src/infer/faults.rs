//! Device errors that the driver only writes to its log. Such an error stops the run.
//!
//! Most operations do not return an error if a kernel fails. So a reader of the log reports the error to this module.

use super::error::DeviceError;
use std::sync::{Mutex, PoisonError};

static FAULT: Mutex<Option<String>> = Mutex::new(None);

/// Records an error message of the driver. Keeps only the first message.
pub fn report_fault(text: String) {
    FAULT.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
}

/// Forgets the recorded error message, before the next run of a sweep.
///
/// Jobs that run at the same time share one message, because the driver's log does not name the job.
pub fn forget_faults() {
    FAULT.lock().unwrap_or_else(PoisonError::into_inner).take();
}

/// Fails if [`report_fault`] has recorded a message.
pub fn check_faults() -> Result<(), DeviceError> {
    match &*FAULT.lock().unwrap_or_else(PoisonError::into_inner) {
        None => Ok(()),
        Some(text) => Err(DeviceError::from_driver(text.clone())),
    }
}
