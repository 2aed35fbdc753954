//! Errors of inference.

use crate::checkpoint::CheckpointError;
use crate::data::DataError;
use crate::durable;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

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
    /// A GPU's compiler rejects a kernel. `file` contains the kernel's source.
    #[error(
        "cannot compute: the GPU's compiler rejects a kernel: {errors}{}\n\
         hint: check that the CUDA toolkit or the graphics driver is complete and up to date (docs/gpu.md), or set \
         `runtime.device = \"cpu\"`",
        in_file(file.as_deref())
    )]
    Kernel { errors: String, file: Option<PathBuf> },
}

fn in_file(file: Option<&Path>) -> String {
    file.map_or_else(String::new, |path| {
        format!("\nthe source of the kernel is in {}", path.display())
    })
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
        Self::of_kernel(&text).unwrap_or(Self::Crashed(text))
    }

    /// Returns the error for a message that contains the log of a GPU compiler and the source of a kernel.
    ///
    /// The source goes to a temporary file, because it has hundreds of lines.
    fn of_kernel(text: &str) -> Option<Self> {
        // A message within another message has escaped line breaks.
        let text = if text.contains("\\n") { text.replace("\\n", "\n") } else { text.to_owned() };
        let (_, log) = text.split_once("[Compilation Error]")?;
        let (log, source) = log.split_once("[Source]").unwrap_or((log, ""));
        let lines = log.lines().map(str::trim).filter(|line| !line.is_empty());
        let errors = lines.take(3).collect::<Vec<_>>().join("\n  ");
        let path = std::env::temp_dir().join(format!("mae-kernel-{}.cu", std::process::id()));
        let file = (!source.is_empty() && durable::write(&path, source.trim().as_bytes()).is_ok())
            .then_some(path);
        Some(Self::Kernel { errors, file })
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
        let log = "failed: [Compilation Error]\\n  default(3): error: x\\n\\n  2 errors\\n[Source]\\n__global__ a";
        let DeviceError::Kernel { errors, file: Some(path) } =
            DeviceError::from_driver(log.to_owned())
        else {
            panic!("the log of a compiler");
        };
        assert_eq!(errors, "default(3): error: x\n  2 errors");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "__global__ a");
        std::fs::remove_file(path).unwrap();
        let other = DeviceError::from_driver("a shape does not fit".to_owned());
        assert!(matches!(other, DeviceError::Crashed(_)));
    }
}
