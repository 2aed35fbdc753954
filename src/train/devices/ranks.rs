//! Ranks: the devices that train together, each on a thread of its own with its own copy of model, optimizer and loader.
//!
//! Rank `r` of `N` takes the micro-batches `r`, `N + r`, `2 N + r`, .. of an epoch, so that N ranks see what one rank sees
//! that accumulates N times as long, and their sums differ by rounding alone. (So do the rates within an epoch, where its
//! micro-batches are a multiple of N.) All ranks run the same loop, and meet where they exchange something; rank 0 alone writes
//! and tells.

use crate::infer::host;
use crate::train::error::TrainError;
use burn::tensor::{Device, Tensor, TensorData};
use std::any::Any;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// One of the devices that train together.
pub struct Rank {
    index: usize,
    group: Arc<RankGroup>,
}

/// How ranks are joined.
#[derive(Debug, Clone)]
pub(crate) enum Link {
    /// From GPU to GPU.
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "only CUDA joins GPUs"))]
    Nccl(Vec<Device>),
    /// Through the host: who waits there for the others gives its device nothing to do, so nothing is sent early.
    Host,
    /// Through the host, where the CPU simulates GPUs: gradient buckets as with NCCL, of this many values.
    Simulated(usize),
}

/// Bucket size in values: enough for the full rate of the links between GPUs.
const NCCL_BUCKET: usize = 1 << 24;

/// Gradients that are all-reduced together.
pub(crate) enum Bucket {
    Separate(Vec<Tensor<1>>),
    #[cfg(feature = "cuda")]
    Flat(Box<super::nccl::FlatBucket>),
}

impl Bucket {
    /// Fails if it could not be computed. A GPU that fails on the way says so only to who reads, and who is left alone with
    /// NCCL waits for ever; what goes through the host is read there.
    #[cfg_attr(
        not(feature = "cuda"),
        expect(clippy::unnecessary_wraps, reason = "only NCCL's are checked")
    )]
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        match self {
            Self::Separate(_) => Ok(()),
            #[cfg(feature = "cuda")]
            Self::Flat(joined) => joined.check(),
        }
    }
}

/// The all-reduce of a bucket, under way or done.
pub(crate) enum PendingReduce {
    Done(Vec<Tensor<1>>),
    /// They are on their way.
    #[cfg(feature = "cuda")]
    OnTheWay(Box<super::nccl::PendingAllReduce>),
}

impl PendingReduce {
    /// Gives the sums: the same ones on every rank, to the bit. What the device does next waits for them.
    pub(crate) fn finish(self) -> Vec<Tensor<1>> {
        match self {
            Self::Done(sums) => sums,
            #[cfg(feature = "cuda")]
            Self::OnTheWay(reduce) => reduce.finish(),
        }
    }
}

/// What the ranks of a job share.
struct RankGroup {
    world: usize,
    link: Link,
    meeting: Mutex<ExchangeRound>,
    changed: Condvar,
}

/// One exchange after the other: all bring something, then all take everything, then the next may begin.
#[derive(Default)]
struct ExchangeRound {
    brought: Vec<Option<Box<dyn Any + Send>>>,
    arrived: usize,
    leaving: usize,
    /// A rank is gone: whoever waits must not wait any longer.
    broken: bool,
}

impl Rank {
    /// Makes the ranks of a job.
    pub(crate) fn group(world: usize, link: Link) -> Vec<Self> {
        let brought = (0..world).map(|_| None).collect();
        let meeting = Mutex::new(ExchangeRound { brought, ..ExchangeRound::default() });
        let group = Arc::new(RankGroup { world, link, meeting, changed: Condvar::new() });
        (0..world).map(|index| Self { index, group: Arc::clone(&group) }).collect()
    }

    /// The only one.
    pub(crate) fn alone() -> Self {
        Self::group(1, Link::Host).remove(0)
    }

    /// Which one it is, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many there are.
    pub fn world(&self) -> usize {
        self.group.world
    }

    /// Its index, and how many ranks there are.
    pub fn share(&self) -> (usize, usize) {
        (self.index, self.world())
    }

    /// Whether it is the one that writes and tells.
    pub fn is_first(&self) -> bool {
        self.index == 0
    }

    /// Gives every rank what each brings, in the order of the ranks. Fails when another rank has failed.
    pub fn exchange<T: Clone + Send + 'static>(&self, mine: T) -> Result<Vec<T>, TrainError> {
        if self.world() == 1 {
            return Ok(vec![mine]);
        }
        let mut meeting = self.wait(self.lock(), |meeting| meeting.leaving > 0)?;
        meeting.brought[self.index] = Some(Box::new(mine));
        meeting.arrived += 1;
        if meeting.arrived == self.world() {
            meeting.leaving = self.world();
            self.group.changed.notify_all();
        }
        let mut meeting = self.wait(meeting, |meeting| meeting.leaving == 0)?;
        let all = meeting.brought.iter().map(|brought| {
            let brought = brought.as_ref().expect("everyone has arrived");
            brought.downcast_ref::<T>().expect("all ranks run the same loop").clone()
        });
        let all = all.collect();
        meeting.leaving -= 1;
        if meeting.leaving == 0 {
            meeting.arrived = 0;
            self.group.changed.notify_all();
        }
        Ok(all)
    }

    /// Whether any rank says yes; all get the same answer.
    pub fn any(&self, yes: bool) -> Result<bool, TrainError> {
        Ok(self.exchange(yes)?.contains(&true))
    }

    /// Makes a bucket of tensors.
    pub(crate) fn pack(&self, tensors: Vec<Tensor<1>>) -> Bucket {
        match self.group.link {
            #[cfg(feature = "cuda")]
            Link::Nccl(_) if self.world() > 1 => {
                Bucket::Flat(Box::new(super::nccl::FlatBucket::new(tensors)))
            }
            _ => Bucket::Separate(tensors),
        }
    }

    /// Starts the all-reduce of a bucket. Every rank must start buckets of the same lengths, in the same
    /// order.
    pub(crate) fn start_reduce(&self, bucket: Bucket) -> Result<PendingReduce, TrainError> {
        match bucket {
            #[cfg(feature = "cuda")]
            Bucket::Flat(joined) => {
                // No rank enters NCCL, which cannot be left again, before all are there.
                self.exchange(())?;
                let Link::Nccl(devices) = &self.group.link else {
                    unreachable!("buckets are flat for NCCL alone")
                };
                Ok(PendingReduce::OnTheWay(Box::new(joined.start_reduce(devices))))
            }
            Bucket::Separate(tensors) if self.world() == 1 => Ok(PendingReduce::Done(tensors)),
            Bucket::Separate(tensors) => self.sum_on_the_host(&tensors).map(PendingReduce::Done),
        }
    }

    /// Returns the bucket size in values; `None` reduces after the whole backward pass.
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

    /// Waits while `not_yet` holds.
    fn wait<'a>(
        &self,
        meeting: MutexGuard<'a, ExchangeRound>,
        not_yet: impl Fn(&ExchangeRound) -> bool,
    ) -> Result<MutexGuard<'a, ExchangeRound>, TrainError> {
        let wait = |meeting: &mut ExchangeRound| !meeting.broken && not_yet(meeting);
        let meeting =
            self.group.changed.wait_while(meeting, wait).unwrap_or_else(PoisonError::into_inner);
        // What all have brought before one left is still everyone's.
        if not_yet(&meeting) { Err(TrainError::OtherRank) } else { Ok(meeting) }
    }

    fn lock(&self) -> MutexGuard<'_, ExchangeRound> {
        self.group.meeting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Rank {
    /// Tells the others not to wait: this rank, done or failed, will not come again.
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

    /// Does `work` on every rank of a group.
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
    fn every_rank_gets_what_all_bring_round_after_round() {
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
    fn nobody_waits_for_a_rank_that_failed() {
        let ends = on_threads(2, &Link::Host, |rank| {
            if rank.index() == 1 {
                return true; // as an error would
            }
            matches!(rank.exchange(0), Err(TrainError::OtherRank))
        });
        assert_eq!(ends, [true, true]);
    }
}
