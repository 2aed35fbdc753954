//! What can go wrong when a network computes, by what the reader can do about it.

use crate::checkpoint::CheckpointError;
use crate::data::DataError;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// An inference that failed.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The recipe or the checkpoint asks for what cannot be computed.
    #[error("{problem}\nhint: {hint}")]
    Setting { problem: String, hint: String },
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// A device that failed.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error(
        "the computation failed: {0}\nhint: this is a fault of the program, not of the recipe; please report it with this message"
    )]
    Crashed(String),
    #[error(
        "the device is out of memory: {0}\n\
         hint: halve `batch_size` and double `accum_iter` (the same effective batch), or set runtime.gradient_checkpointing = \
         true; `mae plan` estimates what a step takes"
    )]
    OutOfMemory(String),
}

impl DeviceError {
    /// Does `work`; a panic in it is an error.
    pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Self> {
        catch_unwind(AssertUnwindSafe(work)).map_err(|panic| Self::from_panic(&*panic))
    }

    fn from_panic(panic: &(dyn Any + Send)) -> Self {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned());
        Self::from_driver(text.unwrap_or_else(|| "a worker thread panicked".to_owned()))
    }

    /// Tells what a device or its driver says, by what can be done about it.
    pub fn from_driver(text: String) -> Self {
        let low = text.to_lowercase().replace('-', " ");
        if ["out of memory", "outofmemory", "out of device memory", "t allocate"]
            .iter()
            .any(|w| low.contains(w))
        {
            // What follows is a backtrace.
            return Self::OutOfMemory(text.lines().next().unwrap_or_default().to_owned());
        }
        Self::Crashed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::DeviceError;

    #[test]
    fn a_full_device_is_told_from_a_fault_of_the_program() {
        let full = "An out-of-memory error happened during launch\nBacktrace\n  0: main";
        let error = DeviceError::from_driver(full.to_owned());
        assert!(matches!(&error, DeviceError::OutOfMemory(text) if !text.contains("Backtrace")));
        assert!(error.to_string().contains("double `accum_iter`"), "{error}");
        let other = DeviceError::from_driver("a shape does not fit".to_owned());
        assert!(matches!(other, DeviceError::Crashed(_)));
    }
}
