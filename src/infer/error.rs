//! Errors of inference.

use crate::checkpoint::CheckpointError;
use crate::data::DataError;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// An error while mae loads or runs a model.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A setting of the recipe or the checkpoint is invalid.
    #[error("{problem}\nhint: {hint}")]
    Setting { problem: String, hint: String },
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// An error of a device or its driver.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error(
        "cannot compute: {0}\nhint: report this message as a bug in mae; your recipe is not the cause"
    )]
    Crashed(String),
    #[error(
        "cannot compute: the device is out of memory: {0}\n\
         hint: halve `batch_size` and double `accum_iter` to keep the effective batch size, or set \
         `runtime.gradient_checkpointing = true`. `mae plan` estimates the memory of a step"
    )]
    OutOfMemory(String),
}

impl DeviceError {
    /// Runs `work`, and returns a panic as a [`DeviceError`].
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

    /// Converts an error message of the driver.
    pub fn from_driver(text: String) -> Self {
        let low = text.to_lowercase().replace('-', " ");
        if ["out of memory", "outofmemory", "out of device memory", "t allocate"]
            .iter()
            .any(|w| low.contains(w))
        {
            // The lines after the first are a backtrace.
            return Self::OutOfMemory(text.lines().next().unwrap_or_default().to_owned());
        }
        Self::Crashed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::DeviceError;

    #[test]
    fn out_of_memory_is_distinguished_from_a_bug() {
        let full = "An out-of-memory error happened during launch\nBacktrace\n  0: main";
        let error = DeviceError::from_driver(full.to_owned());
        assert!(matches!(&error, DeviceError::OutOfMemory(text) if !text.contains("Backtrace")));
        assert!(error.to_string().contains("double `accum_iter`"), "{error}");
        let other = DeviceError::from_driver("a shape does not fit".to_owned());
        assert!(matches!(other, DeviceError::Crashed(_)));
    }
}
