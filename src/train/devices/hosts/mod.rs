//! The hosts of a run. A host is one process, which uses one or more devices.
//!
//! All processes run the same program on the same recipe. Between jobs, rank 0 decides what happens and tells the other
//! hosts: see `run`. Within a job, the devices of all hosts are ranks: see `ranks`.
//!
//! [`Link`] carries messages and gradient sums between hosts. It uses MPI in a build with the feature `mpi`. Tests
//! connect threads instead of processes, so they need no MPI.

mod header;
mod link;
#[cfg(feature = "mpi")]
mod mpi;
mod wire;

pub(crate) use link::PendingSum;
pub(crate) use wire::{Wire, decode, encode};

use crate::train::error::{HostCause, TrainError};
use link::Link;
use std::sync::Arc;

/// The connection of this host to all hosts of the run. Clones share the connection.
#[derive(Clone, Default)]
pub struct Hosts(Option<Arc<Link>>);

impl Hosts {
    /// Connects this process with the other processes that `mpirun` or `srun` started.
    ///
    /// If another host stops answering, calls `lost` with an error text and exits with code 1.
    #[cfg(feature = "mpi")]
    pub fn connect(lost: impl Fn(&str) + Send + 'static) -> Result<Self, TrainError> {
        let link = Link::start(move || mpi::Mpi::connect(Box::new(lost)))?;
        Ok(Self(Some(Arc::new(link)).filter(|link| link.hosts() > 1)))
    }

    /// Disconnects this host from all other hosts. Later exchanges fail.
    pub fn disconnect(&self) {
        if let Some(link) = &self.0 {
            link.disconnect();
        }
    }

    /// Returns the number of hosts.
    pub fn count(&self) -> usize {
        self.0.as_ref().map_or(1, |link| link.hosts())
    }

    /// Returns the index of this host, from 0.
    pub fn index(&self) -> usize {
        self.0.as_ref().map_or(0, |link| link.index())
    }

    /// Returns whether this is host 0, which decides what to run and writes all files.
    pub fn is_first(&self) -> bool {
        self.index() == 0
    }

    /// Returns the name of host `index`.
    pub fn name(&self, index: usize) -> &str {
        self.0.as_ref().map_or("", |link| link.name(index))
    }

    /// Returns the names of all hosts; empty if the run has only one host.
    pub fn names(&self) -> Vec<String> {
        self.0.as_ref().map_or_else(Vec::new, |link| {
            (0..link.hosts()).map(|index| link.name(index).to_owned()).collect()
        })
    }

    /// Returns the number of gradient bytes that this host has contributed to sums over hosts so far.
    pub fn reduced_bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |link| link.reduced_bytes())
    }

    /// Sends `own` to all hosts. Returns the messages of all hosts, in host order.
    pub fn exchange(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, TrainError> {
        match &self.0 {
            Some(link) => link.exchange(own),
            None => Ok(vec![own]),
        }
    }

    /// Sends `own` to host 0. Returns the messages of all hosts on host 0, and nothing on the other hosts.
    pub fn gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, TrainError> {
        match &self.0 {
            Some(link) => link.gather(own),
            None => Ok(vec![own]),
        }
    }

    /// Ends a job on this host, and waits until the job has ended on all hosts.
    ///
    /// `end` is the job's result on this host. If the job failed only on other hosts, returns [`TrainError::OtherHost`]
    /// with the failure of one of these hosts.
    pub fn end_job<T>(&self, end: Result<T, TrainError>) -> Result<T, TrainError> {
        let other = self.end(end.as_ref().err().map(Into::into));
        match (end, other) {
            (Ok(_) | Err(TrainError::OtherRank), Err(other)) => Err(other),
            (end, _) => end,
        }
    }

    /// Ends a job like [`Hosts::end_job`], without a result.
    ///
    /// `cause` is the error if the job failed on this host. Fails if the job failed on another host.
    pub fn end(&self, cause: Option<HostCause>) -> Result<(), TrainError> {
        let Some(link) = &self.0 else { return Ok(()) };
        match link.end_job(cause)? {
            Some(failure) => Err(failure.into()),
            None => Ok(()),
        }
    }

    /// Starts to sum `values` over all hosts. Panics if the run has only one host.
    pub(super) fn start_sum(&self, values: Vec<f32>) -> PendingSum {
        self.0.as_ref().expect("there are several hosts").start_sum(values)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{HostCause, Hosts, Link, TrainError, link::Transport};
    use crate::train::devices::{Link as DeviceLink, Rank};
    use std::sync::Arc;
    use std::thread;

    /// Connects threads that act as hosts.
    struct Threads(Rank);

    impl Transport for Threads {
        fn index(&self) -> usize {
            self.0.index()
        }

        fn names(&self) -> Vec<String> {
            (0..self.0.world()).map(|index| format!("host{index}")).collect()
        }

        fn all_gather(&mut self, own: &[u8]) -> Vec<u8> {
            self.0.exchange_here(own.to_vec()).expect("all hosts").concat()
        }

        fn all_reduce(&mut self, values: Vec<f32>) -> Vec<f32> {
            let all = self.0.exchange_here(values).expect("all hosts");
            (0..all[0].len()).map(|i| all.iter().map(|own| own[i]).sum()).collect()
        }

        fn gather(&mut self, own: Vec<u8>, lens: &[usize]) -> Vec<Vec<u8>> {
            assert_eq!(own.len(), lens[self.0.index()]);
            let all = self.0.exchange_here(own).expect("all hosts");
            if self.0.is_first() { all } else { Vec::new() }
        }

        fn idle(&mut self) {}
    }

    /// Runs `work` on `hosts` simulated hosts, each on its own thread.
    pub(crate) fn on_hosts<T: Send>(hosts: usize, work: impl Fn(Hosts) -> T + Sync) -> Vec<T> {
        let ranks = Rank::group(hosts, DeviceLink::Host, Hosts::default());
        thread::scope(|scope| {
            let work = &work;
            let hosts: Vec<_> = ranks
                .into_iter()
                .map(|rank| {
                    let link = Link::start(move || Ok(Threads(rank))).expect("threads connect");
                    scope.spawn(move || work(Hosts(Some(Arc::new(link)))))
                })
                .collect();
            hosts.into_iter().map(|host| host.join().expect("a host")).collect()
        })
    }

    #[test]
    fn hosts_exchange_messages_of_any_length() {
        let seen = on_hosts(3, |hosts| {
            let long = vec![hosts.index() as u8; 1000 * hosts.index()];
            (hosts.exchange(long).unwrap(), hosts.exchange(vec![hosts.index() as u8]).unwrap())
        });
        for (long, short) in seen {
            assert_eq!(long, [vec![], vec![1; 1000], vec![2; 2000]]);
            assert_eq!(short, [[0], [1], [2]]);
        }
    }

    #[test]
    fn host_0_gathers_the_messages_of_all_hosts() {
        let seen = on_hosts(3, |hosts| {
            let own = vec![hosts.index() as u8; 1000 * hosts.index()];
            (hosts.gather(own).unwrap(), hosts.gather(Vec::new()).unwrap())
        });
        assert_eq!(seen[0].0, [vec![], vec![1; 1000], vec![2; 2000]]);
        assert_eq!(seen[0].1, [[0_u8; 0]; 3]);
        assert!(seen[1].0.is_empty() && seen[2].1.is_empty());
    }

    #[test]
    fn a_job_that_fails_on_one_host_ends_on_all_and_the_next_job_runs() {
        let ends = on_hosts(3, |hosts| {
            let work = || {
                if hosts.index() == 1 {
                    return Err(TrainError::BadWeights { name: "head.bias".to_owned() });
                }
                let sums = [hosts.start_sum(vec![1.0]), hosts.start_sum(vec![2.0])];
                sums.iter().try_for_each(|sum| sum.wait().map(|_| ()))?;
                hosts.exchange(vec![7]).map(|_| ())
            };
            let failed = hosts.end_job(work()).unwrap_err();
            let sum = hosts.start_sum(vec![hosts.index() as f32, 1.0]);
            (failed, hosts.end_job(sum.wait()).unwrap())
        });
        for (index, (failed, sum)) in ends.into_iter().enumerate() {
            assert_eq!(*sum, [3.0, 3.0]);
            match failed {
                TrainError::BadWeights { .. } => assert_eq!(index, 1),
                TrainError::OtherHost { rank: 1, host, cause } => {
                    assert_eq!(host, "host1");
                    assert!(cause.text.contains("head.bias"), "{cause}");
                }
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn the_other_hosts_learn_whether_input_caused_a_failure() {
        for is_input in [false, true] {
            let others = on_hosts(2, |hosts| {
                let cause = HostCause { text: "no such key".repeat(9), is_input };
                hosts.end((hosts.index() == 1).then_some(cause))
            });
            let error = others.into_iter().next().and_then(Result::err).expect("host 1 failed");
            assert_eq!(error.is_input(), is_input, "{error}");
            assert!(error.to_string().ends_with("no such key"), "{error}");
        }
    }
}
