//! Adding up gradients from GPU to GPU, by NCCL through Burn's distributed tensors.

use super::TrainError;
use super::state::host;
use burn::tensor::Device;
use burn::tensor::Tensor;
use burn::tensor::distributed::CollectiveTensor;
use burn::tensor::distributed::ReduceOperation;
use burn::tensor::distributed::all_reduce;

/// Tensors joined to messages that are under way, with the lengths to take them apart again.
pub(super) struct Messages(Vec<(CollectiveTensor<1>, Vec<usize>)>);

impl Messages {
    /// Begins to add up each tensor over `devices`, as soon as it is computed, beside what the device is given to do next.
    /// Tensors are joined until a message has `size` values.
    ///
    /// Every rank must send tensors of the same lengths; one that does not keeps the others waiting on their GPUs for ever.
    pub(super) fn send(tensors: Vec<Tensor<1>>, devices: &[Device], size: usize) -> Self {
        let (mut messages, mut message, mut filled) = (Vec::new(), Vec::new(), 0);
        let mut send = |message: &mut Vec<Tensor<1>>| {
            let lens = message.iter().map(|tensor| tensor.dims()[0]).collect();
            let joined = Tensor::cat(std::mem::take(message), 0);
            messages.push((all_reduce(joined, ReduceOperation::Sum, devices.to_vec()), lens));
        };
        for tensor in tensors {
            filled += tensor.dims()[0];
            message.push(tensor);
            if filled >= size {
                send(&mut message);
                filled = 0;
            }
        }
        if !message.is_empty() {
            send(&mut message);
        }
        Self(messages)
    }

    /// Gives the sums, which the device's next work waits for. Fails if a message could not be computed: a GPU that fails on
    /// the way says so only to who reads.
    pub(super) fn finish(self) -> Result<Vec<Tensor<1>>, TrainError> {
        let mut sums = Vec::new();
        for (message, lens) in self.0 {
            let message = message.resolve();
            host(&message.clone().narrow(0, 0, 1), &[])?;
            let mut start = 0;
            for len in lens {
                sums.push(message.clone().narrow(0, start, len));
                start += len;
            }
        }
        Ok(sums)
    }
}
