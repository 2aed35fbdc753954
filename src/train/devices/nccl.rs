//! Adding up gradients from GPU to GPU, by NCCL through Burn's distributed tensors.

use crate::infer::host;
use crate::train::error::TrainError;
use burn::tensor::distributed::{CollectiveTensor, ReduceOperation, all_reduce};
use burn::tensor::{Device, Tensor};

/// Tensors in one piece, with the lengths to take them apart again. It takes their memory once more.
pub(crate) struct FlatBucket {
    values: Tensor<1>,
    lens: Vec<usize>,
}

/// What is added up over the GPUs, beside what they do otherwise.
///
/// It is not let go before it has arrived: a rank that gives up would leave it in the way of the next job. Where another GPU
/// does not send its own, it waits for ever, and whoever waits for this thread learns it.
pub(crate) struct PendingAllReduce {
    values: Option<CollectiveTensor<1>>,
    lens: Vec<usize>,
}

impl FlatBucket {
    pub(crate) fn new(tensors: Vec<Tensor<1>>) -> Self {
        let lens = tensors.iter().map(|tensor| tensor.dims()[0]).collect();
        Self { values: Tensor::cat(tensors, 0), lens }
    }

    /// Waits until it is computed; fails if it could not be.
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        host(&self.values.clone().narrow(0, 0, 1), &[])?;
        Ok(())
    }

    /// Begins to add it up over `devices` as soon as it is computed.
    ///
    /// Every rank must send as many values; one that does not keeps the others waiting on their GPUs for ever.
    pub(crate) fn start_reduce(self, devices: &[Device]) -> PendingAllReduce {
        let values = all_reduce(self.values, ReduceOperation::Sum, devices.to_vec());
        PendingAllReduce { values: Some(values), lens: self.lens }
    }
}

impl PendingAllReduce {
    /// Gives the sums, which the device's next work waits for.
    pub(crate) fn finish(mut self) -> Vec<Tensor<1>> {
        let values = self.values.take().expect("it is finished once").resolve();
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
            // Why nobody wants it any more is known elsewhere.
            let _ = host(&values.resolve().narrow(0, 0, 1), &[]);
        }
    }
}
