//! Ranks: the devices that train one job together. Each has its own thread, model, optimizer and loader.
//!
//! Rank `r` of `N` takes the micro-batches `r`, `N + r`, `2 N + r` and so on of an epoch. So one update of N ranks has
//! the same images as one rank with N times the `accum_iter`.
//!
//! All ranks run the same loop and wait for each other at each exchange. Only rank 0 writes files and reports events.

use crate::infer::host;
use crate::train::error::TrainError;
use burn::tensor::{Device, Tensor, TensorData};
use std::any::Any;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// One of the devices that train a job together.
pub struct Rank {
    index: usize,
    group: Arc<RankGroup>,
}

/// How the ranks exchange gradients.
#[derive(Debug, Clone)]
pub(crate) enum Link {
    /// NCCL sends the gradients directly from GPU to GPU.
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "only CUDA has NCCL"))]
    Nccl(Vec<Device>),
    /// The host sums the gradients of all ranks after the backward pass.
    Host,
    /// The host sums buckets of this many gradient values. Only tests use this.
    Simulated(usize),
}

/// Bucket size for NCCL, in gradient values.
const NCCL_BUCKET: usize = 1 << 24;

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

/// The all-reduce of a bucket, running or done.
pub(crate) enum PendingReduce {
    Done(Vec<Tensor<1>>),
    #[cfg(feature = "cuda")]
    Running(Box<super::nccl::PendingAllReduce>),
}

impl PendingReduce {
    /// Returns the gradient sums, which are bit-identical on all ranks.
    ///
    /// With NCCL, the device waits for the sums before it starts its next work.
    pub(crate) fn finish(self) -> Vec<Tensor<1>> {
        match self {
            Self::Done(sums) => sums,
            #[cfg(feature = "cuda")]
            Self::Running(reduce) => reduce.finish(),
        }
    }
}

struct RankGroup {
    world: usize,
    link: Link,
    round: Mutex<ExchangeRound>,
    changed: Condvar,
}

/// An exchange in which every rank receives the values of all ranks.
#[derive(Default)]
struct ExchangeRound {
    brought: Vec<Option<Box<dyn Any + Send>>>,
    arrived: usize,
    leaving: usize,
    /// Whether a rank has ended. Then the other ranks stop waiting.
    broken: bool,
}

impl Rank {
    /// Creates the ranks of a job on `world` devices.
    pub(crate) fn group(world: usize, link: Link) -> Vec<Self> {
        let brought = (0..world).map(|_| None).collect();
        let round = Mutex::new(ExchangeRound { brought, ..ExchangeRound::default() });
        let group = Arc::new(RankGroup { world, link, round, changed: Condvar::new() });
        (0..world).map(|index| Self { index, group: Arc::clone(&group) }).collect()
    }

    /// Creates the only rank of a job on a single device.
    pub(crate) fn alone() -> Self {
        Self::group(1, Link::Host).remove(0)
    }

    /// Returns the index of this rank, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Returns the number of ranks.
    pub fn world(&self) -> usize {
        self.group.world
    }

    /// Returns the index of this rank and the number of ranks.
    pub fn share(&self) -> (usize, usize) {
        (self.index, self.world())
    }

    /// Returns whether this is rank 0, which alone writes files and reports events.
    pub fn is_first(&self) -> bool {
        self.index == 0
    }

    /// Sends `mine` to all ranks. Returns the values of all ranks, in rank order.
    ///
    /// Fails if another rank has failed.
    pub fn exchange<T: Clone + Send + 'static>(&self, mine: T) -> Result<Vec<T>, TrainError> {
        if self.world() == 1 {
            return Ok(vec![mine]);
        }
        let mut round = self.wait(self.lock(), |round| round.leaving > 0)?;
        round.brought[self.index] = Some(Box::new(mine));
        round.arrived += 1;
        if round.arrived == self.world() {
            round.leaving = self.world();
            self.group.changed.notify_all();
        }
        let mut round = self.wait(round, |round| round.leaving == 0)?;
        let all = round.brought.iter().map(|brought| {
            let brought = brought.as_ref().expect("all ranks have arrived");
            brought.downcast_ref::<T>().expect("all ranks run the same loop").clone()
        });
        let all = all.collect();
        round.leaving -= 1;
        if round.leaving == 0 {
            round.arrived = 0;
            self.group.changed.notify_all();
        }
        Ok(all)
    }

    /// Returns whether `yes` is true on at least one rank. All ranks get the same result.
    pub fn any(&self, yes: bool) -> Result<bool, TrainError> {
        Ok(self.exchange(yes)?.contains(&true))
    }

    /// Packs gradients into a bucket.
    pub(crate) fn pack(&self, tensors: Vec<Tensor<1>>) -> Bucket {
        match self.group.link {
            #[cfg(feature = "cuda")]
            Link::Nccl(_) if self.world() > 1 => {
                Bucket::Flat(Box::new(super::nccl::FlatBucket::new(tensors)))
            }
            _ => Bucket::Separate(tensors),
        }
    }

    /// Starts the all-reduce of a bucket.
    ///
    /// All ranks must start buckets of the same lengths in the same order.
    pub(crate) fn start_reduce(&self, bucket: Bucket) -> Result<PendingReduce, TrainError> {
        match bucket {
            #[cfg(feature = "cuda")]
            Bucket::Flat(joined) => {
                // An NCCL call cannot be cancelled. So the ranks first wait until all of them are ready.
                self.exchange(())?;
                let Link::Nccl(devices) = &self.group.link else {
                    unreachable!("only NCCL has flat buckets")
                };
                Ok(PendingReduce::Running(Box::new(joined.start_reduce(devices))))
            }
            Bucket::Separate(tensors) if self.world() == 1 => Ok(PendingReduce::Done(tensors)),
            Bucket::Separate(tensors) => self.sum_on_the_host(&tensors).map(PendingReduce::Done),
        }
    }

    /// Returns the number of gradient values in a bucket.
    ///
    /// `None` reduces all gradients together after the backward pass.
    pub(crate) fn bucket_size(&self) -> Option<usize> {
        match self.group.link {
            _ if self.world() == 1 => None,
            Link::Nccl(_) => Some(NCCL_BUCKET),
            Link::Host => None,
            Link::Simulated(values) => Some(values),
        }
    }

    fn sum_on_the_host(&self, tensors: &[Tensor<1>]) -> Result<Vec<Tensor<1>>, TrainError> {
        let mut own = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            own.push(host(tensor, &[])?.values);
        }
        let all = self.exchange(Arc::new(own))?;
        let sums = tensors.iter().enumerate().map(|(i, tensor)| {
            let mut sum = all[0][i].clone();
            for other in &all[1..] {
                sum.iter_mut().zip(&other[i]).for_each(|(sum, value)| *sum += value);
            }
            let len = sum.len();
            Tensor::from_data(TensorData::new(sum, [len]), &tensor.device())
        });
        Ok(sums.collect())
    }

    /// Waits while `not_yet` returns true. Fails if another rank ends meanwhile.
    fn wait<'a>(
        &self,
        round: MutexGuard<'a, ExchangeRound>,
        not_yet: impl Fn(&ExchangeRound) -> bool,
    ) -> Result<MutexGuard<'a, ExchangeRound>, TrainError> {
        let wait = |round: &mut ExchangeRound| !round.broken && not_yet(round);
        let round =
            self.group.changed.wait_while(round, wait).unwrap_or_else(PoisonError::into_inner);
        // If all ranks had arrived before one of them ended, the exchange is still valid.
        if not_yet(&round) { Err(TrainError::OtherRank) } else { Ok(round) }
    }

    fn lock(&self) -> MutexGuard<'_, ExchangeRound> {
        self.group.round.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Rank {
    /// Wakes the waiting ranks, because this rank has finished or failed.
    fn drop(&mut self) {
        self.lock().broken = true;
        self.group.changed.notify_all();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Link, Rank, TrainError};
    use burn::tensor::{Device, Tensor};
    use std::thread;

    /// Runs `work` on `world` new ranks, each on its own thread.
    pub(crate) fn on_threads<T: Send>(
        world: usize,
        link: &Link,
        work: impl Fn(Rank) -> T + Sync,
    ) -> Vec<T> {
        let ranks = Rank::group(world, link.clone());
        thread::scope(|scope| {
            let work = &work;
            let threads: Vec<_> =
                ranks.into_iter().map(|rank| scope.spawn(move || work(rank))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a rank")).collect()
        })
    }

    #[test]
    fn every_rank_receives_the_values_of_all_ranks_in_each_exchange() {
        let seen = on_threads(3, &Link::Host, |rank| {
            let rounds = (0..200).map(|round| rank.exchange((round, rank.index())).unwrap());
            rounds.collect::<Vec<_>>()
        });
        for rounds in seen {
            for (round, all) in rounds.into_iter().enumerate() {
                assert_eq!(all, [(round, 0), (round, 1), (round, 2)]);
            }
        }
    }

    #[test]
    fn sums_are_the_same_on_every_rank() {
        let sums = on_threads(3, &Link::Host, |rank| {
            let own = Tensor::from_data([rank.index() as f32, 1.0], &Device::flex());
            rank.start_reduce(rank.pack(vec![own])).unwrap().finish().remove(0).into_data()
        });
        for sum in sums {
            sum.assert_eq(&[3.0f32, 3.0].into(), true);
        }
    }

    #[test]
    fn no_rank_waits_for_a_failed_rank() {
        let ends = on_threads(2, &Link::Host, |rank| {
            if rank.index() == 1 {
                return true; // the rank is dropped, as after an error
            }
            matches!(rank.exchange(0), Err(TrainError::OtherRank))
        });
        assert_eq!(ends, [true, true]);
    }
}
