//! One thread per device of a run. No other thread touches that device.
//!
//! GPU drivers keep a stream and a pool of memory for each thread, so the threads live as long as the runner: a job finds
//! the memory that the one before it gave back.

use crate::infer::DeviceError;
use crate::train::error::TrainError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

type Task = Box<dyn FnOnce() + Send>;
type Member = (mpsc::Sender<Task>, thread::JoinHandle<()>);

/// Threads by the index of their device; dropped, they end. One device needs no thread but the caller's.
pub(crate) struct DeviceThreads {
    members: Vec<Member>,
    /// Tasks that have not ended. One that waits on its GPU for ever is left behind.
    running: Arc<AtomicUsize>,
    /// How long the ranks of a job have to end after one has failed.
    patience: Duration,
}

/// Whether what the threads do hangs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskCoupling {
    /// Ranks of one job: they wait for each other.
    Joined,
    Independent,
}

impl DeviceThreads {
    pub(crate) fn start(devices: usize) -> Self {
        let threads = if devices > 1 { devices } else { 0 };
        let members = (0..threads).map(|_| {
            let (queue, tasks) = mpsc::channel::<Task>();
            let thread = thread::spawn(move || tasks.into_iter().for_each(|task| task()));
            (queue, thread)
        });
        Self {
            members: members.collect(),
            running: Arc::default(),
            patience: Duration::from_mins(1),
        }
    }

    /// Runs `work` on the first device's thread.
    pub(crate) fn first<T: Send + 'static>(
        &self,
        work: impl Fn() -> Result<T, TrainError> + Send + Sync + 'static,
    ) -> Result<T, TrainError> {
        self.all(1, TaskCoupling::Independent, move |_| work()).remove(0)
    }

    /// Runs `work` of the device's index for the first `devices` of them at the same time; gives what came of each.
    ///
    /// A panic inside `work` becomes [`TrainError::Crashed`]. `Joined` work whose one part has failed is given up when the rest
    /// has not ended a while later; if it still has not when there is more to do, that is [`TrainError::Stuck`].
    pub(crate) fn all<T: Send + 'static>(
        &self,
        devices: usize,
        parts: TaskCoupling,
        work: impl Fn(usize) -> Result<T, TrainError> + Send + Sync + 'static,
    ) -> Vec<Result<T, TrainError>> {
        if self.members.is_empty() {
            assert_eq!(devices, 1, "there is a thread for each device");
            return vec![guarded(0, &work)];
        }
        let asked = Instant::now();
        while self.running.load(Ordering::SeqCst) > 0 {
            if asked.elapsed() > self.patience {
                return (0..devices).map(|_| Err(TrainError::Stuck)).collect();
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.on(&self.members[..devices], parts, work)
    }

    fn on<T: Send + 'static>(
        &self,
        members: &[Member],
        parts: TaskCoupling,
        work: impl Fn(usize) -> Result<T, TrainError> + Send + Sync + 'static,
    ) -> Vec<Result<T, TrainError>> {
        let work = Arc::new(work);
        let (done, results) = mpsc::channel();
        for (index, (queue, _)) in members.iter().enumerate() {
            let (work, done) = (Arc::clone(&work), done.clone());
            let running = Arc::clone(&self.running);
            running.fetch_add(1, Ordering::SeqCst);
            // A task that cannot be sent drops `done`, which the receiver sees.
            let _ = queue.send(Box::new(move || {
                let end = guarded(index, &*work);
                running.fetch_sub(1, Ordering::SeqCst);
                drop(done.send((index, end)));
            }));
        }
        drop(done);
        let mut ends: Vec<Option<Result<T, TrainError>>> = members.iter().map(|_| None).collect();
        let mut failed = false;
        while ends.iter().any(Option::is_none) {
            // Nobody waits for ever on a GPU that waits for one that failed.
            let next =
                if failed { results.recv_timeout(self.patience).ok() } else { results.recv().ok() };
            let Some((index, end)) = next else { break };
            failed |= parts == TaskCoupling::Joined && end.is_err();
            ends[index] = Some(end);
        }
        ends.into_iter().map(|end| end.unwrap_or(Err(TrainError::OtherRank))).collect()
    }
}

fn guarded<T>(
    index: usize,
    work: &impl Fn(usize) -> Result<T, TrainError>,
) -> Result<T, TrainError> {
    DeviceError::catch(|| work(index))?
}

impl Drop for DeviceThreads {
    fn drop(&mut self) {
        for (queue, thread) in self.members.drain(..) {
            drop(queue);
            if self.running.load(Ordering::SeqCst) > 0 {
                continue;
            }
            // Panics of tasks were caught; there is nothing to report.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DeviceThreads, TaskCoupling, TrainError};
    use crate::infer::DeviceError;
    use std::sync::{Mutex, mpsc};
    use std::time::Duration;

    #[test]
    fn threads_do_not_wait_for_ever_for_one_that_hangs() {
        let mut device_threads = DeviceThreads::start(2);
        device_threads.patience = Duration::from_millis(100);
        let (go_on, hangs) = mpsc::channel::<()>();
        let hangs = Mutex::new(hangs);
        let ends = device_threads.all(2, TaskCoupling::Joined, move |index| match index {
            0 => Err(DeviceError::Crashed("no memory".to_owned()).into()),
            _ => Ok(hangs.lock().expect("only this one takes it").recv().is_ok()),
        });
        assert!(matches!(
            ends[..],
            [Err(TrainError::Device(DeviceError::Crashed(_))), Err(TrainError::OtherRank)]
        ));
        let more = || device_threads.all(2, TaskCoupling::Independent, Ok);
        assert!(matches!(more()[..], [Err(TrainError::Stuck), Err(TrainError::Stuck)]));
        go_on.send(()).expect("it waits for this");
        assert!(matches!(more()[..], [Ok(0), Ok(1)]));
    }
}
