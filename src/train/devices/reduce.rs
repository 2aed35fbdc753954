//! The gradients of an all-reduce, packed into buckets.

use super::hosts::PendingSum;
use crate::infer::host;
use crate::train::error::TrainError;
use burn::tensor::{Device, Tensor, TensorData};

/// Gradients that one all-reduce sums.
pub(crate) enum Bucket {
    Separate(Vec<Tensor<1>>),
    #[cfg(feature = "cuda")]
    Flat(Box<super::nccl::FlatBucket>),
}

impl Bucket {
    /// Fails if the device could not compute these gradients.
    ///
    /// Without this check, all other ranks would wait forever in NCCL.
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

/// An all-reduce of a bucket, which may still be running.
pub(crate) enum PendingReduce {
    Done(Vec<Tensor<1>>),
    /// A sum over hosts. Each host has already summed the gradients of its own ranks.
    OverHosts {
        sum: PendingSum,
        lens: Vec<usize>,
        device: Device,
    },
    #[cfg(feature = "cuda")]
    Running(Box<super::nccl::PendingAllReduce>),
}

impl PendingReduce {
    /// Returns the gradient sums, with the same bits on all ranks. Fails if another host has failed.
    ///
    /// With NCCL on one host, only the device waits for the sums. Otherwise, this function waits.
    pub(crate) fn finish(self) -> Result<Vec<Tensor<1>>, TrainError> {
        match self {
            Self::Done(sums) => Ok(sums),
            Self::OverHosts { sum, lens, device } => Ok(split(&sum.wait()?, &lens, &device)),
            #[cfg(feature = "cuda")]
            Self::Running(reduce) => Ok(reduce.finish()),
        }
    }
}

/// Copies all tensors from the device, and concatenates their values.
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

/// Splits `values` into tensors of the lengths `lens`, and copies them to `device`.
pub(super) fn split(values: &[f32], lens: &[usize], device: &Device) -> Vec<Tensor<1>> {
    let mut rest = values;
    let parts = lens.iter().map(|&len| {
        let (part, next) = rest.split_at(len);
        rest = next;
        Tensor::from_data(TensorData::new(part.to_vec(), [len]), device)
    });
    parts.collect()
}
