//! The crew: a thread for each device of a run, which alone touches it.
//!
//! GPU drivers keep a stream and a pool of memory for each thread, so the threads live as long as the runner: a job finds
//! the memory that the one before it gave back.

use super::TrainError;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

type Task = Box<dyn FnOnce() + Send>;
type Member = (mpsc::Sender<Task>, thread::JoinHandle<()>);

/// Threads by the index of their device; dropped, they end. One device needs no thread but the caller's.
pub(super) struct Crew {
    members: Vec<Member>,
    /// A thread waits on its GPU for ever: it is left behind.
    stuck: AtomicBool,
}

/// Whether what the threads do hangs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parts {
    /// Ranks of one job: they wait for each other.
    Joined,
    Independent,
}

/// How long the ranks of a job have to end after one has failed.
const PATIENCE: Duration = Duration::from_mins(1);

impl Crew {
    pub(super) fn start(devices: usize) -> Self {
        let threads = if devices > 1 { devices } else { 0 };
        let members = (0..threads).map(|_| {
            let (queue, tasks) = mpsc::channel::<Task>();
            let thread = thread::spawn(move || tasks.into_iter().for_each(|task| task()));
            (queue, thread)
        });
        Self { members: members.collect(), stuck: AtomicBool::new(false) }
    }

    /// Runs `work` on the first device's thread.
    pub(super) fn first<T: Send + 'static>(
        &self,
        work: impl Fn() -> Result<T, TrainError> + Send + Sync + 'static,
    ) -> Result<T, TrainError> {
        self.all(1, Parts::Independent, move |_| work()).remove(0)
    }

    /// Runs `work` of the device's index for the first `devices` of them at the same time; gives what came of each.
    ///
    /// A panic inside `work` becomes [`TrainError::Crashed`]. `Joined` work whose one part has failed is given up when the rest
    /// has not ended a while later.
    pub(super) fn all<T: Send + 'static>(
        &self,
        devices: usize,
        parts: Parts,
        work: impl Fn(usize) -> Result<T, TrainError> + Send + Sync + 'static,
    ) -> Vec<Result<T, TrainError>> {
        if self.members.is_empty() {
            assert_eq!(devices, 1, "a crew has a thread for each device");
            return vec![guarded(0, &work)];
        }
        if self.stuck.load(Ordering::Relaxed) {
            return (0..devices).map(|_| Err(TrainError::Stuck)).collect();
        }
        self.on(&self.members[..devices], parts, work)
    }

    fn on<T: Send + 'static>(
        &self,
        members: &[Member],
        parts: Parts,
        work: impl Fn(usize) -> Result<T, TrainError> + Send + Sync + 'static,
    ) -> Vec<Result<T, TrainError>> {
        let work = Arc::new(work);
        let (done, results) = mpsc::channel();
        for (index, (queue, _)) in members.iter().enumerate() {
            let (work, done) = (Arc::clone(&work), done.clone());
            // A task that cannot be sent drops `done`, which the receiver sees.
            let _ = queue.send(Box::new(move || {
                drop(done.send((index, guarded(index, &*work))));
            }));
        }
        drop(done);
        let mut ends: Vec<Option<Result<T, TrainError>>> = members.iter().map(|_| None).collect();
        let mut failed = false;
        while ends.iter().any(Option::is_none) {
            // Nobody waits for ever on a GPU that waits for one that failed.
            let next =
                if failed { results.recv_timeout(PATIENCE).ok() } else { results.recv().ok() };
            let Some((index, end)) = next else { break };
            failed |= parts == Parts::Joined && end.is_err();
            ends[index] = Some(end);
        }
        let gone = || {
            self.stuck.store(true, Ordering::Relaxed);
            Err(TrainError::OtherRank)
        };
        ends.into_iter().map(|end| end.unwrap_or_else(gone)).collect()
    }
}

fn guarded<T>(
    index: usize,
    work: &impl Fn(usize) -> Result<T, TrainError>,
) -> Result<T, TrainError> {
    TrainError::catch(|| work(index)).flatten()
}

impl Drop for Crew {
    fn drop(&mut self) {
        for (queue, thread) in self.members.drain(..) {
            drop(queue);
            if self.stuck.load(Ordering::Relaxed) {
                continue;
            }
            // Panics of tasks were caught; there is nothing to report.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Crew;
    use super::Ordering;
    use super::Parts;
    use super::TrainError;

    #[test]
    fn who_waits_for_a_gpu_that_failed_gets_no_more_work() {
        let crew = Crew::start(2);
        let ends = || crew.all(2, Parts::Independent, |index| Ok(index));
        assert!(matches!(ends()[..], [Ok(0), Ok(1)]));
        crew.stuck.store(true, Ordering::Relaxed);
        assert!(matches!(ends()[..], [Err(TrainError::Stuck), Err(TrainError::Stuck)]));
    }
}
