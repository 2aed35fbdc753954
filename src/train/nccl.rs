//! Adding up gradients from GPU to GPU, by NCCL through Burn's distributed tensors.

use super::TrainError;
use super::state::host;
use burn::tensor::Device;
use burn::tensor::Tensor;
use burn::tensor::distributed::ReduceOperation;
use burn::tensor::distributed::all_reduce;

/// Values that go in one message: large enough for the full rate of the links. All are under way together, so they take the
/// memory of the gradients once more.
const BUCKET: usize = 1 << 24;

/// Tensors joined to messages, with the lengths to take them apart again.
pub(super) struct Buckets(Vec<(Tensor<1>, Vec<usize>)>);

impl Buckets {
    pub(super) fn of(tensors: Vec<Tensor<1>>) -> Self {
        let (mut buckets, mut bucket, mut filled) = (Vec::new(), Vec::new(), 0);
        for tensor in tensors {
            filled += tensor.dims()[0];
            bucket.push(tensor);
            if filled >= BUCKET {
                buckets.push(join(std::mem::take(&mut bucket)));
                filled = 0;
            }
        }
        if !bucket.is_empty() {
            buckets.push(join(bucket));
        }
        Self(buckets)
    }

    /// Fails if a message could not be computed: a GPU that fails on the way says so only to who reads.
    pub(super) fn check(&self) -> Result<(), TrainError> {
        for (message, _) in &self.0 {
            host(&message.clone().narrow(0, 0, 1), &[])?;
        }
        Ok(())
    }

    /// Adds up each tensor over `devices`. Every rank must call it, with tensors of the same lengths; one that does not
    /// keeps the others waiting on their GPUs for ever.
    pub(super) fn sum(self, devices: &[Device]) -> Vec<Tensor<1>> {
        let messages: Vec<_> = self
            .0
            .into_iter()
            .map(|(message, lens)| {
                (all_reduce(message, ReduceOperation::Sum, devices.to_vec()), lens)
            })
            .collect();
        messages.into_iter().flat_map(|(message, lens)| split(&message.resolve(), &lens)).collect()
    }
}

fn join(bucket: Vec<Tensor<1>>) -> (Tensor<1>, Vec<usize>) {
    let lens = bucket.iter().map(|tensor| tensor.dims()[0]).collect();
    (Tensor::cat(bucket, 0), lens)
}

fn split(message: &Tensor<1>, lens: &[usize]) -> Vec<Tensor<1>> {
    let mut start = 0;
    let parts = lens.iter().map(|len| {
        start += len;
        message.clone().narrow(0, start - len, *len)
    });
    parts.collect()
}
