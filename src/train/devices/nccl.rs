//! All-reduce between GPUs, with NCCL through Burn's distributed tensors.

use crate::infer::host;
use crate::train::error::TrainError;
use burn::tensor::distributed::{CollectiveTensor, ReduceOperation, all_reduce};
use burn::tensor::{Device, Tensor};

/// The gradients of a bucket, copied into one tensor, and their lengths. The copy doubles their memory.
pub(crate) struct FlatBucket {
    values: Tensor<1>,
    lens: Vec<usize>,
}

/// A running all-reduce. Meanwhile, the GPUs can compute something else.
///
/// Dropping it waits until it has finished, because an abandoned all-reduce would block the next job. If another GPU never sends its
/// part, this thread waits forever. `DeviceThreads` then gives up on it.
pub(crate) struct PendingAllReduce {
    values: Option<CollectiveTensor<1>>,
    lens: Vec<usize>,
}

impl FlatBucket {
    pub(crate) fn new(tensors: Vec<Tensor<1>>) -> Self {
        let lens = tensors.iter().map(|tensor| tensor.dims()[0]).collect();
        Self { values: Tensor::cat(tensors, 0), lens }
    }

    /// Waits until the device has computed the values. Fails if the device reports an error.
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        host(&self.values.clone().narrow(0, 0, 1), &[])?;
        Ok(())
    }

    /// Starts the all-reduce over `devices`. It begins when the device has computed the values.
    ///
    /// Every rank must send the same number of values. Otherwise, the GPUs wait for each other forever.
    pub(crate) fn start_reduce(self, devices: &[Device]) -> PendingAllReduce {
        let values = all_reduce(self.values, ReduceOperation::Sum, devices.to_vec());
        PendingAllReduce { values: Some(values), lens: self.lens }
    }
}

impl PendingAllReduce {
    /// Returns the sums. The device waits for them before its next work.
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
            // The error that caused this drop is reported elsewhere.
            let _ = host(&values.resolve().narrow(0, 0, 1), &[]);
        }
    }
}
