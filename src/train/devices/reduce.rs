//! The gradients of an all-reduce: packed in buckets, and unpacked when their sums have arrived.

use super::hosts::PendingSum;
use crate::infer::host;
use crate::train::error::TrainError;
use burn::tensor::{Device, Tensor, TensorData};

/// Gradients that are all-reduced together.
pub(crate) enum Bucket {
    Separate(Vec<Tensor<1>>),
    #[cfg(feature = "cuda")]
    Flat(Box<super::nccl::FlatBucket>),
}

impl Bucket {
    /// Fails if the device could not compute the gradients in this bucket.
    ///
    /// Without this check, the other ranks would wait in NCCL forever for the failed rank.
    #[cfg_attr(
        not(feature = "cuda"),
        expect(clippy::unnecessary_wraps, reason = "only NCCL buckets are checked")
    )]
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        match self {
            Self::Separate(_) => Ok(()),
            #[cfg(feature = "cuda")]
            Self::Flat(joined) => joined.check(),
        }
    }
}

/// An all-reduce of a bucket that is running or finished.
pub(crate) enum PendingReduce {
    Done(Vec<Tensor<1>>),
    /// A running sum over hosts, of gradients that each host has already summed over its own ranks.
    OverHosts {
        sum: PendingSum,
        lens: Vec<usize>,
        device: Device,
    },
    #[cfg(feature = "cuda")]
    Running(Box<super::nccl::PendingAllReduce>),
}

impl PendingReduce {
    /// Returns the gradient sums, which are bit-identical on all ranks. Fails if another host has failed.
    ///
    /// With NCCL on one host, the device waits for the sums before its next work. Otherwise, this function waits.
    pub(crate) fn finish(self) -> Result<Vec<Tensor<1>>, TrainError> {
        match self {
            Self::Done(sums) => Ok(sums),
            Self::OverHosts { sum, lens, device } => Ok(split(&sum.wait()?, &lens, &device)),
            #[cfg(feature = "cuda")]
            Self::Running(reduce) => Ok(reduce.finish()),
        }
    }
}

/// Copies the values of all tensors from the device into one list.
pub(super) fn read(tensors: &[Tensor<1>]) -> Result<Vec<f32>, TrainError> {
    let mut values = Vec::new();
    for tensor in tensors {
        values.extend(host(tensor, &[])?.values);
    }
    Ok(values)
}

pub(super) fn lens(tensors: &[Tensor<1>]) -> Vec<usize> {
    tensors.iter().map(|tensor| tensor.dims()[0]).collect()
}

/// Copies `values` to the device, as consecutive tensors of the lengths `lens`.
pub(super) fn split(values: &[f32], lens: &[usize], device: &Device) -> Vec<Tensor<1>> {
    let mut rest = values;
    let parts = lens.iter().map(|&len| {
        let (part, next) = rest.split_at(len);
        rest = next;
        Tensor::from_data(TensorData::new(part.to_vec(), [len]), device)
    });
    parts.collect()
}
