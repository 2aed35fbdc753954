//! All-reduce between GPUs with NCCL.

use crate::infer::host;
use crate::train::error::TrainError;
use burn::tensor::distributed::{CollectiveTensor, ReduceOperation, all_reduce};
use burn::tensor::{Device, Tensor};

/// Gradients copied into one flat tensor.
pub(crate) struct FlatBucket {
    values: Tensor<1>,
    lens: Vec<usize>,
}

/// An all-reduce that is still running. The GPU can compute at the same time.
///
/// Dropping this value waits for the all-reduce. An unfinished all-reduce would block the next job.
pub(crate) struct PendingAllReduce {
    values: Option<CollectiveTensor<1>>,
    lens: Vec<usize>,
}

impl FlatBucket {
    pub(crate) fn new(tensors: Vec<Tensor<1>>) -> Self {
        let lens = tensors.iter().map(|tensor| tensor.dims()[0]).collect();
        Self { values: Tensor::cat(tensors, 0), lens }
    }

    /// Waits until the device has computed the gradients. Fails if the device reports an error.
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        host(&self.values.clone().narrow(0, 0, 1), &[])?;
        Ok(())
    }

    /// Starts the all-reduce of this bucket over `devices`.
    ///
    /// Every rank must start with the same number of values. Otherwise, all GPUs wait forever.
    pub(crate) fn start_reduce(self, devices: &[Device]) -> PendingAllReduce {
        let values = all_reduce(self.values, ReduceOperation::Sum, devices.to_vec());
        PendingAllReduce { values: Some(values), lens: self.lens }
    }
}

impl PendingAllReduce {
    /// Returns the gradient sums. The device waits for the all-reduce, but this function does not.
    pub(crate) fn finish(mut self) -> Vec<Tensor<1>> {
        let values = self.values.take().expect("`finish` consumes the all-reduce").resolve();
        let mut start = 0;
        let sums = self.lens.iter().map(|len| {
            start += len;
            values.clone().narrow(0, start - len, *len)
        });
        sums.collect()
    }
}

impl Drop for PendingAllReduce {
    fn drop(&mut self) {
        if let Some(values) = self.values.take() {
            // The error that caused the drop is reported elsewhere.
            let _ = host(&values.resolve().narrow(0, 0, 1), &[]);
        }
    }
}
