//! Adding up gradients from GPU to GPU, by NCCL through Burn's distributed tensors.

use burn::tensor::Device;
use burn::tensor::Tensor;
use burn::tensor::distributed::ReduceOperation;
use burn::tensor::distributed::all_reduce;

/// Values that go in one message: large enough for the full rate of the links, small beside the gradients' own memory.
const BUCKET: usize = 1 << 24;

/// Adds up each tensor over `devices`. Every rank must call it with tensors of the same lengths.
///
/// A message joins tensors until it is full; all are sent before the first is awaited.
pub(super) fn sum(tensors: Vec<Tensor<1>>, devices: &[Device]) -> Vec<Tensor<1>> {
    let mut messages = Vec::new();
    let (mut bucket, mut filled) = (Vec::new(), 0);
    for tensor in tensors {
        filled += tensor.dims()[0];
        bucket.push(tensor);
        if filled >= BUCKET {
            messages.push(send(std::mem::take(&mut bucket), devices));
            filled = 0;
        }
    }
    if !bucket.is_empty() {
        messages.push(send(bucket, devices));
    }
    messages.into_iter().flat_map(|(message, lens)| split(&message.resolve(), &lens)).collect()
}

type Message = burn::tensor::distributed::CollectiveTensor<1>;

fn send(bucket: Vec<Tensor<1>>, devices: &[Device]) -> (Message, Vec<usize>) {
    let lens = bucket.iter().map(|tensor| tensor.dims()[0]).collect();
    (all_reduce(Tensor::cat(bucket, 0), ReduceOperation::Sum, devices.to_vec()), lens)
}

fn split(message: &Tensor<1>, lens: &[usize]) -> Vec<Tensor<1>> {
    let mut start = 0;
    let parts = lens.iter().map(|len| {
        start += len;
        message.clone().slice([start - len..start])
    });
    parts.collect()
}
