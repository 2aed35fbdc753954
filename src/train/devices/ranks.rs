//! Ranks: the devices that train one job together, on all hosts. Each rank has its own thread, model, optimizer and
//! loader.
//!
//! Of N ranks, rank `r` takes the micro-batches `r`, `N + r`, `2 N + r` and so on of an epoch. So an update of N ranks
//! has the same images as an update of one rank with N times the `accum_iter`.
//!
//! All ranks run the same loop, and wait for each other at each exchange. Only rank 0 writes files and reports events.
//!
//! Each host has `D` devices. The devices of host `h` are the ranks `h * D` to `h * D + D - 1`. Each host first
//! collects or sums the values of its own ranks. Its first rank then exchanges the result with the other hosts.

use super::hosts::{self, Hosts, Wire};
use super::reduce::{Bucket, PendingReduce, lens, read, split};
use crate::data::Share;
use crate::train::error::TrainError;
use burn::tensor::{Device, Tensor};
use std::any::Any;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// One device of a job that trains on several devices.
pub struct Rank {
    /// Index of the device on this host.
    local: usize,
    group: Arc<RankGroup>,
}

/// How the ranks exchange gradients.
#[derive(Debug, Clone)]
pub(crate) enum Link {
    /// NCCL sums the gradients on the GPUs.
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "only CUDA has NCCL"))]
    Nccl(Vec<Device>),
    /// After the backward pass, the CPU sums the gradients of all ranks.
    Host,
    /// The CPU simulates several devices. The number is the bucket size in gradient values.
    Simulated(usize),
}

/// Bucket size for NCCL, in gradient values.
const NCCL_BUCKET: usize = 1 << 24;

/// State that all ranks of this host share.
struct RankGroup {
    /// Number of devices on this host. All hosts have the same number.
    devices: usize,
    link: Link,
    hosts: Hosts,
    round: Mutex<ExchangeRound>,
    changed: Condvar,
}

/// An exchange in which every rank receives the values of all ranks.
#[derive(Default)]
struct ExchangeRound {
    brought: Vec<Option<Box<dyn Any + Send>>>,
    arrived: usize,
    leaving: usize,
    /// Whether a rank has ended. No other rank then waits for the value of that rank.
    broken: bool,
}

impl Rank {
    /// Creates one rank for each of the `devices` devices on this host.
    pub(crate) fn group(devices: usize, link: Link, hosts: Hosts) -> Vec<Self> {
        let brought = (0..devices).map(|_| None).collect();
        let round = Mutex::new(ExchangeRound { brought, ..ExchangeRound::default() });
        let changed = Condvar::new();
        let group = Arc::new(RankGroup { devices, link, hosts, round, changed });
        (0..devices).map(|local| Self { local, group: Arc::clone(&group) }).collect()
    }

    /// Creates the rank of a job on a single device.
    pub(crate) fn alone() -> Self {
        Self::group(1, Link::Host, Hosts::default()).remove(0)
    }

    /// Returns the index of this rank, from 0.
    pub fn index(&self) -> usize {
        self.group.hosts.index() * self.group.devices + self.local
    }

    /// Returns the number of ranks (world size).
    pub fn world(&self) -> usize {
        self.group.hosts.count() * self.group.devices
    }

    /// Returns the share of the data that this rank loads.
    pub fn share(&self) -> Share {
        Share { index: self.index(), of: self.world(), on_this_host: self.group.devices }
    }

    /// Returns whether this is rank 0. Only rank 0 writes files and reports events.
    pub fn is_first(&self) -> bool {
        self.index() == 0
    }

    /// Returns whether this is the first rank of its host.
    pub(crate) fn is_first_here(&self) -> bool {
        self.local == 0
    }

    /// Sends `mine` to all ranks. Returns the values of all ranks, in rank order. Fails if another rank has failed.
    pub(crate) fn exchange<T: Wire>(&self, mine: T) -> Result<Vec<T>, TrainError> {
        let local = self.exchange_here(mine)?;
        if self.group.hosts.count() == 1 {
            return Ok(local);
        }
        self.first_here(|hosts| {
            let messages = hosts.exchange(hosts::encode(&local))?;
            Ok(messages.iter().flat_map(|message| hosts::decode(message)).collect())
        })
    }

    /// Runs `work` on the first rank of this host. All ranks of this host get the result.
    fn first_here<T: Clone + Send + 'static>(
        &self,
        work: impl FnOnce(&Hosts) -> Result<T, TrainError>,
    ) -> Result<T, TrainError> {
        let own = if self.local == 0 { Some(work(&self.group.hosts)?) } else { None };
        let mut all = self.exchange_here(own)?;
        Ok(all.swap_remove(0).expect("the first rank has a result"))
    }

    /// Sends `mine` to all ranks of this host. Returns their values in rank order.
    pub(super) fn exchange_here<T: Clone + Send + 'static>(
        &self,
        mine: T,
    ) -> Result<Vec<T>, TrainError> {
        let devices = self.group.devices;
        if devices == 1 {
            return Ok(vec![mine]);
        }
        let mut round = self.wait(self.lock(), |round| round.leaving > 0)?;
        round.brought[self.local] = Some(Box::new(mine));
        round.arrived += 1;
        if round.arrived == devices {
            round.leaving = devices;
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

    /// Returns on all ranks whether `yes` is true on at least one rank.
    pub(crate) fn any(&self, yes: bool) -> Result<bool, TrainError> {
        Ok(self.exchange(yes)?.contains(&true))
    }

    /// Packs gradients into a bucket for one all-reduce.
    pub(crate) fn pack(&self, tensors: Vec<Tensor<1>>) -> Bucket {
        match self.group.link {
            #[cfg(feature = "cuda")]
            Link::Nccl(_) if self.group.devices > 1 => {
                Bucket::Flat(Box::new(super::nccl::FlatBucket::new(tensors)))
            }
            _ => Bucket::Separate(tensors),
        }
    }

    /// Starts the all-reduce of a bucket.
    ///
    /// All ranks must start buckets of the same sizes in the same order.
    pub(crate) fn start_reduce(&self, bucket: Bucket) -> Result<PendingReduce, TrainError> {
        match bucket {
            #[cfg(feature = "cuda")]
            Bucket::Flat(joined) => {
                // A running NCCL call cannot be cancelled. So all ranks of this host first check that all of them are
                // ready.
                self.exchange_here(())?;
                let Link::Nccl(devices) = &self.group.link else {
                    unreachable!("flat buckets exist only with NCCL")
                };
                let reduce = joined.start_reduce(devices);
                if self.group.hosts.count() == 1 {
                    return Ok(PendingReduce::Running(Box::new(reduce)));
                }
                self.start_sum(&reduce.finish(), read)
            }
            Bucket::Separate(tensors) if self.world() == 1 => Ok(PendingReduce::Done(tensors)),
            Bucket::Separate(tensors) if self.group.hosts.count() == 1 => {
                let sum = self.sum_here(&tensors)?;
                Ok(PendingReduce::Done(split(&sum, &lens(&tensors), &tensors[0].device())))
            }
            Bucket::Separate(tensors) => self.start_sum(&tensors, |own| self.sum_here(own)),
        }
    }

    /// Starts to sum gradients over all hosts.
    ///
    /// `sum_here` sums the gradients over the ranks of this host.
    fn start_sum(
        &self,
        tensors: &[Tensor<1>],
        sum_here: impl FnOnce(&[Tensor<1>]) -> Result<Vec<f32>, TrainError>,
    ) -> Result<PendingReduce, TrainError> {
        let values = sum_here(tensors)?;
        let sum = self.first_here(|hosts| Ok(hosts.start_sum(values)))?;
        let device = tensors[0].device();
        Ok(PendingReduce::OverHosts { sum, lens: lens(tensors), device })
    }

    /// Returns the number of gradient values in a bucket; `None` for one all-reduce after the backward pass.
    pub(crate) fn bucket_size(&self) -> Option<usize> {
        match self.group.link {
            _ if self.world() == 1 => None,
            Link::Nccl(_) => Some(NCCL_BUCKET),
            Link::Host => None,
            Link::Simulated(values) => Some(values),
        }
    }

    /// Sums the gradients of this host's ranks in CPU memory, in rank order. Returns the sums as one list.
    fn sum_here(&self, tensors: &[Tensor<1>]) -> Result<Vec<f32>, TrainError> {
        let own = read(tensors)?;
        if self.group.devices == 1 {
            return Ok(own);
        }
        let all = self.exchange_here(Arc::new(own))?;
        let mut sum = all[0].to_vec();
        for other in &all[1..] {
            sum.iter_mut().zip(other.iter()).for_each(|(sum, value)| *sum += value);
        }
        Ok(sum)
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
        // If all ranks have arrived, the exchange is valid, even if a rank has ended since then.
        if not_yet(&round) { Err(TrainError::OtherRank) } else { Ok(round) }
    }

    fn lock(&self) -> MutexGuard<'_, ExchangeRound> {
        self.group.round.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Rank {
    /// Wakes all ranks that wait for this rank.
    fn drop(&mut self) {
        self.lock().broken = true;
        self.group.changed.notify_all();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Hosts, Link, Rank, TrainError};
    use crate::train::devices::hosts::tests::on_hosts;
    use burn::tensor::{Device, Tensor, TensorData};
    use std::thread;

    /// Runs `work` on `world` new ranks, each on its own thread.
    pub(crate) fn on_threads<T: Send>(
        world: usize,
        link: &Link,
        work: impl Fn(Rank) -> T + Sync,
    ) -> Vec<T> {
        let ranks = Rank::group(world, link.clone(), Hosts::default());
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
            let own = |round| vec![round as f32, rank.index() as f32];
            (0..200).map(|round| rank.exchange(own(round)).unwrap()).collect::<Vec<_>>()
        });
        for rounds in seen {
            for (round, all) in rounds.into_iter().enumerate() {
                assert_eq!(all, [0.0, 1.0, 2.0].map(|rank| vec![round as f32, rank]));
            }
        }
    }

    #[test]
    fn sums_are_the_same_on_every_rank() {
        let sums = on_threads(3, &Link::Host, |rank| {
            let own = Tensor::from_data([rank.index() as f32, 1.0], &Device::flex());
            rank.start_reduce(rank.pack(vec![own])).unwrap().finish().unwrap().remove(0).into_data()
        });
        for sum in sums {
            sum.assert_eq(&[3.0f32, 3.0].into(), true);
        }
    }

    #[test]
    fn the_devices_of_all_hosts_are_ranks_of_one_world() {
        let of_hosts = on_hosts(3, |hosts| {
            let ranks = Rank::group(2, Link::Simulated(1), hosts);
            thread::scope(|scope| {
                let threads = ranks.into_iter().map(|rank| scope.spawn(move || one_update(&rank)));
                let threads: Vec<_> = threads.collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
            })
        });
        for (index, (all, sums)) in of_hosts.into_iter().flatten().enumerate() {
            assert_eq!(all, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0].map(|rank| vec![rank]), "rank {index}");
            sums[0].assert_eq(&[15.0f32, 6.0].into(), true);
            sums[1].assert_eq(&[30.0f32].into(), true);
        }
    }

    /// Exchanges rank indices with all ranks, and sums two tensors over the ranks.
    ///
    /// Returns the indices and the sums.
    fn one_update(rank: &Rank) -> (Vec<Vec<f32>>, Vec<TensorData>) {
        let index = rank.index() as f32;
        let own = [vec![index, 1.0], vec![2.0 * index]];
        let own = own.map(|values| Tensor::from_data(values.as_slice(), &Device::flex()));
        let pending = rank.start_reduce(rank.pack(own.to_vec())).unwrap();
        let all = rank.exchange(vec![index]).unwrap();
        (all, pending.finish().unwrap().into_iter().map(Tensor::into_data).collect())
    }

    #[test]
    fn no_rank_waits_for_a_failed_rank() {
        let ends = on_threads(2, &Link::Host, |rank| {
            if rank.index() == 1 {
                return true; // the rank is dropped, as after an error
            }
            matches!(rank.exchange(()), Err(TrainError::OtherRank))
        });
        assert_eq!(ends, [true, true]);
    }
}
