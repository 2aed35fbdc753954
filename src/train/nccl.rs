//! Adding up gradients from GPU to GPU, by NCCL through Burn's distributed tensors.

use burn::tensor::Device;
use burn::tensor::Tensor;
use burn::tensor::distributed::CollectiveTensor;
use burn::tensor::distributed::ReduceOperation;
use burn::tensor::distributed::all_reduce;

/// Tensors in one piece that are under way, with the lengths to take them apart again. It takes their memory once more.
pub(super) struct Message {
    joined: CollectiveTensor<1>,
    lens: Vec<usize>,
}

impl Message {
    /// Begins to add up each tensor over `devices` as soon as it is computed, beside what the device is given to do next.
    ///
    /// Every rank must send tensors of the same lengths; one that does not keeps the others waiting on their GPUs for ever.
    pub(super) fn send(tensors: Vec<Tensor<1>>, devices: &[Device]) -> Self {
        let lens = tensors.iter().map(|tensor| tensor.dims()[0]).collect();
        let joined = Tensor::cat(tensors, 0);
        Self { joined: all_reduce(joined, ReduceOperation::Sum, devices.to_vec()), lens }
    }

    /// Gives the sums, which the device's next work waits for.
    pub(super) fn finish(self) -> Vec<Tensor<1>> {
        let joined = self.joined.resolve();
        let mut start = 0;
        let sums = self.lens.into_iter().map(|len| {
            start += len;
            joined.clone().narrow(0, start - len, len)
        });
        sums.collect()
    }
}
