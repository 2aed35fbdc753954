//! Ranks: the devices that train together, each on a thread of its own with its own copy of model, optimizer and loader.
//!
//! Rank `r` of `N` takes the micro-batches `r`, `N + r`, `2 N + r`, .. of an epoch, so that N ranks see what one rank sees
//! that accumulates N times as long, and their sums differ by rounding alone. (So do the rates within an epoch, where its
//! micro-batches are a multiple of N.) All ranks run the same loop, and meet where they exchange something; rank 0 alone writes
//! and tells.

use crate::infer::{Replicas, host};
use crate::train::{TrainError, Watch};
use burn::tensor::{Device, Tensor, TensorData};
use std::any::Any;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What computes a rank's part of a job.
pub struct Team {
    pub rank: Rank,
    pub replicas: Replicas,
    pub watch: Watch,
}

/// One of the devices that train together.
pub struct Rank {
    index: usize,
    group: Arc<Group>,
}

/// How ranks are joined.
#[derive(Debug, Clone)]
pub(crate) enum Link {
    /// From GPU to GPU.
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "only CUDA joins GPUs"))]
    Nccl(Vec<Device>),
    /// Through the host: who waits there for the others gives its device nothing to do, so nothing is sent early.
    Host,
    /// Through the host, where the CPU plays GPUs: messages as with NCCL, of this many values.
    Played(usize),
}

/// Values that are worth a message from GPU to GPU: enough for the full rate of the links.
const NCCL_MESSAGE: usize = 1 << 24;

/// Tensors to be added up over the ranks.
pub(crate) enum Message {
    Apart(Vec<Tensor<1>>),
    #[cfg(feature = "cuda")]
    Joined(Box<super::nccl::Joined>),
}

impl Message {
    /// Fails if it could not be computed. A GPU that fails on the way says so only to who reads, and who is left alone with
    /// NCCL waits for ever; what goes through the host is read there.
    #[cfg_attr(
        not(feature = "cuda"),
        expect(clippy::unnecessary_wraps, reason = "only NCCL's are checked")
    )]
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        match self {
            Self::Apart(_) => Ok(()),
            #[cfg(feature = "cuda")]
            Self::Joined(joined) => joined.check(),
        }
    }
}

/// Tensors that are added up over the ranks.
pub(crate) enum Sending {
    Done(Vec<Tensor<1>>),
    /// They are on their way.
    #[cfg(feature = "cuda")]
    UnderWay(Box<super::nccl::UnderWay>),
}

impl Sending {
    /// Gives the sums: the same ones on every rank, to the bit. What the device does next waits for them.
    pub(crate) fn finish(self) -> Vec<Tensor<1>> {
        match self {
            Self::Done(sums) => sums,
            #[cfg(feature = "cuda")]
            Self::UnderWay(message) => message.finish(),
        }
    }
}

/// What the ranks of a job share.
struct Group {
    world: usize,
    link: Link,
    meeting: Mutex<Meeting>,
    changed: Condvar,
}

/// One exchange after the other: all bring something, then all take everything, then the next may begin.
#[derive(Default)]
struct Meeting {
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
        let meeting = Mutex::new(Meeting { brought, ..Meeting::default() });
        let group = Arc::new(Group { world, link, meeting, changed: Condvar::new() });
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

    /// Makes a message of tensors.
    pub(crate) fn pack(&self, tensors: Vec<Tensor<1>>) -> Message {
        match self.group.link {
            #[cfg(feature = "cuda")]
            Link::Nccl(_) if self.world() > 1 => {
                Message::Joined(Box::new(super::nccl::Joined::new(tensors)))
            }
            _ => Message::Apart(tensors),
        }
    }

    /// Begins to add up a message's tensors over the ranks. Every rank must send messages of the same lengths, in the same
    /// order.
    pub(crate) fn send(&self, message: Message) -> Result<Sending, TrainError> {
        match message {
            #[cfg(feature = "cuda")]
            Message::Joined(joined) => {
                // No rank enters NCCL, which cannot be left again, before all are there.
                self.exchange(())?;
                let Link::Nccl(devices) = &self.group.link else {
                    unreachable!("messages are joined for NCCL alone")
                };
                Ok(Sending::UnderWay(Box::new(joined.send(devices))))
            }
            Message::Apart(tensors) if self.world() == 1 => Ok(Sending::Done(tensors)),
            Message::Apart(tensors) => self.sum_on_the_host(&tensors).map(Sending::Done),
        }
    }

    /// Values of a message, where messages are made before all gradients are there.
    pub(crate) fn message(&self) -> Option<usize> {
        match self.group.link {
            _ if self.world() == 1 => None,
            Link::Nccl(_) => Some(NCCL_MESSAGE),
            Link::Host => None,
            Link::Played(values) => Some(values),
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
        meeting: MutexGuard<'a, Meeting>,
        not_yet: impl Fn(&Meeting) -> bool,
    ) -> Result<MutexGuard<'a, Meeting>, TrainError> {
        let wait = |meeting: &mut Meeting| !meeting.broken && not_yet(meeting);
        let meeting =
            self.group.changed.wait_while(meeting, wait).unwrap_or_else(PoisonError::into_inner);
        // What all have brought before one left is still everyone's.
        if not_yet(&meeting) { Err(TrainError::OtherRank) } else { Ok(meeting) }
    }

    fn lock(&self) -> MutexGuard<'_, Meeting> {
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
            rank.send(rank.pack(vec![own])).unwrap().finish().remove(0).into_data()
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
